import numpy as np
import pytest
import sacrebleu
import scipy.stats
import sklearn.metrics

from akd_jax.types import Task
from experiments import statistics
from tests.support.translations import corpus


def test_agreement_by_hand():
    student = np.array([[1, 0], [0, 1], [2, 1], [0, 3]])
    teacher = np.array([[5, 0], [1, 0], [2, 1], [0, 9]])
    assert statistics.agreement(student, teacher) == 3 / 4


def test_calibration_error_by_hand():
    # Confidences 0.9, 0.9, 0.6, 0.6; right, wrong, right, right. With bins of width 1/15, 0.9 and
    # 0.6 are in different bins.
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    expected = 0.5 * abs(0.5 - 0.9) + 0.5 * abs(1 - 0.6)
    np.testing.assert_allclose(statistics.expected_calibration_error(logits, labels), expected)


def test_calibration_error_of_certain_predictions_is_their_error_rate():
    logits = np.array([[1000.0, 0.0]] * 4)
    assert statistics.expected_calibration_error(logits, np.zeros(4, int)) == 0
    assert statistics.expected_calibration_error(logits, np.ones(4, int)) == 1


def test_calibration_error_of_labels_drawn_from_the_predictions_is_small():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100_000, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = (rng.uniform(size=(100_000, 1)) > probabilities.cumsum(axis=-1)).sum(axis=-1)
    assert statistics.expected_calibration_error(logits, labels) < 0.01
    assert statistics.expected_calibration_error(5 * logits, labels) > 0.1


def mean_of(difference):
    """A score function from the differences [seeds, N] of single examples."""
    return lambda indices: difference[:, indices].mean(axis=1)


def test_bootstrap_of_independent_examples_is_the_normal_interval():
    # For independent examples, the interval is the normal approximation of the mean.
    rng = np.random.default_rng(0)
    difference = rng.normal(0.1, 1.0, size=(1, 4000))
    low, high = statistics.paired_bootstrap(mean_of(difference), 1, 4000)
    error = difference.std() / np.sqrt(4000)
    mean = difference.mean()
    np.testing.assert_allclose([low, high], [mean - 1.96 * error, mean + 1.96 * error], atol=0.005)


def test_bootstrap_resamples_seeds():
    # All examples of a seed are equal. With two seeds of +1 and -1, the mean is -1, 0 or 1.
    difference = np.array([[1.0] * 100, [-1.0] * 100])
    assert statistics.paired_bootstrap(mean_of(difference), 2, 100) == (-1, 1)


@pytest.mark.parametrize(
    ("task", "reference"),
    [
        (Task(("a", "b", "c")), sklearn.metrics.accuracy_score),
        (Task(("a", "b", "c"), ("matthews",)), sklearn.metrics.matthews_corrcoef),
        (Task((), ("pearson",)), lambda labels, values: scipy.stats.pearsonr(labels, values)[0]),
    ],
)
def test_difference_is_that_of_the_metric_on_the_drawn_examples(task, reference):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 50, task.outputs))  # Each method has three students.
    labels = rng.normal(size=50) if task.regression else rng.integers(3, size=50)
    drawn = rng.integers(50, size=50)
    result = statistics.difference(list(one), list(other), labels, task)(drawn)
    predicted = [
        logits[..., 0] if task.regression else logits.argmax(axis=-1) for logits in (one, other)
    ]
    expected = [
        reference(labels[drawn], a[drawn]) - reference(labels[drawn], b[drawn])
        for a, b in zip(*predicted, strict=True)
    ]
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_difference_of_unequal_numbers_of_students_is_refused():
    logits = [np.zeros((5, 2))]
    with pytest.raises(ValueError, match="equal numbers of students, got 2 and 1"):
        statistics.difference(logits * 2, logits, np.zeros(5, int), Task(("a", "b")))


def columns_with(between, first, second, count):
    """Two predictions and labels with exactly these correlations."""
    random = np.random.default_rng(0).normal(size=(count, 3))
    orthogonal, _ = np.linalg.qr(random - random.mean(axis=0))
    correlations = [[1, between, first], [between, 1, second], [first, second, 1]]
    return (orthogonal @ np.linalg.cholesky(correlations).T).T


def test_williams_test_by_hand():
    # N = 103, r_1 = 0.4, r_2 = 0.5 and r = 0.1, so K = 1 - 0.16 - 0.25 - 0.01 + 0.04 = 0.62 and
    # m^2 = 0.2025: t = -0.1 sqrt(102 * 1.1 / (1.24 * 102 / 100 + 0.2025 * 0.729)) = -0.8913.
    t, p = statistics.williams(*columns_with(0.1, 0.4, 0.5, 103))
    np.testing.assert_allclose(t, -0.1 * np.sqrt(112.2 / (1.2648 + 0.1476225)), rtol=1e-9)
    np.testing.assert_allclose(p, 2 * scipy.stats.t.cdf(t, 100), rtol=1e-9)
    t_reversed, p_reversed = statistics.williams(*columns_with(0.1, 0.5, 0.4, 103))
    np.testing.assert_allclose([t_reversed, p_reversed], [-t, p], rtol=1e-9)


