import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses, schedules
from akd_jax.data import Batches, Examples
from akd_jax.models.network import Model
from akd_jax.teachers import LiveTeacher
from akd_jax.training.evaluate import MeanLoss, Predictor, SeveralTasks, TaskMetrics
from akd_jax.types import Clock, Task
from tests.support.logits import cross_entropy
from tests.support.steps import Linear

EXAMPLES = 10  # Four devices with batches of 4: the last batch has two rows of weight 0.


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(EXAMPLES, 5)).astype(np.float32)
    return Batches(Examples(inputs, rng.integers(3, size=EXAMPLES).astype(np.int32)), 4)


def model(seed):
    module = Linear(3)
    return Model(module.init(jax.random.key(seed), jnp.zeros((1, 5))), module.apply)


def logits(model, batches):
    kernel = np.float64(model.variables["params"]["Dense_0"]["kernel"])
    return np.float64(batches.examples.inputs) @ kernel


def test_mean_loss_is_the_mean_over_the_split(batches):
    student, teacher = model(0), model(1)
    loss = losses.compose(
        ce=(schedules.linear(1.0, 0.0, epochs=4), losses.cross_entropy),
        mse=(0.5, losses.annealed_mse),
    )
    evaluate = MeanLoss(loss, {"teacher": LiveTeacher(teacher)}, batches, Clock.at(epoch=1))
    ce = cross_entropy(logits(student, batches), batches.examples.labels).mean()
    mse = np.square(logits(student, batches) - logits(teacher, batches)).mean()
    expected = {"loss": 0.75 * ce + 0.5 * mse, "ce": ce, "mse": mse}
    scores = evaluate(student)
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-5)


def test_mean_of_a_loss_that_is_an_array(batches):
    def loss(student, teachers, batch, clock):
        return student.logits[:, 0]

    student = model(0)
    scores = MeanLoss(loss, {}, batches)(student)
    assert scores.keys() == {"loss"}
    np.testing.assert_allclose(scores["loss"], logits(student, batches)[:, 0].mean(), rtol=1e-5)


def test_scores_of_several_tasks_have_the_mean_of_those_that_count(batches):
    student, task = model(0), Task.numbered(3)
    accuracy = TaskMetrics(Predictor(), batches, task)
    loss = MeanLoss(losses.bind(losses.cross_entropy), {}, batches)
    scores = SeveralTasks({"a": (accuracy, "accuracy"), "b": (loss, "loss")})(student)
    correct = np.mean(logits(student, batches).argmax(axis=1) == batches.examples.labels)
    ce = cross_entropy(logits(student, batches), batches.examples.labels).mean()
    assert scores.keys() == {"mean", "a_accuracy", "b_loss"}
    assert scores["a_accuracy"] == correct
    np.testing.assert_allclose(scores["b_loss"], ce, rtol=1e-5)
    np.testing.assert_allclose(scores["mean"], (correct + ce) / 2, rtol=1e-5)
