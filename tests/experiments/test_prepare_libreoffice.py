"""The German-English corpus of LibreOffice, from small packages in the layout of Debian's."""

import hashlib
import itertools
import logging
import shutil
import unicodedata

import pytest

from akd_jax.host.errors import StoppedError
from akd_jax.host.files import as_path
from experiments import prepare
from experiments.preparation import libreoffice
from experiments.preparation.translation_pairs import Pair, sentences, split
from experiments.prepare import prepare_dataset
from tests.support.debian_packages import build_package, needs_dpkg
from tests.support.errors import error_of
from tests.support.gettext_files import write_catalog
from tests.support.programs import replace_program
from tests.support.stopping import stop_at_check

GERMAN, ENGLISH, INTERFACE = libreoffice.PACKAGES.names
FILES = ("train.tsv", "dev.tsv", "test.tsv")
CATALOG = "usr/lib/libreoffice/program/resource/de/LC_MESSAGES/sw.mo"
VERBS = {"Öffnet": "Opens", "Löscht": "Deletes", "Druckt": "Prints", "Speichert": "Saves"}
WORDS = {"rote": "red", "alte": "old", "neue": "new", "gute": "good", "kurze": "short"}
NOUNS = {"Tabelle": "table", "Seite": "page", "Zeile": "line", "Datei": "file", "Liste": "list"}


def pairs():
    """500 different sentences and their translations; no two translations are equal."""
    return [
        (f"{a} die {b} {c} der {d}.", f"{VERBS[a]} the {WORDS[b]} {NOUNS[c]} of the {NOUNS[d]}.")
        for a, b, c, d in itertools.product(VERBS, WORDS, NOUNS, NOUNS)
    ]


def share(german):
    """The number from 0 to 1 that decides on the split of a sentence of `pairs`."""
    letters = german.replace(" ", "").replace(".", "").lower()
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:6], "big") / 2**48


def expected_splits(rows):
    """The contents of the files for pairs that occur only in help pages."""
    parts = {"test.tsv": (0, 0.05), "dev.tsv": (0.05, 0.1), "train.tsv": (0.1, 1)}
    contents = {}
    for name, (low, high) in parts.items():
        lines = ["\t".join(row) for row in rows if low <= share(row[0]) < high]
        lines.sort(key=lambda line: hashlib.sha256(line.encode()).digest())
        contents[name] = "".join(f"{line}\n" for line in ["source\ttarget", *lines])
    return contents


def write_page(package, language, name, paragraphs):
    """Writes a help page; the paragraphs are HTML."""
    path = package / f"usr/share/libreoffice/help/{language}/text/{name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "\n".join(paragraphs)
    path.write_text(f"<html><body><p>Help</p>\n{body}\n</body></html>", encoding="utf-8")


def write_packages(folder, rows=None, german=(), english=(), interface=None):
    """Writes the files of the three packages, as a finished download leaves them.

    Args:
      folder: the folder to write to.
      rows: pairs of sentences for two help pages; by default all of `pairs`.
      german: paragraphs of a third page.
      english: likewise.
      interface: maps texts of the interface to translations.
    """
    rows = pairs() if rows is None else rows
    packages = [folder / f"{name}_4%3a1.0_all" for name in (GERMAN, ENGLISH, INTERFACE)]
    sides = ((packages[0], "de", 0, german), (packages[1], "en-US", 1, english))
    for package, language, side, others in sides:
        for number in range(2):
            paragraphs = [
                f'<p id="par_id{line}" dir="auto">{row[side]}</p>'
                for line, row in enumerate(rows[number::2])
            ]
            write_page(package, language, f"swriter/{number}", paragraphs)
        write_page(package, language, "swriter/guide/more", others)
    write_catalog(packages[2] / CATALOG, interface or {})
    return packages


def make(folder, **options):
    """Makes the corpus of packages that are already downloaded."""
    write_packages(folder / "packages", **options)
    return prepare_dataset("libreoffice_de_en", folder)


def read(folder):
    return {name: (folder / name).read_text(encoding="utf-8") for name in FILES}


def rows_of(folder):
    """The pairs of each file, as sets."""
    return {
        name.partition(".")[0]: {tuple(line.split("\t")) for line in text.splitlines()[1:]}
        for name, text in read(folder).items()
    }


def test_hash_of_a_source_decides_on_its_split(tmp_path):
    line = make(tmp_path)
    expected = expected_splits(pairs())
    assert read(tmp_path) == expected
    sizes = {name: text.count("\n") - 1 for name, text in expected.items()}
    assert sum(sizes.values()) == 500
    assert line == (
        f"libreoffice_de_en is ready in {tmp_path}: {sizes['train.tsv']} training,"
        f" {sizes['dev.tsv']} validation and {sizes['test.tsv']} test pairs; vocabularies of 327"
        " and 318 tokens"
    )
    readme = (tmp_path / "README.txt").read_text()
    assert "Mozilla Public License" in readme
    assert readme.endswith(f"{GERMAN} 4:1.0\n{ENGLISH} 4:1.0\n{INTERFACE} 4:1.0\n")


