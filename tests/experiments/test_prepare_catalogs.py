"""The texts of catalogs."""

import hashlib
import logging

import pytest

from experiments.preparation import catalogs
from tests.support.gettext_files import write_catalog

FILE = "es/LC_MESSAGES/program.mo"


def pairs_of(tmp_path, *tables):
    """The pairs of catalogs with the given translations, in their order."""
    paths = [write_catalog(tmp_path / f"{n}/{FILE}", table) for n, table in enumerate(tables)]
    return [(pair.source, pair.reference) for pair in catalogs.read_pairs(paths)]


def test_catalogs_of_spanish_are_found_in_subfolders(tmp_path):
    names = ("es/LC_MESSAGES/b.mo", "usr/share/locale/es/LC_MESSAGES/a.mo", "a/es/LC_MESSAGES/c.mo")
    others = ("es/LC_MESSAGES/a.po", "es_MX/LC_MESSAGES/a.mo", "es/LC_TIME/a.mo", "a.mo")
    for name in names + others:
        write_catalog(tmp_path / "one" / name, {})
    write_catalog(tmp_path / "two" / FILE, {})
    assert catalogs.find([tmp_path / "two", tmp_path / "one"]) == sorted(
        [*(tmp_path / "one" / name for name in names), tmp_path / "two" / FILE]
    )


def test_texts_are_cleaned(tmp_path):
    texts = {
        "_Save all of them": "_Guardar todos ellos",
        "Save a good copy &As ...": "Guardar una &copia como ...",
        "Open ~this old file": "Abrir este archivo ~antiguo",
        "It is   long,\nand has\ttwo lines\n": "Es\xa0largo,\n y tiene dos líneas\n",
        "menu\x04Close this window now": "Cerrar esta ventana ahora",
    }
    assert set(pairs_of(tmp_path, texts)) == {
        ("Save all of them", "Guardar todos ellos"),
        ("Save a good copy As ...", "Guardar una copia como ..."),
        ("Open this old file", "Abrir este archivo antiguo"),
        ("It is long, and has two lines", "Es largo, y tiene dos líneas"),
        ("Close this window now", "Cerrar esta ventana ahora"),
    }


GOOD = ("This is a good text", "Este es un buen texto")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Only three words", "Solo tres palabras"),
        ("word " * 41, "palabra " * 41),
        (GOOD[0], GOOD[0]),  # Not translated.
        (GOOD[0], "Texto bueno"[:5]),  # One word for five.
        (GOOD[0], "palabra " * 13),
        ("There are %d good texts", "Hay %d buenos textos aquí"),
        ("There are {count} good texts", "Hay varios buenos textos"),
        (GOOD[0], "Este es un <b>buen</b> texto"),
        ("This is a good &quot;text&quot;", GOOD[1]),
        ("See www.example.org for a text", GOOD[1]),
        ("See ftp://example.org for a good text", GOOD[1]),
        ("The option --good gives a text", GOOD[1]),
        ("Set the good_text_value of it", GOOD[1]),
        ("A text of 12345 good characters", GOOD[1]),
        ("12 34 56 78 words 90 12", GOOD[1]),  # Few letters.
        ("This is a \x07 good text", GOOD[1]),
    ],
)
def test_texts_that_are_no_sentences_are_left_out(tmp_path, source, target):
    assert pairs_of(tmp_path, {source: target}) == []
    assert pairs_of(tmp_path, {GOOD[0]: GOOD[1]}) == [GOOD]


def test_texts_with_a_plural_are_left_out(tmp_path):
    plural = {("There is only one good text", "There are several good texts"): ("Uno", "Varios")}
    assert pairs_of(tmp_path, {**plural, GOOD[0]: GOOD[1]}) == [GOOD]


def test_most_frequent_of_equal_normal_forms_is_used(tmp_path):
    tables = [
        {"Use the first 2 files": "Usar los 2 primeros archivos"},
        {"Use the first 3 files": "Usar los 3 primeros archivos"},
        {"Use the first 3 files": "Usar los 3 primeros ficheros"},
        {"Use the first 3 files": "Usar los 3 primeros archivos"},
        {"USE - the FIRST files": "Usar los primeros archivos"},
    ]
    expected = [("Use the first 3 files", "Usar los 3 primeros archivos")]
    assert pairs_of(tmp_path, *tables) == expected
    # The first in the alphabet if all are equally frequent, in any order of the catalogs.
    assert pairs_of(tmp_path, *tables[:3]) == pairs_of(tmp_path, *tables[2::-1])
    assert pairs_of(tmp_path, *tables[1:3]) == expected


def test_normal_form_has_no_digits_and_punctuation():
    assert catalogs.normal_form("¡El  2º Archivo_1, (ñandú)!") == "el º archivo ñandú"
    assert catalogs.normal_form("Файл №3: «имя»") == "файл имя"


def test_order_is_that_of_a_hash(tmp_path):
    texts = {f"This is text number {letter}": f"Este es el texto {letter}" for letter in "abcdefgh"}
    sources = [source for source, _ in pairs_of(tmp_path, texts)]
    expected = sorted(texts, key=lambda text: hashlib.sha256(text.lower().encode()).hexdigest())
    assert sources == expected != sorted(texts)


@pytest.mark.parametrize("content", [b"", b"\xde\x12\x04\x95", b"no catalog of gettext at all"])
def test_damaged_catalog_is_skipped_and_said(tmp_path, caplog, content):
    good = write_catalog(tmp_path / FILE, dict([GOOD]))
    damaged = tmp_path / "damaged.mo"
    damaged.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert len(catalogs.read_pairs([damaged, good])) == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{damaged}: skipped a catalog that cannot be read: ")


def test_messages_have_the_forms_of_a_plural_and_no_contexts(tmp_path):
    plural = {("menu\x04One file", "%d files"): ("Un archivo", "%d archivos")}
    path = write_catalog(tmp_path / FILE, {**plural, "menu\x04Save": "Guardar"})
    assert [tuple(map(list, message)) for message in catalogs.read_messages(path)] == [
        (["One file", "%d files"], ["Un archivo", "%d archivos"]),
        (["Save"], ["Guardar"]),
    ]
