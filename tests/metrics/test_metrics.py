import json
import math
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from akd_jax import metrics
from akd_jax.data import Batches, Examples
from akd_jax.data.readers import glue
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model, Network
from akd_jax.training.evaluate import Predictor, TaskMetrics
from akd_jax.types import Outputs, Task, WeightedSum
from tests.support.launching import GUARD_SECONDS, ROOT

REFERENCES = {
    "accuracy": sklearn.metrics.accuracy_score,
    "f1": lambda *args: sklearn.metrics.f1_score(*args, zero_division=0),
    "matthews": sklearn.metrics.matthews_corrcoef,
    "mae": sklearn.metrics.mean_absolute_error,
    "pearson": lambda *args: scipy.stats.pearsonr(*args).statistic,
    "rmse": sklearn.metrics.root_mean_squared_error,
    "spearman": lambda *args: scipy.stats.spearmanr(*args).statistic,
}
BINARY = Task(("no", "yes"), ("accuracy", "f1", "matthews"))
REGRESSION = Task((), ("pearson", "spearman"))


def test_means_are_weighted():
    sums = {}
    for total, weight in ((6.0, 3.0), (1.0, 1.0)):
        step = {"loss": WeightedSum(jnp.float32(total), jnp.float32(weight))}
        assert metrics.means(metrics.add({}, step)) == {"loss": total / weight}
        metrics.add(sums, step)
    assert metrics.means(sums) == {"loss": 7 / 4}


def test_sums_restored_from_json_continue_exactly():
    step = {"loss": WeightedSum(np.float32(0.1), np.float32(3.0))}
    whole, half = {}, {}
    for _ in range(10):
        metrics.add(whole, step)
    for _ in range(5):
        metrics.add(half, step)
    rest = json.loads(json.dumps(half))
    for _ in range(5):
        metrics.add(rest, step)
    assert rest == whole


def test_mean_of_weight_zero_is_nan():
    sums = metrics.add({}, {"loss": WeightedSum(np.float32(0), np.float32(0))})
    assert np.isnan(metrics.means(sums)["loss"])


def test_means_of_a_long_epoch_keep_their_precision():
    # In float32, 2**24 + 1 is rounded to 2**24.
    sums = metrics.add({}, {"loss": WeightedSum(np.float32(2**24), np.float32(1.0))})
    for _ in range(100):
        metrics.add(sums, {"loss": WeightedSum(np.float32(1.0), np.float32(0.0))})
    assert metrics.means(sums)["loss"] == 2**24 + 100


def logits_of(predictions, classes=2):
    return np.eye(classes, dtype=np.float32)[predictions]


def test_every_metric_has_a_reference():
    assert set(metrics.METRICS) == set(REFERENCES)


def test_binary_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 101).astype(np.int32)
    logits = rng.normal(size=(101, 2)).astype(np.float32) + 0.5 * logits_of(labels)
    result = metrics.scores(logits, labels, BINARY)
    predictions = (logits[:, 1] > logits[:, 0]).astype(int)
    expected = {name: REFERENCES[name](labels, predictions) for name in BINARY.metrics}
    assert result == pytest.approx(expected)
    assert list(result) == list(BINARY.metrics)
    assert all(type(score) is float for score in result.values())


def test_multiclass_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 101).astype(np.int32)
    logits = rng.normal(size=(101, 3)).astype(np.float32) + 0.5 * logits_of(labels, 3)
    task = Task(("a", "b", "c"), ("accuracy", "matthews"))
    expected = {name: REFERENCES[name](labels, logits.argmax(1)) for name in task.metrics}
    assert metrics.scores(logits, labels, task) == pytest.approx(expected)


def test_regression_scores_equal_scipy():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 26, 101).astype(np.float32) / 5  # With ties.
    predictions = (np.exp(labels) + rng.normal(size=101) * 9).astype(np.float32)
    expected = {
        name: REFERENCES[name](labels.astype(np.float64), predictions.astype(np.float64))
        for name in REGRESSION.metrics
    }
    assert abs(expected["pearson"] - expected["spearman"]) > 0.05
    result = metrics.scores(predictions[:, None], labels, REGRESSION)
    assert result == pytest.approx(expected)
    assert all(type(score) is float for score in result.values())


def test_scores_by_hand():
    labels = np.repeat([1, 0, 1, 0], [3, 1, 2, 4]).astype(np.int32)
    predictions = np.repeat([1, 1, 0, 0], [3, 1, 2, 4])
    assert metrics.scores(logits_of(predictions), labels, BINARY) == pytest.approx(
        {"accuracy": 0.7, "f1": 6 / 9, "matthews": (3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6)}
    )
    numbers = np.float32([[1], [3], [2], [8]])
    assert metrics.scores(numbers, np.float32([1, 2, 3, 4]), REGRESSION) == pytest.approx(
        {"pearson": 10 / math.sqrt(5 * 29), "spearman": 0.8}
    )


@pytest.mark.parametrize("constant", [0.0, 2.3, -1e6])
def test_constant_regression_scores_0(constant):
    labels = np.float32([0, 1.5, 2, 5])
    result = metrics.scores(np.full((4, 1), constant, np.float32), labels, REGRESSION)
    assert result == {"pearson": 0, "spearman": 0}


