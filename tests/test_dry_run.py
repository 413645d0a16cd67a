import jax
import numpy as np
import pytest

from akd_jax import runs
from akd_jax.dry_run import rehearse
from akd_jax.plan import make_plan
from experiments import train


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A current folder in which nothing may appear."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_says_what_a_run_costs_and_leaves_nothing(config, nowhere):
    config.teacher.views = 3
    found = rehearse(config)
    plan = make_plan(config)
    for name, network in {"student": plan.student, **plan.teachers}.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), plan.dataset.example)
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["params"]))
        assert found["networks"][name] == {"parameters": count}
    assert found["cache"] == 1000 * 10 * 4 * 3  # Examples, classes, bytes and views.
    one, two = found["stages"]
    assert (one["name"], one["epochs"], one["updates"]) == ("stage_1", 5, 25)
    assert one["phi"] == [0.5, 0.5, 1, 1, 1]
    assert two["phi"] == [1] * 5
    assert two["learning_rate"][0] == pytest.approx(config.student.optimizer.learning_rate)
    for stage in (one, two):
        assert np.isfinite(stage["loss"])
        # At least the parameters and their momentum, and this device's share of the images.
        parameters = found["networks"]["student"]["parameters"]
        assert stage["bytes"] > 2 * 4 * parameters + 50 * 64
    text = train.dry_run_report(found)
    for part in ("not trained yet", "stage_1, 5 epochs", "0.5 to 1", "teacher logits: 0.1 MB"):
        assert part in text


def test_a_teacher_that_is_there_is_scored(config, teacher_path, nowhere):
    config.teacher.path = teacher_path
    config.method = "kd"
    found = rehearse(config)["networks"]["teacher"]
    # All of validation's 297 examples, as they are fewer than four batches of 200.
    expected = runs.load_teacher(make_plan(config), "teacher", nowhere).results["validation"]
    assert found["accuracy"] == pytest.approx(expected)


def test_the_loss_is_that_of_the_first_steps_of_the_run(config, nowhere):
    config.method = "scratch"
    (stage,) = rehearse(config)["stages"]
    assert 1.5 < stage["loss"] < 4  # Of ten classes, at the beginning: about log 10.
