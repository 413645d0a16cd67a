"""Vocabularies of pairs, whose texts are tokenised one by one."""

import numpy as np
import pytest
import tokenizers

from akd_jax.data import pairs
from akd_jax.host.errors import InputError
from tests.support.quality import save_word_tokenizer

SIDES = ("source", "target")
TEXTS = np.array([["red house", "casa"], ["house", "casa casa casa casa"]], object)


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, words in zip(paths, (["red", "house"], ["casa"]), strict=True):
        save_word_tokenizer(path, words)
    return paths


def test_each_text_has_the_ids_of_its_tokenizer(paths):
    vocabulary = pairs.vocabulary(paths, SIDES, 10)
    tokens, truncated = vocabulary.read(TEXTS, (), {"text": 3})
    for column, (side, path) in enumerate(zip(SIDES, paths, strict=True)):
        reference = tokenizers.Tokenizer.from_file(str(path))
        for row, text in enumerate(TEXTS[:, column]):
            expected = reference.encode(text).ids[:3]
            assert tokens[side].ids[row, : len(expected)].tolist() == expected
            assert tokens[side].lengths[row] == len(expected)
    assert truncated.tolist() == [False, True]
    # The key depends on both files, and on which is which.
    assert vocabulary.key != pairs.vocabulary(paths[::-1], SIDES, 10).key
    assert vocabulary({vocabulary.key: tokens, "other": None}) is tokens


def test_missing_damaged_and_large_tokenizers_are_refused(paths):
    with pytest.raises(InputError, match=r"two.json: expected at most 2 tokens, .* got 3;"):
        pairs.vocabulary(paths[1:] * 2, SIDES, 2)
    paths[0].write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"one.json: expected a tokenizer, got a damaged one"):
        pairs.vocabulary(paths, SIDES, 10)
    paths[0].unlink()
    with pytest.raises(InputError, match=r"one.json: .* got no file; run experiments.prepare"):
        pairs.vocabulary(paths, SIDES, 10)