def test_constant_class_has_no_f1_of_class_0_and_no_correlation():
    labels = np.int32([0, 1, 0, 0])
    result = metrics.scores(logits_of([0, 0, 0, 0]), labels, BINARY)
    assert result == {"accuracy": 0.75, "f1": 0, "matthews": 0}
    result = metrics.scores(logits_of([1, 1, 1, 1]), labels, BINARY)
    assert result == pytest.approx({"accuracy": 0.25, "f1": 0.4, "matthews": 0})


@pytest.mark.parametrize(
    ("shape", "task"),
    [((3, 2), BINARY), ((4, 3), BINARY), ((4,), REGRESSION), ((4, 2), REGRESSION)],
)
def test_logits_must_fit_labels_and_task(shape, task):
    labels = np.zeros(4, np.float32 if task.regression else np.int32)
    with pytest.raises(ValueError, match=rf"logits: expected shape \(4, {task.outputs}\), got"):
        metrics.scores(np.zeros(shape, np.float32), labels, task)


def test_a_metric_without_a_constant_has_none():
    assert metrics.constant_predictor_score("bleu", np.array([0, 1])) is None


def test_constant_predictor_score_by_hand():
    labels = np.repeat([0, 1], [60, 40]).astype(np.int32)
    assert metrics.constant_predictor_score("accuracy", labels) == pytest.approx(
        0.6 + 2 * math.sqrt(0.24 / 100)
    )
    assert metrics.constant_predictor_score("f1", labels) == pytest.approx(
        sklearn.metrics.f1_score(labels, np.ones(100))
    )
    assert metrics.constant_predictor_score(
        "accuracy", np.repeat([2, 0, 1], [20, 10, 10])
    ) == pytest.approx(0.5 + 2 * math.sqrt(0.25 / 40))
    for name in ("matthews", "pearson", "spearman"):
        assert metrics.constant_predictor_score(name, labels) == pytest.approx(0.2)


class Linear(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, inputs, train=False, axis_name=None):
        return Outputs(nn.Dense(self.outputs)(inputs))


def halved(inputs):
    return inputs * 0.5


@pytest.mark.parametrize("name", glue.TASKS)
def test_metrics_on_four_devices_equal_metrics_of_the_whole_split(name):
    assert jax.local_device_count() == 4
    task = glue.TASKS[name].task
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(37, 5)).astype(np.float32)
    network = Network(Linear(task.outputs), halved)
    model = Model(network.init(jax.random.key(0), inputs[:1]), network.apply)
    parameters = jax.tree.map(np.asarray, model.variables["params"]["Dense_0"])
    logits = 0.5 * inputs @ parameters["kernel"] + parameters["bias"]
    noise = rng.normal(size=logits.shape) * 0.5
    labels = (logits + noise)[:, 0] if task.regression else (logits + noise).argmax(1)
    labels = labels.astype(np.float32 if task.regression else np.int32)

    batches = Batches(Examples(inputs, labels), 8)
    assert [batch.weights.sum() for batch in batches.epoch()] == [8, 8, 8, 8, 5]
    result = TaskMetrics(Predictor(), batches, task)(model)

    predictions = logits[:, 0] if task.regression else logits.argmax(1)
    assert set(result) == set(task.metrics)
    for metric, score in result.items():
        reference = REFERENCES[metric]
        assert score == pytest.approx(reference(labels, predictions), rel=1e-5)
        parts = [slice(start, start + 8) for start in range(0, 37, 8)]
        of_batches = np.mean([reference(labels[part], predictions[part]) for part in parts])
        assert score != pytest.approx(of_batches, rel=1e-3)


def test_single_class_gives_no_warning():
    result = metrics.scores(logits_of([0, 0]), np.int32([0, 0]), BINARY)
    assert result == {"accuracy": 1, "f1": 0, "matthews": 0}


def test_nan_prediction_gives_nan_correlation():
    logits = np.float32([[1], [np.nan], [3]])
    result = metrics.scores(logits, np.float32([1, 2, 3]), REGRESSION)
    assert np.isnan([result["pearson"], result["spearman"]]).all()


def test_correlation_of_one_example_is_0():
    result = metrics.scores(np.float32([[1]]), np.float32([2]), REGRESSION)
    assert result == {"pearson": 0, "spearman": 0}


@pytest.mark.parametrize(
    ("metric", "module", "package"),
    [("f1", "sklearn.metrics", "sklearn"), ("pearson", "scipy.stats", "scipy")],
)
def test_missing_package_is_named(monkeypatch, metric, module, package):
    monkeypatch.setitem(sys.modules, module, None)  # An import of the module now fails.
    with pytest.raises(InputError) as error:
        metrics.METRICS[metric](np.array([0, 1]), np.array([0, 1]))
    assert str(error.value) == (
        f"expected the Python package {package}, got none; install it with:"
        " pip install 'akd_jax[text]'"
    )


def test_losses_types_and_step_do_not_import_optional_packages():
    program = (
        "import sys, akd_jax.losses, akd_jax.metrics, akd_jax.training.step, akd_jax.types\n"
        "optional = {'sklearn', 'scipy.stats', 'ml_collections', 'orbax', 'tensorflow_datasets'}\n"
        "print(optional & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        cwd=ROOT,
    )
    assert output.stdout.strip() == "set()"
