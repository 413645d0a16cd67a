import json
import math
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu

from akd_jax.host.errors import InputError
from akd_jax.metrics import generation
from tests.support.launching import GUARD_SECONDS
from tests.support.translations import HYPOTHESES, REFERENCES, corpus

TEXT_METRICS = (
    generation.bleu,
    generation.chrf,
    generation.rouge1,
    generation.rouge2,
    generation.rouge_l,
    generation.length_ratio,
    generation.bleu_counts,
    generation.chrf_counts,
)


def test_bleu_by_hand():
    # Of 6 words, 5 match ("the" only once); of the pairs 3 of 5, the triples 2 of 4, the fours 1
    # of 3.
    score = generation.bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    assert score == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4), rel=1e-12)


def test_bleu_of_a_short_hypothesis_without_a_match_of_4_words_by_hand():
    # The match of 4 words that is missing counts as a half.
    score = generation.bleu(["a b c d"], ["a b c e f"])
    precisions = (3 / 4, 2 / 3, 1 / 2, (1 / 2) / 1)
    expected = math.exp(1 - 5 / 4) * math.prod(precisions) ** (1 / 4)
    assert score == pytest.approx(expected, rel=1e-12)


def test_bleu_of_a_corpus_is_that_of_the_sums_by_hand():
    score = generation.bleu(
        ["the cat sat on the mat", "a b c d"], ["the cat sat on a mat", "a b c e f"]
    )
    precisions = (8 / 10, 5 / 8, 3 / 6, 1 / 4)
    expected = math.exp(1 - 11 / 10) * math.prod(precisions) ** (1 / 4)
    assert score == pytest.approx(expected, rel=1e-12)


def test_bleu_without_a_hypothesis_of_4_tokens_is_0():
    assert generation.bleu(["a b c", "d"], ["a b c", "d"]) == 0


def test_bleu_separates_punctuation_and_distinguishes_case():
    # 13a: "Hello , world ( again ) ." has 7 tokens.
    counts = generation.bleu_counts(["Hello, world (again)."], ["hello, world (again)."])
    assert counts.tolist() == [[7, 7, 6, 5, 4, 3, 7, 6, 5, 4]]


def test_scores_equal_the_api_of_sacrebleu():
    hypotheses, references = corpus(rows=40, seed=0)
    assert generation.bleu(hypotheses, references) == pytest.approx(
        sacrebleu.corpus_bleu(hypotheses, [references]).score / 100, rel=1e-12
    )
    assert generation.chrf(hypotheses, references) == pytest.approx(
        sacrebleu.corpus_chrf(hypotheses, [references]).score / 100, rel=1e-12
    )
    assert 0.1 < generation.bleu(hypotheses, references) < 0.9


def test_scores_and_signatures_equal_the_command_line_of_sacrebleu(tmp_path):
    (tmp_path / "references").write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    (tmp_path / "hypotheses").write_text("\n".join(HYPOTHESES) + "\n", encoding="utf-8")
    options = ["--metrics", "bleu", "chrf", "--width", "6", "--format", "json", "--input"]
    process = subprocess.run(
        [sys.executable, "-m", "sacrebleu", "references", *options, "hypotheses"],
        check=True,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        cwd=tmp_path,
    )
    bleu, chrf = json.loads(process.stdout)
    assert round(100 * generation.bleu(HYPOTHESES, REFERENCES), 6) == bleu["score"]
    assert round(100 * generation.chrf(HYPOTHESES, REFERENCES), 6) == chrf["score"]
    assert generation.bleu_signature() == bleu["signature"]
    assert generation.chrf_signature() == chrf["signature"]


def test_signatures():
    version = f"version:{sacrebleu.__version__}"
    assert generation.bleu_signature() == (
        f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    )
    assert generation.chrf_signature() == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"