def test_existing_files_are_only_checked(tmp_path, monkeypatch):
    make(tmp_path)
    before = read(tmp_path)
    shutil.rmtree(tmp_path / "packages")
    monkeypatch.setenv("PATH", "")
    assert "training" in prepare_dataset("libreoffice_de_en", tmp_path)
    assert read(tmp_path) == before
    with (tmp_path / "dev.tsv").open("a", encoding="utf-8") as file:
        file.write("Ein Text ohne Tabulator\n")
    message = error_of(prepare_dataset, "libreoffice_de_en", tmp_path)
    line = before["dev.tsv"].count("\n") + 1
    assert message.startswith(f"{tmp_path / 'dev.tsv'}, line {line}: expected at least 2 columns")


def test_files_of_another_version_give_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        make(tmp_path)
    got = ", ".join(
        f"{name} {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:16]}"
        for name in FILES
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: expected the files of LibreOffice 4:7.4.7-1+deb12u14 with the SHA-256"
        " train.tsv e041dc97ea8643f0, dev.tsv cacdfc687f191e9d, test.tsv 33bedc02924cf44b, got"
        f" {got}; scores on them cannot be compared with scores on the expected files"
    ]


def test_paragraphs_with_the_same_id_are_pairs_without_markup(tmp_path):
    decomposed = unicodedata.normalize("NFD", "schöner")
    german = [
        '<h2 class="a" id="hd_id1"><a name="x"></a>Eine <b>erste</b> Überschrift</h2>',
        f'<td id="par_id2">Ein {decomposed}\n Satz &amp; ein&shy;zeln</td>',
        '<p id="tit_id3">Hilfe zu %PRODUCTNAME<script>if (a) b</script> selbst</p>',
        '<p id="par_id4">Das steht nur auf Deutsch hier</p>',
        '<p id="bm_id5">Das ist ein Lesezeichen der Hilfe</p>',
        '<li id="par_id6">Der erste Satz endet. Ein zweiter Satz beginnt!</li>',
    ]
    english = [
        '<li id="par_id6">The first sentence ends. A second sentence begins!</li>',
        '<p id="bm_id5">This is a bookmark of the help</p>',
        '<p id="par_id7">This exists in English only</p>',
        '<p id="tit_id3">Help of %PRODUCTNAME itself</p>',
        '<td id="par_id2">A beautiful sentence &#38; single</td>',
        '<h2 id="hd_id1" dir="auto">A first <i>title</i></h2>',
    ]
    make(tmp_path, german=german, english=english)
    assert set.union(*rows_of(tmp_path).values()) - set(pairs()) == {
        ("Eine erste Überschrift", "A first title"),
        ("Ein schöner Satz & einzeln", "A beautiful sentence & single"),
        ("Hilfe zu LibreOffice selbst", "Help of LibreOffice itself"),
        ("Der erste Satz endet.", "The first sentence ends."),
        ("Ein zweiter Satz beginnt!", "A second sentence begins!"),
    }


def test_paragraphs_of_different_pages_are_no_pairs(tmp_path):
    packages = write_packages(tmp_path / "packages")
    for package, language, name in ((packages[0], "de", "a"), (packages[1], "en-US", "b")):
        paragraphs = ['<p id="par_id1">Some words on a page</p>']
        write_page(package, language, f"scalc/{name}", paragraphs)
    prepare_dataset("libreoffice_de_en", tmp_path)
    assert set.union(*rows_of(tmp_path).values()) == set(pairs())


def test_texts_of_the_interface_are_for_training_only(tmp_path):
    held_out = [pair for pair in pairs() if share(pair[0]) < 0.1]
    new = {
        "menu\x04Save ~all of them": "~Alle von ihnen speichern",
        "_Close the other window": "Das andere _Fenster schließen",
        ("One text was removed", "All texts were removed"): (
            "Ein Text wurde entfernt",
            "Alle Texte wurden entfernt",
        ),
        "Untranslated text here": "",
    }
    interface = {english: german for german, english in held_out[:2]} | new
    make(tmp_path, interface=interface)
    rows = rows_of(tmp_path)
    assert set(held_out[:2]) < rows["train"]
    assert rows["dev"] | rows["test"] == set(held_out[2:])
    assert rows["train"] - set(pairs()) == {
        ("Alle von ihnen speichern", "Save all of them"),
        ("Das andere Fenster schließen", "Close the other window"),
        ("Ein Text wurde entfernt", "One text was removed"),
        ("Alle Texte wurden entfernt", "One text was removed"),
    }


