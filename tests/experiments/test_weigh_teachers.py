import dataclasses

import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict
from sklearn.linear_model import LogisticRegression

from akd_jax.host.errors import InputError
from akd_jax.runs import make_plan
from akd_jax.types import Task
from experiments.weigh_teachers import accuracies, logistic_weights, mixture_weights, teacher_names
from tests.support.groups import teacher
from tests.support.networks import use_featured_networks


def teachers(count=3, examples=400, classes=2, seed=0):
    """Probabilities of teachers of which the later ones know more of the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(count, examples, classes))
    for k in range(count):
        logits[k, np.arange(examples), labels] += 0.5 * k
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=-1, keepdims=True), labels


def test_mixture_weights_maximise_the_likelihood():
    p, labels = teachers(classes=4)
    weights = mixture_weights(p, labels)
    assert weights.sum() == pytest.approx(1)
    assert weights[2] > weights[0]
    of_label = p[:, np.arange(len(labels)), labels]

    def likelihood(w):
        return np.log(w @ of_label).mean()

    rng = np.random.default_rng(1)
    for other in rng.dirichlet(np.ones(3), 200):
        mixed = 0.9 * weights + 0.1 * other
        assert likelihood(weights) >= likelihood(mixed) - 1e-9


def test_logistic_weights_equal_a_logistic_regression_on_the_log_odds():
    p, labels = teachers()
    odds = np.log(p[:, :, 1] / p[:, :, 0]).T
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8).fit(odds, labels)
    assert (model.coef_ > 0).all()  # Otherwise the bound at 0 would matter.
    np.testing.assert_allclose(logistic_weights(p, labels), model.coef_[0], rtol=1e-3)


def test_a_useless_teacher_gets_no_negative_weight():
    p, labels = teachers()
    p[0] = p[2][:, ::-1]  # It is right where the best one is wrong.
    assert 0 <= logistic_weights(p, labels)[0] < 1e-3


def test_accuracies_by_hand():
    labels = np.array([0, 1, 1])
    right, wrong = np.float64([0.6, 0.4]), np.float64([0.1, 0.9])
    probabilities = {
        "one": np.array([[right, right, wrong], [right, wrong, wrong]]),  # Two folds.
        "two": np.array([[wrong, wrong, right], [wrong, wrong, right]]),
    }
    scores = accuracies(probabilities, labels)
    assert scores["one"] == pytest.approx(5 / 6)
    assert scores["two"] == pytest.approx(1 / 3)
    # In both folds, the mean is right on the second and the third example.
    assert scores["(mean of all)"] == pytest.approx(2 / 3)
    assert scores["(any is right)"] == 1


def test_networks_that_stand_for_each_teacher(config, monkeypatch):
    use_featured_networks(monkeypatch, config, teacher=4, student=4)
    with pytest.raises(
        InputError, match="a run of rl_kd or multi_teacher, got one of annealing_kd"
    ):
        teacher_names(make_plan(config))
    config.multi_teacher.teachers = ConfigDict({x: teacher(config, 5) for x in ("a", "b")})
    config.rl_kd.teachers = config.multi_teacher.teachers
    config.rl_kd.folds = 2
    config.method = "multi_teacher"
    assert teacher_names(make_plan(config)) == {"a": ["a"], "b": ["b"]}
    config.method = "rl_kd"
    plan = make_plan(config)
    folds = {"a": ["a_fold_0", "a_fold_1"], "b": ["b_fold_0", "b_fold_1"]}
    assert teacher_names(plan) == folds
    assert sorted(plan.recipes) == sorted(name for names in folds.values() for name in names)
    regression = dataclasses.replace(plan.dataset, task=Task(()))
    with pytest.raises(InputError, match="expected a run of a task with classes"):
        teacher_names(dataclasses.replace(plan, dataset=regression))
