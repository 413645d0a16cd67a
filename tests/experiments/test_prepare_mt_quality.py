import csv
import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
import sacrebleu

from akd_jax.host import interrupts
from akd_jax.host.errors import StoppedError
from experiments import prepare
from experiments.preparation import apertium, catalogs, mt_quality
from experiments.preparation.mt_quality import Options
from experiments.prepare import prepare_dataset
from tests.support.errors import error_of
from tests.support.gettext_files import write_catalog
from tests.support.launching import GUARD_SECONDS, ROOT
from tests.support.programs import replace_program
from tests.support.stopping import stop_at_check

VERBS = {"open": "abrir", "close": "cerrar", "read": "leer", "save": "guardar", "copy": "copiar"}
NOUNS = {"file": "archivo", "book": "libro", "door": "puerta", "house": "casa", "letter": "carta"}
COLOURS = {"red": "rojo", "green": "verde", "white": "blanco", "black": "negro", "old": "viejo"}
FILE = "es/LC_MESSAGES/program.mo"
# Stands in for apertium: upper-case letters.
UPPER = 'if [ "$1" = -l ]; then echo eng-spa; else tr a-z A-Z; fi'


def has_apertium():
    if shutil.which("apertium") is None:
        return False
    listed = subprocess.run(["apertium", "-l"], capture_output=True, text=True, check=False)
    return "eng-spa" in listed.stdout.split()


needs_apertium = pytest.mark.skipif(
    not has_apertium(), reason="needs apertium and apertium-eng-spa of Debian"
)


def texts(count):
    """Different short sentences, and translations of them."""
    found = {}
    for number in range(count):
        rest, english, spanish = number, [], []
        for words in (VERBS, COLOURS, NOUNS, NOUNS):
            rest, place = divmod(rest, 5)
            word, translation = list(words.items())[place]
            english.append(word)
            spanish.append(translation)
        tail = f" {'x' * rest}" if rest else ""
        source = f"You can {english[0]} the {english[1]} {english[2]} of the {english[3]}{tail}"
        found[source] = f"Se puede {spanish[0]} {spanish[2]} {spanish[1]} de {spanish[3]}{tail}"
    return found


def make(folder, count, *, train=40, valid=20, test=30, vocabulary_size=300):
    """Makes a corpus of a catalog with this number of texts."""
    catalog = folder.parent / f"catalogs_{count}"
    write_catalog(catalog / FILE, texts(count))
    options = Options(train, valid, test, vocabulary_size, [catalog])
    return prepare_dataset("mt_quality", folder, quality=options)


def read(folder):
    """The content of all files, by their names."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def read_rows(folder, name):
    with (folder / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def read_splits(folder):
    return {name: read_rows(folder, name)[1:] for name in ("test", "dev", "train", "unlabelled")}


@pytest.fixture
def upper(tmp_path, monkeypatch):
    """Replaces apertium."""
    replace_program(monkeypatch, tmp_path / "bin", "apertium", UPPER)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus of the real apertium, and its description."""
    folder = tmp_path_factory.mktemp("parent") / "corpus"
    return folder, make(folder, 120)


@needs_apertium
def test_corpus_has_splits_of_the_given_sizes_in_one_random_order(corpus):
    folder, line = corpus
    splits = read_splits(folder)
    sizes = {name: len(rows) for name, rows in splits.items()}
    assert sizes == {"test": 30, "dev": 20, "train": 40, "unlabelled": 30}
    for name in splits:
        header = ["source", "target"] + ["score"] * (name != "unlabelled")
        rows = read_rows(folder, name)
        assert rows[0] == header
        assert {len(row) for row in rows} == {len(header)}
        assert (folder / f"{name}.tsv").read_bytes().count(b"\n") == len(rows)
    sources = [row[0] for rows in splits.values() for row in rows]
    assert sorted(sources) == sorted(texts(120))
    path = folder.parent / f"catalogs_120/{FILE}"
    assert sources == [pair.source for pair in catalogs.read_pairs([path])] != sorted(sources)
    start = f"mt_quality is ready in {folder}: 40 training, 20 validation, 30 test and 30 unlab"
    assert line.startswith(start)
    assert re.search(
        r"scores with mean 0\.[3-8]\d\d and standard deviation 0\.[01]\d\d; vocab", line
    )