@pytest.mark.parametrize(
    ("german", "english", "count"),
    [
        ("Das ist A. Das ist B.", "This is a. This is b.", 1),  # No lower-case letter before.
        ("Das ist eins. Das ist zwei.", "This is one. This is two.", 2),
        ("Ist das (eins)? „Das ist zwei“!", 'Is it (one)? "This is two"!', 2),
        ("Das ist eins. Das ist zwei.", "This is one and this is two.", 1),
        ("Das ist z. B. der Fall", "This is the case", 1),
        # The first sentence is too long for its translation.
        ("Eins zwei drei vier fünf sechs sieben. Acht.", "One two. Three four.", 1),
        ("Eins zwei drei vier fünf sechs. Acht.", "One two. Three four.", 2),
    ],
)
def test_paragraphs_are_split_where_both_texts_agree(german, english, count):
    parts = sentences(Pair(german, english))
    assert len(parts) == count
    assert " ".join(part.german for part in parts) == german
    assert " ".join(part.english for part in parts) == english


def split_rows(*rows):
    """All pairs of the splits of help texts."""
    return [pair for part in split((Pair(*row), True) for row in rows).values() for pair in part]


GOOD = ("Das ist ein guter Satz.", "This is a good sentence.")


@pytest.mark.parametrize(
    ("german", "english"),
    [
        ("Zwei Wörter", "Only two words"),
        ("Noch zwei Wörter", "Two words"),
        (" ".join(["Wort"] * 31), " ".join(["word"] * 25)),
        (" ".join(["Wort"] * 10), " ".join(["word"] * 4)),  # More than 1.5 * 4 + 3.
        (f"Ein langes {'a' * 41} hier", "A long word here"),
        ("Es sind 12 345 678 90", "There are 12 345 678 90"),  # Few letters.
        ("Die Formel ist a=b hier", GOOD[1]),
        (GOOD[0], "This is a file_name here"),
        (GOOD[0], "See https: a page"),
        (GOOD[0], "Open the folder a/b/c here"),
        (GOOD[0], "There are %d good sentences"),
        (GOOD[0], "Call the function a.b(c) here"),
        (GOOD[0], "The arguments are a; b; ... ;…"),
        ("The Same Text 1", "the same text 23!"),  # Not translated.
    ],
)
def test_texts_that_are_no_sentences_are_left_out(german, english):
    assert split_rows((german, english), GOOD) == [Pair(*GOOD)]


@pytest.mark.parametrize(
    ("german", "english"),
    [
        (" ".join(["Wort"] * 30), " ".join(["word"] * 30)),
        (" ".join(["Wort"] * 9), " ".join(["word"] * 4)),
        (f"Ein langes {'a' * 40} hier", "A long word here"),
        ("Er hat 123 Wörter", "It has 123 words"),
    ],
)
def test_texts_at_the_limits_are_kept(german, english):
    assert split_rows((german, english)) == [Pair(german, english)]


def test_most_frequent_of_similar_sources_is_used():
    one = ("Das ist Seite 1 von 20", "This is page 1 of 20")
    two = ("Das ist Seite 33 von 4!", "This is page 33 of 4")
    three = (two[0], "This is side 33 of 4")
    assert split_rows(one, two, two) == [Pair(*two)]
    assert split_rows(two, three, one, three) == [Pair(*three)]
    # The first in the alphabet if all are equally frequent.
    assert split_rows(three, two, one) == split_rows(one, three, two) == [Pair(*one)]
    assert (
        len(split_rows(one, ("Das ist Seite A von B", one[1]))) == 2
    )  # Letters make a difference.


def test_targets_of_a_split_are_in_no_later_one():
    sources = [german for german, _ in pairs()]
    test = next(text for text in sources if share(text) < 0.05)
    dev = next(text for text in sources if 0.05 <= share(text) < 0.1)
    train = [text for text in sources if share(text) >= 0.1]

    def splits(*rows):
        parts = split((Pair(*row), True) for row in rows)
        return {name: [pair.german for pair in part] for name, part in parts.items()}

    same, other = "This is 1 target.", "This is - another TARGET"
    rows = [(train[0], same), (dev, "this is 2 target"), (test, same), (train[1], other)]
    assert splits(*rows) == {"test": [test], "dev": [], "train": [train[1]]}
    rows = [(train[0], same), (dev, same), (train[1], same), (test, other)]
    assert splits(*rows) == {"test": [test], "dev": [dev], "train": []}
    assert sorted(splits((train[0], same), (train[1], same))["train"]) == sorted(train[:2])