def test_chrf_by_hand():
    # "abcd" and "abce": 3 of 4 characters, 2 of 3 pairs, 1 of 2 triples and 0 of 1 fours match.
    # Precision and recall are equal; orders 5 and 6 do not exist.
    expected = (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4
    assert generation.chrf(["ab cd"], ["abce"]) == pytest.approx(expected, rel=1e-12)


def test_rouge_by_hand():
    hypotheses = ["The cats sat.", "dogs chased cats"]
    references = ["the cat was sitting on the mat", "cats chase dogs"]
    # Row 1, stemmed: "the cat sat" and "the cat was sit on the mat": 2 words, 1 pair and a
    # subsequence of 2 words match. Row 2: 3 words, no pair, a subsequence of 1 word.
    assert generation.rouge1(hypotheses, references) == pytest.approx((2 * 2 / 10 + 1) / 2)
    assert generation.rouge2(hypotheses, references) == pytest.approx((2 * 1 / 8 + 0) / 2)
    assert generation.rouge_l(hypotheses, references) == pytest.approx((2 * 2 / 10 + 1 / 3) / 2)


@pytest.mark.parametrize("metric", TEXT_METRICS[:5])
def test_equal_texts_score_1_and_different_or_empty_texts_0(metric):
    texts = ["one two three four", "five six seven eight nine"]
    assert metric(texts, texts) == pytest.approx(1, rel=1e-12)
    assert metric(["", ""], texts) == 0
    assert metric(["$ $ $ $ $", "$"], texts) == 0
    assert metric(texts, ["", ""]) == 0


def test_a_row_without_an_output_counts():
    references = ["one two three four"] * 2
    half = ["one two three four", ""]
    assert generation.bleu(half, references) == pytest.approx(math.exp(1 - 8 / 4), rel=1e-12)
    assert generation.rouge1(half, references) == 1 / 2
    assert generation.length_ratio(half, references) == 1 / 2


def test_texts_may_be_numpy_arrays():
    score = generation.bleu(HYPOTHESES, REFERENCES)
    arrays = [np.array(texts, object) for texts in (HYPOTHESES, REFERENCES)]
    assert generation.bleu(*arrays) == score
    assert type(score) is float


def test_length_ratio_counts_the_tokens_of_bleu():
    # "a , b" and "c d ." against "a b c d" and "e".
    assert generation.length_ratio(["a, b", "c d."], ["a b c d", "e"]) == 6 / 5
    assert generation.length_ratio(["a"], [""]) == 0


def test_bleu_by_source_length():
    hypotheses, references = corpus(rows=30, seed=1)
    lengths = [3, 8, 9, 15, 16, 0] * 5
    sources = [" ".join(["Wort"] * length) for length in lengths]
    parts = generation.bleu_by_source_length(hypotheses, references, sources)
    assert {name: part.rows for name, part in parts.items()} == {
        "0-8": 15,
        "9-15": 10,
        "16-30": 5,
        "31-": 0,
    }
    assert parts["31-"].bleu is None
    middle = [row for row, length in enumerate(lengths) if 9 <= length <= 15]
    assert parts["9-15"].bleu == pytest.approx(
        sacrebleu.corpus_bleu(
            [hypotheses[row] for row in middle], [[references[row] for row in middle]]
        ).score
        / 100,
        rel=1e-12,
    )
    whole = generation.bleu_by_source_length(hypotheses, references, sources, edges=())
    assert whole == {"0-": generation.Part(30, generation.bleu(hypotheses, references))}


def test_edges_ascend():
    with pytest.raises(ValueError, match=r"edges: expected ascending .*, got \[15, 8\]"):
        generation.bleu_by_source_length(["a"], ["a"], ["a"], edges=(15, 8))


def test_sources_have_as_many_rows_as_references():
    with pytest.raises(ValueError, match="sources: expected 2 rows, one for each reference, got 1"):
        generation.bleu_by_source_length(["a", "b"], ["a", "b"], ["a"])


def test_bleu_of_the_sum_of_counts_is_corpus_bleu():
    hypotheses, references = corpus(rows=40, seed=2)
    counts = generation.bleu_counts(hypotheses, references)
    assert counts.shape == (40, 10)
    for rows in (slice(0, 40), slice(0, 1), slice(5, 9), slice(20, 23)):
        assert generation.bleu_of_counts(counts[rows].sum(axis=0)) == pytest.approx(
            sacrebleu.corpus_bleu(hypotheses[rows], [references[rows]]).score / 100, rel=1e-12
        )


def test_chrf_of_the_sum_of_counts_is_corpus_chrf():
    hypotheses, references = corpus(rows=40, seed=2)
    # Without long n-grams, with spaces, without any character, and without a match.
    hypotheses += ["ab", "a b  c", "", "xyz", "some words"]
    references += ["abc", "ab c", "some words", "abc", ""]
    counts = generation.chrf_counts(hypotheses, references)
    assert counts.shape == (45, 18)
    for rows in (
        slice(0, 45),
        slice(0, 1),
        slice(20, 23),
        *(slice(i, i + 1) for i in range(40, 45)),
    ):
        assert generation.chrf_of_counts(counts[rows].sum(axis=0)) == pytest.approx(
            sacrebleu.corpus_chrf(hypotheses[rows], [references[rows]]).score / 100, rel=1e-12
        )


@pytest.mark.parametrize("metric", TEXT_METRICS)
def test_bad_rows_give_one_line(metric):
    for hypotheses, references, message in (
        (["a"], ["a", "b"], "hypotheses: expected 2 rows, one for each reference, got 1; give a "),
        ([], [], "references: expected at least one row, got none"),
        ("a b", ["a b"], "expected a list of texts, got the text 'a b'; put it in a list"),
        (["a b"], "a b", "expected a list of texts, got the text 'a b'; put it in a list"),
    ):
        with pytest.raises(ValueError) as error:
            metric(hypotheses, references)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metric", "module", "package"),
    [
        (generation.bleu, "sacrebleu", "sacrebleu"),
        (generation.rouge1, "rouge_score.rouge_scorer", "rouge_score"),
    ],
)
def test_missing_package_is_named(monkeypatch, metric, module, package):
    monkeypatch.setitem(sys.modules, module, None)  # An import of the module now fails.
    with pytest.raises(InputError, match=f"expected the Python package {package}, got none; "):
        metric(["a"], ["a"])