@needs_apertium
def test_targets_are_translations_into_spanish(corpus):
    for rows in read_splits(corpus[0]).values():
        for source, target, *_ in rows:
            assert source != target
            if "house" in source.split():
                assert "casa" in target
            assert not set("*@#") & set(target)


@needs_apertium
def test_scores_are_sentence_chrf(corpus):
    references = texts(120)
    splits = read_splits(corpus[0])
    rows = splits["train"] + splits["dev"] + splits["test"]
    for source, target, score in rows:
        expected = sacrebleu.sentence_chrf(target, [references[source]]).score
        assert re.fullmatch(r"[01]\.\d{4}", score)
        assert abs(100 * float(score) - expected) <= 0.005 + 1e-9
    assert len({score for *_, score in rows}) > 20


@needs_apertium
def test_texts_between_others_are_translated_as_alone():
    several = ["The house is white", "on the table. It is", "Green doors", "A dog!"]
    together = apertium.translate(several)
    assert together == [apertium.translate([text])[0] for text in several]
    assert together[0] == "La casa es blanca"
    assert apertium.translate(["A flurbish dog"])[0].count("flurbish") == 1


def test_translations_with_blank_lines_stay_with_their_texts(tmp_path, monkeypatch):
    # Writes a blank line into each translation that has the word 'two'.
    replace_program(monkeypatch, tmp_path / "bin", "apertium", "sed 's/two/2\\n\\n2/'")
    assert apertium.translate(["one", "two  two", "three"]) == ["one", "2 2 two", "three"]


def test_normal_forms_of_splits_are_disjoint(tmp_path, upper):
    one = {f"{text} {n}": f"{target} {n}" for n in (1, 2) for text, target in texts(50).items()}
    write_catalog(tmp_path / "catalogs" / FILE, {**one, **texts(50)})
    options = Options(train=20, valid=10, test=10, catalogs=[tmp_path / "catalogs"])
    line = prepare_dataset("mt_quality", tmp_path / "corpus", quality=options)
    assert "20 training, 10 validation, 10 test and 10 unlabelled" in line
    splits = read_splits(tmp_path / "corpus")
    forms = [re.sub(r"[\d\W]+", " ", row[0].lower()) for rows in splits.values() for row in rows]
    assert len({form.strip() for form in forms}) == 50


def test_all_pairs_can_have_scores(tmp_path, upper):
    make(tmp_path / "corpus", 90, train=30)
    assert (tmp_path / "corpus/unlabelled.tsv").exists()
    assert "40 training, 20 validation, 30 test and 0 unlabelled" in make(tmp_path / "corpus", 90)
    assert not (tmp_path / "corpus/unlabelled.tsv").exists()


def test_pairs_with_an_empty_translation_are_left_out(tmp_path, monkeypatch):
    script = UPPER.replace("tr a-z A-Z", "sed 's/.*the red book.*/ .../'")
    replace_program(monkeypatch, tmp_path / "bin", "apertium", script)
    left = 125 - sum("the red book" in text for text in texts(125))
    assert left == 120
    assert f"{left - 90} unlabelled" in make(tmp_path / "corpus", 125)
    assert "expected at most 120 pairs" in error_of(lambda: make(tmp_path / "more", 125, train=75))


def test_other_sizes_and_a_second_run_translate_nothing_again(tmp_path, monkeypatch, upper):
    make(tmp_path / "corpus", 120)
    before = read(tmp_path / "corpus")
    script = 'if [ "$1" = -l ]; then echo eng-spa; else exit 3; fi'
    replace_program(monkeypatch, tmp_path / "bin", "apertium", script)
    make(tmp_path / "corpus", 120)
    assert read(tmp_path / "corpus") == before
    make(tmp_path / "corpus", 120, train=50)
    after = read(tmp_path / "corpus")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"train.tsv", "unlabelled.tsv"}  # Their texts together are the same.
    assert len(read_rows(tmp_path / "corpus", "train")) == 51
    message = error_of(make, tmp_path / "corpus", 125)
    assert message.startswith("apertium: expected translations, got: exit code 3")


