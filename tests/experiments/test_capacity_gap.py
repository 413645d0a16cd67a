"""The synthetic study of the gap between a teacher and a small student."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax.types import Clock
from experiments import capacity_gap


@pytest.fixture
def short(monkeypatch):
    """Makes the study short; its claims are those of the full one."""
    for name, value in {"UPDATES": 20, "TEST": 400, "SHARPNESS": (1.0, 4.0)}.items():
        monkeypatch.setattr(capacity_gap, name, value)
    monkeypatch.setattr(capacity_gap, "METHODS", ("scratch", "annealing"))


def test_true_logits_have_the_variance_of_their_sharpness():
    x = jax.random.normal(jax.random.key(0), (4000, capacity_gap.INPUTS))
    logits = np.asarray(capacity_gap.true_logits(3.0)(x))
    np.testing.assert_allclose(logits.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(logits.std(axis=0), 3, rtol=0.05)
    np.testing.assert_allclose(capacity_gap.true_logits(6.0)(x), 2 * logits, rtol=1e-4, atol=1e-4)


def test_expected_accuracy_by_hand():
    # The student chooses classes of the true probabilities 3/4 and 1/4.
    logits = np.log([[0.75, 0.25], [0.75, 0.25]])
    student = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    assert float(capacity_gap.expected_accuracy(student, jnp.asarray(logits))) == 0.5


def test_losses_of_the_methods_by_numpy():
    rng = np.random.default_rng(0)
    student, teacher = np.float32(rng.normal(size=(2, 5, 8)))
    labels = np.array([0, 3, 7, 1, 1])
    chosen = {
        **capacity_gap.settings("annealing", jnp.full(6, 0.5)),
        "temperature": 2.0,
        "weight": 0.75,
        "first_share": 0.5,
        "max_temperature": 10,
    }

    def loss(method, progress, k=0):
        clock = Clock.at().replace(temperature_step=jnp.int32(k))
        function = capacity_gap.loss_of(method, chosen, clock, jnp.float32(progress))
        return float(function(jnp.asarray(student), jnp.asarray(teacher), jnp.asarray(labels)))

    def log_softmax(logits):
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

    hard = -log_softmax(student)[np.arange(5), labels].mean()
    soft, hot = log_softmax(teacher / 2), log_softmax(student / 2)
    kl = 4 * (np.exp(soft) * (soft - hot)).sum(axis=-1).mean()
    np.testing.assert_allclose(loss("scratch", 0.2), hard, rtol=1e-5)
    np.testing.assert_allclose(loss("kd", 0.2), 0.75 * kl + 0.25 * hard, rtol=1e-5)
    for k, phi in ((0, 0.1), (9, 1.0)):
        expected = np.square(student - phi * teacher).mean()
        np.testing.assert_allclose(loss("annealing", 0.2, k), expected, rtol=1e-5)
    for method in ("annealing", "weighted"):  # Stage II.
        np.testing.assert_allclose(loss(method, 0.5), hard, rtol=1e-5)


def test_the_study_chooses_by_validation_and_reports_gains_over_scratch(short):
    result = capacity_gap.study(trials=3, seeds=2)
    train = jax.jit(capacity_gap.train, static_argnums=0)
    draws = jnp.float32(np.random.default_rng(0).random((3, 6)))
    for entry in result["results"]:
        sharpness, scores = entry["sharpness"], {}
        for method in ("scratch", "annealing"):
            tried = [
                [
                    float(
                        capacity_gap.train(method, sharpness, draw, jnp.int32(seed))["validation"]
                    )
                    for seed in range(3)
                ]
                for draw in draws
            ]
            means = np.mean(tried, axis=1)
            np.testing.assert_allclose(entry[method]["validation"], means.max(), atol=1e-3)
            best = draws[means.argmax()]
            rate = capacity_gap.settings(method, best)["rate"]
            assert entry[method]["settings"]["rate"] == pytest.approx(float(rate), abs=1e-4)
            scores[method] = np.array(
                [float(train(method, sharpness, best, seed)["test"]) for seed in (100, 101)]
            )
            assert scores[method].max() < entry["ceiling"]
        gain = scores["annealing"] - scores["scratch"]
        np.testing.assert_allclose(entry["annealing"]["gain"][0], gain.mean(), atol=1e-3)
    (line,) = capacity_gap.draw(result).axes[0].lines[:1]
    gains = [100 * entry["annealing"]["gain"][0] for entry in result["results"]]
    np.testing.assert_allclose(line.get_ydata(), gains)
