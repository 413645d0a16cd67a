"""Tokenizers of pairs with scores, and the data set scored_pairs."""

import logging
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from tokenizers import Tokenizer

from akd_jax.data.readers import parallel, quality
from experiments import prepare
from experiments.preparation import mt_quality, tokenizers
from experiments.prepare import prepare_dataset
from tests.support.errors import error_of
from tests.support.launching import GUARD_SECONDS, ROOT

SOURCES = [f"the {n} old cats of the {word} sleep" for n in "abcdefgh" for word in ("house", "sea")]
TARGETS = [f"los gatos {n} viejos de {word} duermen" for n in "abcdefgh" for word in ("casa", "ñu")]
FILES = ("source.tokenizer.json", "target.tokenizer.json")
TEXTS = [
    "",
    "the cats sleep",
    " the  cats ",
    "El ñandú — «¿qué?» 1234,5 €",
    "tab\tand\nline",
    "පරිගණක ප්‍රශ්නය",  # Sinhala, with a joiner of zero width.
    "कंप्यूटर की भाषा",
    "机器翻译的质量。",
    "👩‍👩‍👧 and \x07",
    "ﬁne … ²",
]


def read(folder):
    return [(folder / name).read_bytes() for name in FILES]


def train(folder, sources=SOURCES, targets=TARGETS, size=280):
    folder.mkdir(exist_ok=True)
    paths = parallel.tokenizer_paths(folder)
    tokenizers.train_tokenizers(paths, [iter(sources), targets], size)
    return tokenizers.vocabulary_sizes(paths)


def test_decoded_tokens_are_the_text_in_any_script():
    tokenizer = tokenizers.train(SOURCES, 280)
    for text in TEXTS:
        decoded = tokenizer.decode(tokenizer.encode(text).ids)
        assert decoded == unicodedata.normalize("NFKC", text)


def test_words_have_the_same_tokens_everywhere_and_no_token_is_added():
    tokenizer = tokenizers.train(SOURCES, 400)
    words = [tokenizer.encode(word).ids for word in ("cats", "sleep", "the")]
    assert [len(word) for word in words] == [1, 1, 1]
    assert tokenizer.encode("the cats sleep").ids == words[2] + words[0] + words[1]
    assert tokenizer.encode("").ids == []
    for mark in ("[UNK]", "[PAD]", "<unk>", "<pad>"):
        assert tokenizer.token_to_id(mark) is None


def test_words_of_scripts_with_combining_marks_are_learned_whole():
    words = ["ප්‍රශ්නය", "කොළඹ", "भाषा", "हिंदी", "ñandú"]
    tokenizer = tokenizers.train([f"{word} {word}" for word in words] * 3, 2_000)
    assert [len(tokenizer.encode(word).ids) for word in words] == [1] * len(words)


def test_digits_of_a_number_are_tokens_of_their_own():
    tokenizer = tokenizers.train(["123 123"] * 3, 2_000)
    assert tokenizer.encode("123 1").tokens == ["Ġ1", "2", "3", "Ġ1"]


@pytest.mark.parametrize(("wanted", "size"), [(256, 256), (270, 270), (8_000, None)])
def test_vocabulary_has_at_most_the_given_size(wanted, size):
    tokenizer = tokenizers.train(SOURCES, wanted)
    assert size in (tokenizer.get_vocab_size(), None)
    assert 256 <= tokenizer.get_vocab_size() <= wanted
    assert sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))


def test_same_texts_give_the_same_files_in_another_process_and_order(tmp_path):
    train(tmp_path)
    code = (
        "import pathlib; from tests.experiments.test_prepare_tokenizers import SOURCES, train;"
        f"train(pathlib.Path({str(tmp_path / 'other')!r}), SOURCES[::-1])"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=GUARD_SECONDS)
    assert read(tmp_path) == read(tmp_path / "other")
    assert read(tmp_path)[0] != read(tmp_path)[1]
    loaded = Tokenizer.from_file(str(tmp_path / FILES[0]))
    assert loaded.to_str() == tokenizers.train(SOURCES, 280).to_str()