@pytest.mark.parametrize("check", [1, 2, 3])
def test_stopped_preparation_equals_an_undisturbed_one(tmp_path, upper, check):
    make(tmp_path / "one", 600)
    with stop_at_check(check), pytest.raises(StoppedError, match="translation of 600 texts"):
        make(tmp_path / "other", 600)
    path = tmp_path / "other/translations.tsv"
    done = path.read_text().count("\n") - 1 if path.exists() else 0
    assert done == 250 * (check - 1)
    make(tmp_path / "other", 600)
    assert read(tmp_path / "other") == read(tmp_path / "one")


def test_stop_that_also_ends_apertium_is_a_stop(tmp_path, monkeypatch):
    # The signal goes to the launcher first, and then ends apertium, too.
    script = 'if [ "$1" = -l ]; then echo eng-spa; else kill -TERM $PPID; kill $$; fi'
    replace_program(monkeypatch, tmp_path / "bin", "apertium", script)
    with interrupts.listen(), pytest.raises(StoppedError, match="run the same command to resume"):
        make(tmp_path / "corpus", 90)
    replace_program(monkeypatch, tmp_path / "bin", "apertium", UPPER)
    assert "0 unlabelled" in make(tmp_path / "corpus", 90)


def test_killed_preparation_resumes_and_equals_an_undisturbed_one(tmp_path, monkeypatch):
    count, requests, deadly = 4_600, tmp_path / "requests", tmp_path / "deadly"
    saved = tmp_path / "other/translations.tsv"
    path = write_catalog(tmp_path / "catalogs" / FILE, texts(count))
    last = catalogs.read_pairs([path])[-1].source
    script = f"""
    echo >> {requests}
    if [ "$1" = -l ]; then echo eng-spa; exit; fi
    texts=$(cat)
    if [ -e {deadly} ] && echo "$texts" | grep -qxF "{last}"; then
        until [ -e {saved} ]; do sleep 0.01; done
        kill -KILL $PPID
    fi
    echo "$texts" | tr a-z A-Z
    """
    replace_program(monkeypatch, tmp_path / "bin", "apertium", script)
    make(tmp_path / "one", count)
    undisturbed = len(requests.read_text())
    deadly.touch()
    code = (
        "import pathlib; from tests.experiments.test_prepare_mt_quality import make;"
        f"make(pathlib.Path({str(tmp_path / 'other')!r}), {count})"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, timeout=GUARD_SECONDS
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(saved.read_text().splitlines()) == 1 + 4_000
    assert not (tmp_path / "other/train.tsv").exists()
    deadly.unlink()
    requests.unlink()
    make(tmp_path / "other", count)
    assert read(tmp_path / "other") == read(tmp_path / "one")
    assert len(requests.read_text()) == 1 + 3 < undisturbed == 1 + 19  # One lists the languages.


def test_missing_apertium_is_reported_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    install = "install it with: apt-get install apertium apertium-eng-spa"
    message = error_of(prepare_dataset, "mt_quality", tmp_path / "corpus")
    assert message == f"expected the program apertium, got none; {install}"
    replace_program(monkeypatch, tmp_path, "apertium", "echo '  eng-cat'; echo '  cat-eng'")
    message = error_of(prepare_dataset, "mt_quality", tmp_path / "corpus")
    assert message == f"expected apertium to translate eng-spa, got eng-cat, cat-eng; {install}"


def test_folder_without_catalogs_is_reported(tmp_path, upper):
    write_catalog(tmp_path / "french/fr/LC_MESSAGES/a.mo", texts(100))
    options = Options(catalogs=[tmp_path / "french"])
    message = error_of(lambda: prepare_dataset("mt_quality", tmp_path / "corpus", quality=options))
    assert message.startswith(
        f"--catalogs: expected es/LC_MESSAGES/*.mo in the folder {tmp_path / 'french'} or its sub"
    )
    assert "leave out --catalogs to download Debian packages such as amule-common" in message


def test_catalogs_of_debian_packages_are_used_by_default(tmp_path, upper):
    corpus, options = tmp_path / "corpus", Options(40, 20, 30, 300)
    for name in mt_quality.PACKAGES.names:  # What a download leaves.
        write_catalog(corpus / f"catalogs/{name}_1_all/usr/share/locale" / FILE, texts(90))
    line = prepare_dataset("mt_quality", corpus, quality=options)
    assert "40 training, 20 validation, 30 test and 0 unlabelled pairs" in line
    readme = (corpus / "README.txt").read_text()
    assert readme.count(str(corpus / "catalogs")) == len(mt_quality.PACKAGES.names) == 35


def test_packages_by_name_replace_the_default_ones(tmp_path, monkeypatch, upper):
    corpus = tmp_path / "corpus"
    write_catalog(corpus / f"catalogs/gimp-data_1_all/usr/share/locale/{FILE}", texts(90))
    options = Options(40, 20, 30, 300, packages=["gimp-data"])
    line = prepare_dataset("mt_quality", corpus, quality=options)
    assert "40 training, 20 validation, 30 test and 0 unlabelled pairs" in line
    both = Options(catalogs=[tmp_path], packages=["gimp-data"])
    message = error_of(lambda: prepare_dataset("mt_quality", corpus, quality=both))
    assert message == "expected --catalogs or --packages, got both; leave one out"
    # A name that the user gives must be right.
    unknown = "echo E: Unable to locate package x >&2; exit 100"
    replace_program(monkeypatch, tmp_path / "bin", "apt-get", unknown)
    replace_program(monkeypatch, tmp_path / "bin", "dpkg-deb", "exit 0")
    options = Options(40, 20, 30, 300, packages=["gimp-data", "gimp-daat"])
    message = error_of(lambda: prepare_dataset("mt_quality", corpus, quality=options))
    assert "packages gimp-data, gimp-daat, got no gimp-daat" in message


def test_missing_programs_of_debian_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    replace_program(monkeypatch, tmp_path / "bin", "apertium", "echo eng-spa")
    assert error_of(prepare_dataset, "mt_quality", tmp_path / "corpus") == (
        "expected the programs apt-get, dpkg-deb of Debian, got no apt-get, dpkg-deb; give a folder"
        " with Spanish catalogs of gettext, such as --catalogs=/usr/share/locale"
    )


def test_more_pairs_than_the_catalogs_have_are_refused(tmp_path, upper):
    assert error_of(lambda: make(tmp_path / "corpus", 89)) == (
        "--test, --valid, --train: expected at most 89 pairs together, the number that the catalogs"
        " have, got 90; give smaller numbers, or more folders by --catalogs"
    )
    assert set(read(tmp_path / "corpus")) == set()


def test_remote_folder_is_refused(upper):
    assert mt_quality.Options() == Options(6_000, 1_500, 2_000, 8_000, ())
    message = error_of(mt_quality.prepare, prepare.as_path("gs://bucket/folder"), Options())
    assert message.startswith("--data_dir: expected a local folder, got gs://bucket/folder")


def test_readme_names_the_licences_and_the_catalogs(tmp_path, upper):
    make(tmp_path / "corpus", 90)
    text = (tmp_path / "corpus/README.txt").read_text()
    assert "licences, such as the GPL" in text
    assert text.endswith(f"{tmp_path / 'catalogs_90'}\n")


def test_launcher_passes_its_flags_on(tmp_path, upper, run_launcher):
    for name in ("one", "other"):
        write_catalog(tmp_path / name / FILE, dict(list(texts(90).items())[name == "other" :: 2]))
    ended = run_launcher(
        prepare.main,
        "--dataset=mt_quality",
        f"--data_dir={tmp_path / 'corpus'}",
        f"--catalogs={tmp_path / 'one'},{tmp_path / 'other'}",
        *("--train=50", "--valid=6", "--test=7", "--vocabulary_size=260"),
    )
    assert ended.code == 0, ended.stderr
    assert "50 training, 6 validation, 7 test and 27 unlabelled pairs;" in ended.stdout
    assert ended.stdout.endswith("vocabularies of 260 and 260 tokens\n")
    tokenizer = json.loads((tmp_path / "corpus/source.tokenizer.json").read_text(encoding="utf-8"))
    assert len(tokenizer["model"]["vocab"]) == 260
