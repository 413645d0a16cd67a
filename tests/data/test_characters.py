import numpy as np
import pytest

from akd_jax.data import characters


def texts_of(tokens):
    """The characters of each row of tokens."""
    rows = zip(tokens.ids, tokens.lengths, strict=True)
    return ["".join(map(chr, ids[:length])) for ids, length in rows]


def test_tokens_are_code_points_between_marks():
    texts = np.array([["Łódź"], [""], ["東京 😀"]], object)
    tokens, truncated = characters.tokenise(texts, 8)
    assert tokens.ids.tolist() == [
        [2, 0x141, 0xF3, 0x64, 0x17A, 3, 0, 0],
        [2, 3, 0, 0, 0, 0, 0, 0],
        [2, 0x6771, 0x4EAC, 0x20, 0x1F600, 3, 0, 0],
    ]
    assert tokens.token_type_ids.tolist() == [[0] * 8] * 3
    assert tokens.lengths.tolist() == [6, 2, 6]
    assert truncated.tolist() == [False, False, False]
    assert {x.dtype for x in (tokens.ids, tokens.token_type_ids, tokens.lengths)} == {
        np.dtype("i4")
    }


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("ab", "cd"), "\2ab\3cd\3"),
        (("abcde", "fg"), "\2ab\3fg\3"),
        (("a", "bcdef"), "\2a\3bcd\3"),
        (("abcde", "fghij"), "\2ab\3fg\3"),
        (("", "abcdef"), "\2\3abcd\3"),
    ],
)
def test_longer_text_of_a_pair_is_truncated(pair, expected):
    tokens, truncated = characters.tokenise(np.array([pair], object), 7)
    assert texts_of(tokens) == [expected]
    assert truncated.tolist() == [len("".join(pair)) > 4]
    first = expected.index("\3") + 1
    assert tokens.token_type_ids[0].tolist() == [0] * first + [1] * (len(expected) - first) + [
        0
    ] * (7 - len(expected))


def test_long_text_keeps_its_end_mark():
    tokens, truncated = characters.tokenise(np.array([["abcdef"], ["abcd"]], object), 6)
    assert texts_of(tokens) == ["\2abcd\3", "\2abcd\3"]
    assert truncated.tolist() == [True, False]


def test_lone_surrogates_are_accepted():
    tokens, _ = characters.tokenise(np.array([["\ud800"]], object), 3)
    assert tokens.ids.tolist() == [[2, 0xD800, 3]]