def test_stopped_preparation_equals_an_undisturbed_one(tmp_path):
    make(tmp_path / "one")
    with stop_at_check(3), pytest.raises(StoppedError, match="texts of LibreOffice: stopped"):
        make(tmp_path / "other")
    assert not any((tmp_path / "other" / name).exists() for name in FILES)
    (tmp_path / "other/test.tsv").write_text(read(tmp_path / "one")["test.tsv"], encoding="utf-8")
    (tmp_path / "other/dev.tmp").write_text("half of")  # A killed process leaves these.
    prepare_dataset("libreoffice_de_en", tmp_path / "other")
    assert read(tmp_path / "other") == read(tmp_path / "one")


@needs_dpkg
def test_each_package_is_downloaded_once(tmp_path, monkeypatch):
    make(tmp_path / "one")
    archives, requests = tmp_path / "archives", tmp_path / "requests"
    for package in write_packages(tmp_path / "files"):
        build_package(package, archives / f"{package.name}.deb")
    script = f'echo "$3" >> {requests}; cp {archives}/"$3"_* .'
    replace_program(monkeypatch, tmp_path / "bin", "apt-get", script)
    with stop_at_check(2), pytest.raises(StoppedError, match="download of 3 Debian packages"):
        prepare_dataset("libreoffice_de_en", tmp_path / "other")
    prepare_dataset("libreoffice_de_en", tmp_path / "other")
    assert sorted(requests.read_text().split()) == sorted((GERMAN, ENGLISH, INTERFACE))
    assert read(tmp_path / "other") == read(tmp_path / "one")
    readme = (tmp_path / "other/README.txt").read_bytes()
    assert readme == (tmp_path / "one/README.txt").read_bytes()


@needs_dpkg
def test_unknown_package_is_reported(tmp_path, monkeypatch):
    package = write_packages(tmp_path / "files", [])[0]
    archive = build_package(package, tmp_path / "a.deb")
    script = f"""
    if [ "$3" = {INTERFACE} ]; then echo "E: Unable to locate package $3" >&2; exit 100; fi
    cp {archive} "$3_1_all.deb"
    """
    replace_program(monkeypatch, tmp_path / "bin", "apt-get", script)
    assert error_of(prepare_dataset, "libreoffice_de_en", tmp_path / "corpus") == (
        f"expected apt-get to know the packages {GERMAN}, {ENGLISH}, {INTERFACE}, got no"
        f" {INTERFACE}; run apt-get update, or make the data set on another machine with Debian 12,"
        " and copy train.tsv, dev.tsv and test.tsv"
    )


def test_missing_programs_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error_of(prepare_dataset, "libreoffice_de_en", tmp_path / "corpus") == (
        "expected the programs apt-get, dpkg-deb of Debian, got no apt-get, dpkg-deb; make the data"
        " set on another machine with Debian 12, and copy train.tsv, dev.tsv and test.tsv"
    )


def test_packages_without_enough_texts_are_reported(tmp_path):
    rows = [pair for pair in pairs() if share(pair[0]) >= 0.05]
    assert error_of(lambda: make(tmp_path, rows=rows)) == (
        f"{tmp_path / 'packages'}: expected packages with German texts and their English versions,"
        f" got 0 test, {len([1 for pair in rows if share(pair[0]) < 0.1])} dev,"
        f" {len([1 for pair in rows if share(pair[0]) >= 0.1])} train pairs; delete the folder, and"
        " use the packages 4:7.4.7-1+deb12u14 of Debian 12"
    )
    assert not any((tmp_path / name).exists() for name in FILES)


def test_damaged_help_page_is_reported(tmp_path):
    package = write_packages(tmp_path / "packages")[0]
    page = package / "usr/share/libreoffice/help/de/text/swriter/1.html"
    page.write_bytes("Öffnet".encode("latin-1"))
    message = error_of(prepare_dataset, "libreoffice_de_en", tmp_path)
    assert message.startswith(f"{page}: expected a help page in UTF-8, got: 'utf-8' codec can't")
    assert message.endswith(f"; delete the folder {package}, so that it is downloaded again")


def test_remote_folder_is_refused():
    message = error_of(libreoffice.prepare, as_path("gs://bucket/folder"))
    assert message.startswith("--data_dir: expected a local folder, got gs://bucket/folder")


def test_launcher_prints_the_sizes(tmp_path, run_launcher):
    write_packages(tmp_path / "packages")
    ended = run_launcher(
        prepare.main, "--dataset=libreoffice_de_en", f"--data_dir={tmp_path}", required=["dataset"]
    )
    assert ended.code == 0, ended.stderr
    assert ended.stdout.startswith(f"libreoffice_de_en is ready in {tmp_path}: ")
    assert ended.stdout.endswith(" tokens\n")
