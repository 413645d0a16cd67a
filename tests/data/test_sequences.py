"""Tokens of pairs for networks that generate the target."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from akd_jax.data import Batches, Examples, sequences
from akd_jax.types import SOURCE, TARGET, UNLABELLED
from experiments.preparation import tokenizers as training
from tests.support.errors import error_of
from tests.support.translating import WORDS, word_tokenizer

PAIRS = np.array([["eins zwei", "two one"], ["drei", "three three three"], ["", ""]], object)
PAD, START, END = 0, 1, 2


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / "source.json", tmp_path / "target.json"]
    for path, words in zip(paths, (WORDS, WORDS.values()), strict=True):
        word_tokenizer(words).save(str(path))
    return paths


def ids(path, text):
    return Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids


def test_sources_contexts_and_labels(paths):
    vocabulary = sequences.vocabulary(paths, 10)
    tokens, truncated = vocabulary.read(PAIRS, (), {"text": 6})
    labels = vocabulary.label(PAIRS, 6)
    for row, (source, target) in enumerate(PAIRS):
        words, translation = ids(paths[0], source), ids(paths[1], target)
        read, context = tokens[SOURCE], tokens[TARGET]
        assert read.ids[row, : read.lengths[row]].tolist() == [*words, END]
        assert context.ids[row, : context.lengths[row]].tolist() == [START, *translation]
        # The labels are at the positions of the context, and nowhere else.
        assert labels[row, : context.lengths[row]].tolist() == [*translation, END]
        assert (labels[row, context.lengths[row] :] == UNLABELLED).all()
    assert not truncated.any()


def test_long_texts_are_cut_and_get_no_wrong_label(paths):
    vocabulary = sequences.vocabulary(paths, 10)
    pairs = np.array([["eins zwei drei vier", "four three two one"]], object)
    tokens, truncated = vocabulary.read(pairs, (), {"text": 3})
    words, translation = ids(paths[0], pairs[0, 0]), ids(paths[1], pairs[0, 1])
    assert truncated.tolist() == [True]
    assert tokens[SOURCE].ids.tolist() == [[*words[:2], END]]
    assert tokens[TARGET].ids.tolist() == [[START, *translation[:2]]]
    # What comes after the last token that is read is still its label.
    assert vocabulary.label(pairs, 3).tolist() == [translation[:3]]


def test_batches_crop_labels_with_their_context(paths):
    vocabulary = sequences.vocabulary(paths, 10)
    tokens, _ = vocabulary.read(PAIRS, (), {"text": 6})
    examples = Examples({"key": tokens}, vocabulary.label(PAIRS, 6))
    batches = list(Batches(examples, 1, buckets=(2, 4, 6)).epoch())
    shapes = [(len(b.labels[0]), b.inputs["key"][TARGET].ids.shape[1]) for b in batches]
    assert shapes == [(2, 2), (4, 4), (4, 4)]
    for batch in batches:
        assert int((batch.labels != UNLABELLED).sum()) == batch.inputs["key"][TARGET].lengths[0]


def test_target_vocabulary(paths):
    target = sequences.target_vocabulary(paths)
    assert (target.size, target.start, target.end, target.pad) == (10, START, END, PAD)
    assert target.decode([ids(paths[1], "two one"), []]) == ["two one", ""]
    # The key depends on both tokenizers.
    assert target.key == sequences.vocabulary(paths, 10).key
    for others in ([paths[1], paths[1]], [paths[0], paths[0]]):
        assert sequences.target_vocabulary(others).key != target.key


def test_trained_tokenizers_have_the_tokens_and_give_texts_back():
    texts = ["Öffnet die Datei „a b“.", "Löscht 12 Zeilen; öffnet sie wieder."] * 3
    tokenizer = training.train(texts, 300, sequences.SPECIAL_TOKENS)
    assert [tokenizer.token_to_id(name) for name in sequences.SPECIAL_TOKENS] == [0, 1, 2]
    vocabulary = sequences.of_tokenizers(tokenizer, tokenizer, names=["a", "b"])
    pairs = np.array([[text, text] for text in texts], object)
    labels = vocabulary.label(pairs, 80)
    words = [[x for x in row if x not in (UNLABELLED, END)] for row in labels.tolist()]
    assert tokenizer.decode_batch(words) == texts


def test_texts_that_look_like_special_tokens_are_texts():
    texts = ["Use </s> now", "<s> is a tag", "<pad> and </s>"]
    tokenizer = training.train(texts, 300, sequences.SPECIAL_TOKENS)
    vocabulary = sequences.of_tokenizers(tokenizer, tokenizer, names=["a", "b"])
    pairs = np.array([[text, text] for text in texts], object)
    tokens, _ = vocabulary.read(pairs, (), {"text": 60})
    labels = vocabulary.label(pairs, 60)
    for row, text in enumerate(texts):
        words = labels[row][: tokens[TARGET].lengths[row] - 1].tolist()
        assert not {PAD, START, END} & set(words)
        assert tokenizer.decode(words) == text
        assert END not in tokens[SOURCE].ids[row][: tokens[SOURCE].lengths[row] - 1]


def test_a_tokenizer_without_an_end_is_refused(paths):
    tokenizer = training.train(["a b c"] * 3, 300)
    tokenizer.save(str(paths[1]))
    assert error_of(sequences.vocabulary, paths, 0) == (
        f"{paths[1]}: expected a tokenizer with the token <pad>, got one without it; run"
        " experiments.prepare on the data set, or add the token"
    )