def test_existing_tokenizers_are_kept_and_differences_are_said(tmp_path, caplog):
    train(tmp_path)
    before = read(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert train(tmp_path) == [280, 280]
        assert caplog.records == []
        assert train(tmp_path, targets=TARGETS[3:], size=270) == [280, 280]
    assert read(tmp_path) == before
    for record, name, size in zip(caplog.records, FILES, (270, 270), strict=True):
        assert record.getMessage() == (
            f"{tmp_path / name}: the existing tokenizer of 280 tokens is used. The texts and"
            f" the options give another one of {size} tokens now; delete the file to make it again"
        )


def write_pairs(folder, name, rows, header=("source", "target", "score")):
    folder.mkdir(exist_ok=True)
    lines = ["\t".join(map(str, row)) for row in (header, *rows)]
    (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_folder(folder, unlabelled=True):
    pairs = list(zip(SOURCES, TARGETS, strict=True))
    write_pairs(folder, "train", [(*pair, n / 8) for n, pair in enumerate(pairs[:8])])
    write_pairs(folder, "dev", [("only in dev", "zz yy zz yy", 0.5)] * 3)
    write_pairs(folder, "test", [('with a " quote', "ww vv ww vv", -1.5)] * 2)
    if unlabelled:
        write_pairs(folder, "unlabelled", pairs[8:], ("source", "target"))
    return folder


OPTIONS = mt_quality.Options(vocabulary_size=280)


def prepare_pairs(folder, dataset="scored_pairs", **options):
    return prepare_dataset(dataset, folder, quality=OPTIONS, **options)


def test_scored_pairs_get_tokenizers_of_train_and_unlabelled(tmp_path):
    line = prepare_pairs(write_folder(tmp_path))
    scores = [n / 8 for n in range(8)] + [0.5] * 3 + [-1.5] * 2
    assert line == (
        f"scored_pairs is ready in {tmp_path}: 8 training, 3 validation, 2 test and 8 unlabelled"
        f" pairs; scores with mean {np.mean(scores):.3f} and standard deviation"
        f" {np.std(scores):.3f}; vocabularies of 280 and 280 tokens"
    )
    train(tmp_path / "all")
    assert read(tmp_path) == read(tmp_path / "all")


def test_unlabelled_pairs_and_a_validation_split_are_optional(tmp_path):
    write_folder(tmp_path / "scored", unlabelled=False)
    (tmp_path / "scored/dev.tsv").unlink()
    line = prepare_pairs(tmp_path / "scored")
    assert "8 training, 0 validation, 2 test and 0 unlabelled pairs" in line
    sizes = train(tmp_path / "own", SOURCES[:8], TARGETS[:8])
    assert line.endswith(f"vocabularies of {sizes[0]} and {sizes[1]} tokens")
    assert read(tmp_path / "scored") == read(tmp_path / "own")


def test_mlqe_pe_has_tokenizers_for_each_pair_of_languages(tmp_path):
    header = ("index", "original", "translation", "z_mean")
    rows = [(n, *pair, n / 8) for n, pair in enumerate(zip(SOURCES, TARGETS, strict=True))]
    for name in ("train", "dev", "test20"):
        write_pairs(tmp_path, f"{name}.roen.df.short", rows, header)
    line = prepare_pairs(
        tmp_path, "mlqe_pe", pair_options=quality.PairOptions(language_pair="ro-en")
    )
    assert "16 training, 16 validation, 16 test and 0 unlabelled pairs" in line
    train(tmp_path / "own")
    written = [(tmp_path / f"roen.{name}").read_bytes() for name in FILES]
    assert written == read(tmp_path / "own")
    assert error_of(prepare_dataset, "mlqe_pe", tmp_path) == (
        "--language_pair: expected a pair such as ro-en, got none; give it"
    )


def test_damaged_tokenizer_is_reported(tmp_path):
    write_folder(tmp_path)
    (tmp_path / FILES[0]).write_text("{}")
    message = error_of(prepare_pairs, tmp_path)
    assert message.startswith(f"{tmp_path / FILES[0]}: expected a tokenizer, got: ")
    assert message.endswith("; delete the file")


def test_damaged_pairs_are_reported_with_their_line(tmp_path):
    write_pairs(write_folder(tmp_path), "dev", [("a", "b", "good")])
    message = error_of(prepare_pairs, tmp_path)
    assert message.startswith(f"{tmp_path / 'dev.tsv'}, line 2: expected a finite number")
    assert not (tmp_path / FILES[0]).exists()


def test_launcher_passes_the_size_of_the_vocabularies_on(tmp_path, run_launcher):
    ended = run_launcher(
        prepare.main,
        "--dataset=scored_pairs",
        f"--data_dir={write_folder(tmp_path)}",
        "--vocabulary_size=275",
    )
    assert ended.code == 0, ended.stderr
    assert ended.stdout.endswith("vocabularies of 275 and 275 tokens\n")
    ended = run_launcher(
        prepare.main, "--dataset=scored_pairs", f"--data_dir={tmp_path}", "--vocabulary_size=255"
    )
    assert ended.code == 1
    assert "vocabulary_size=255" in ended.stderr