def test_williams_test_of_equal_predictions():
    predictions, _, labels = columns_with(0.1, 0.4, 0.5, 20)
    assert statistics.williams(predictions, 3 * predictions + 1, labels) == (0, 1)


def test_williams_test_refuses_equal_correlations_rarely():
    # Both predictions are the labels and noise of the same size: p is uniform.
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(1000):
        labels = rng.normal(size=50)
        one, other = labels + rng.normal(size=(2, 50))
        p_values.append(statistics.williams(one, other, labels)[1])
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def bleu_of_rows(hypotheses, references, rows):
    drawn = [hypotheses[row] for row in rows], [[references[row] for row in rows]]
    return sacrebleu.corpus_bleu(*drawn).score / 100


def systems(students):
    """The hypotheses of two methods by student, and the references."""
    _, references = corpus(rows=25, seed=0)
    methods = [
        [corpus(25, seed=0, changed=changed + 0.02 * student)[0] for student in range(students)]
        for changed in (0.1, 0.25)
    ]
    return *methods, references


def direct_difference(hypotheses, others, references):
    """Scores the drawn rows from their texts."""
    return lambda rows: np.array(
        [
            bleu_of_rows(one, references, rows) - bleu_of_rows(other, references, rows)
            for one, other in zip(hypotheses, others, strict=True)
        ]
    )


def test_difference_of_bleu_is_that_of_the_drawn_rows():
    hypotheses, others, references = systems(students=3)
    score = statistics.corpus_difference(hypotheses, others, references)
    direct = direct_difference(hypotheses, others, references)
    rng = np.random.default_rng(0)
    for rows in (np.arange(25), np.full(25, 9), *rng.integers(25, size=(5, 25))):
        np.testing.assert_allclose(score(rows), direct(rows), rtol=1e-12, atol=1e-15)
    assert (score(np.arange(25)) > 0.05).all()


def test_difference_of_chrf_is_that_of_the_drawn_rows():
    hypotheses, others, references = systems(students=2)
    score = statistics.corpus_difference(hypotheses, others, references, "chrf")
    for rows in (np.arange(25), np.random.default_rng(1).integers(25, size=25)):
        of_rows = [
            sacrebleu.corpus_chrf([x[row] for row in rows], [[references[row] for row in rows]])
            for x in (*hypotheses, *others)
        ]
        one, two, three, four = (of_row.score / 100 for of_row in of_rows)
        np.testing.assert_allclose(score(rows), [one - three, two - four], rtol=1e-9)


def bleu_interval(hypotheses, others, references, **options):
    difference = statistics.corpus_difference(hypotheses, others, references)
    return statistics.paired_bootstrap(difference, len(hypotheses), len(references), **options)


def test_interval_of_bleu_of_two_systems_equals_a_loop_over_resampled_texts():
    (one,), (other,), references = systems(students=1)
    rng = np.random.default_rng(7)
    differences = []
    for _ in range(60):
        rng.integers(1, size=1)  # The bootstrap draws the only student.
        rows = rng.integers(25, size=25)
        differences.append(
            bleu_of_rows(one, references, rows) - bleu_of_rows(other, references, rows)
        )
    interval = bleu_interval([one], [other], references, resamples=60, seed=7)
    np.testing.assert_allclose(interval, np.percentile(differences, (2.5, 97.5)), rtol=1e-12)
    assert interval[0] < interval[1]


def test_interval_of_bleu_draws_seeds_as_well():
    hypotheses, others, references = systems(students=3)
    direct = direct_difference(hypotheses, others, references)
    expected = statistics.paired_bootstrap(direct, 3, 25, resamples=30, seed=1)
    interval = bleu_interval(hypotheses, others, references, resamples=30, seed=1)
    np.testing.assert_allclose(interval, expected, rtol=1e-12)
    # Two students with opposite differences: a resample may contain only one of them.
    one, other = hypotheses[0], others[0]
    low, high = bleu_interval([one, other], [other, one], references, resamples=100)
    assert low < -0.05 and high > 0.05


def test_interval_of_bleu_of_equal_texts_is_0():
    hypotheses, _, references = systems(students=2)
    interval = bleu_interval(hypotheses, hypotheses, references, resamples=20)
    assert interval == (0, 0)


def test_bleu_of_unequal_numbers_of_students_or_rows_is_refused():
    hypotheses, _, references = systems(students=2)
    with pytest.raises(ValueError, match="equal numbers of students, got 2 and 1"):
        bleu_interval(hypotheses, hypotheses[:1], references)
    with pytest.raises(ValueError, match=r"hypotheses: expected 24 rows, .*, got 25"):
        bleu_interval(hypotheses, hypotheses, references[:-1])
    with pytest.raises(ValueError, match="expected a list of texts, got the text"):
        bleu_interval(hypotheses[0], hypotheses[0], references)
