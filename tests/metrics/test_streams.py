"""Scores of streams by hand, and those of their answers."""

import numpy as np
import pytest

from akd_jax.metrics import answers, streams
from akd_jax.types import GROUP_METRICS

MATRIX = [[0.8], [0.5, 0.9], [0.6, 0.7, 0.4]]


def test_scores_of_a_matrix():
    assert streams.learning_accuracy(MATRIX) == pytest.approx((0.8 + 0.9 + 0.4) / 3)
    assert streams.forgetting(MATRIX) == pytest.approx(((0.8 - 0.6) + (0.9 - 0.7)) / 2)
    assert streams.forgetting([[0.3]]) == 0
    # A later task can help an earlier one.
    assert streams.forgetting([[0.3], [0.5, 0.1]]) == 0


def test_edit_distance():
    pairs = {("kitten", "sitting"): 3, ("", "abc"): 3, ("abc", "abc"): 0, ("ab", "ba"): 2}
    assert {pair: answers.edit_distance(*pair) for pair in pairs} == pairs


def test_scores_of_rows():
    assert tuple(answers.ROW_METRICS) == GROUP_METRICS
    texts, references = ["abc ", "xbc", "abcdefgh", ""], ["abc", "abc", "abc", "a"]
    rows = answers.ROW_METRICS["phoneme_accuracy"](texts, references)
    np.testing.assert_allclose(rows, [1, 2 / 3, 0, 0])  # At most one error per sign counts.
    np.testing.assert_array_equal(
        answers.ROW_METRICS["exact_match"](texts, references), [1, 0, 0, 0]
    )
    chrf = answers.ROW_METRICS["sentence_chrf"](texts, references)
    assert chrf[0] == pytest.approx(1) and chrf[3] == 0
    assert answers.exact_match(texts, references) == 0.25


def test_score_is_the_mean_over_groups():
    texts, references = ["a", "b", "abc"], ["a", "a", "abd"]
    groups, metrics = ["x", "x", "y"], {"x": "exact_match", "y": "phoneme_accuracy", "z": "rouge1"}
    score = answers.group_score(texts, references, groups, metrics)
    assert score == pytest.approx((0.5 + 2 / 3) / 2)
    assert answers.group_rows(texts, references, groups, metrics).mean() == pytest.approx(score)
