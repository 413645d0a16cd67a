"""Methods that a run refuses before it trains a teacher or writes anything."""

import jax.numpy as jnp
import pytest
from pydantic import Field

from akd_jax import losses, runs, schedules
from akd_jax.host.settings import Fraction, Section
from akd_jax.methods.scratch import default_teacher, supervised_loss
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Term
from tests.support.networks import use_featured_networks
from tests.support.runs import assert_refused
from tests.support.scripted import use_loss, use_method


@pytest.fixture
def config(config, monkeypatch):
    """A run that would train a teacher first."""
    use_featured_networks(monkeypatch, config, teacher=8, student=4)
    config.student.epochs = 4
    return config


def features_of(owner, name):
    """A loss that reads a feature of the student or of a teacher."""

    def loss(student, teachers, batch, clock):
        outputs = student if owner == "student" else teachers[owner]
        return outputs.features[name].mean(axis=-1)

    return loss


def whole_batch_weights(student, teachers, batch, clock):
    values = losses.cross_entropy(student.logits, batch.labels)
    return {"hard": Term(values, jnp.ones(()))}


def one_value(student, teachers, batch, clock):
    return losses.cross_entropy(student.logits, batch.labels).mean()


KNOWN = "the student has hidden, image; teacher has hidden, image"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (features_of("student", "pooled"), f"stage custom_0: loss: .* got 'pooled'; .*{KNOWN}"),
        (features_of("teacher", "pooled"), f"stage custom_0: loss: .* got 'pooled'; .*{KNOWN}"),
        (features_of("assistant", "hidden"), r"got 'assistant'; use one of the teachers \(teacher"),
        (
            losses.compose(hard=(1.0, supervised_loss), soft=(1.0, features_of("teacher", "x"))),
            f"stage custom_0: loss: .* got 'x'; .*{KNOWN}",
        ),
        (whole_batch_weights, r"loss term 'hard': expected weights of the shape \(2,\) of its"),
        (one_value, r"stage custom_0: loss: expected one value per example, shape \(2,\), got .*"),
        (
            losses.compose(hard=(schedules.linear(1.0, -1.0, epochs=3), supervised_loss)),
            "stage custom_0: the weight of hard: expected values from 0 to inf, got -0.333333 in"
            " epoch 3; change the schedule",
        ),
        (
            losses.balance(
                hard=(1.0, supervised_loss),
                soft=(schedules.linear(1.0, -1.0, epochs=3), losses.kl),
            ),
            "stage custom_0: the weight of soft: expected values from 0 to inf, got -0.333333 in",
        ),
    ],
)
def test_bad_loss_is_refused(config, tmp_path, monkeypatch, loss, message):
    use_loss(monkeypatch, config, loss, teachers=("teacher",))
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def half_of_the_pixels(student, teachers, batch, clock, key):
    return batch.replace(inputs=batch.inputs[:, :4])


def in_float(student, teachers, batch, clock, key):
    return batch.replace(inputs=batch.inputs.astype(jnp.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prepare": half_of_the_pixels},
            r"stage custom_0: prepare: expected batch.inputs to stay uint8\[2, 8, 8, 1\], got"
            r" uint8\[2, 4, 8, 1\]; pad",
        ),
        ({"prepare": in_float}, r"stay uint8\[2, 8, 8, 1\], got float32\[2, 8, 8, 1\]"),
        (
            {"schedules": {"phi": schedules.Schedule(lambda clock: clock.epoch / 2, maximum=1)}},
            "stage custom_0: phi: expected values from 0 to 1, got 1.5 in epoch 4",
        ),
        (
            {"select": ("loss", "min")},
            "stage custom_0: expected to select by a metric of the task, accuracy, got 'loss'",
        ),
    ],
)
def test_bad_stage_is_refused(config, tmp_path, monkeypatch, options, message):
    use_loss(monkeypatch, config, supervised_loss, teachers=("teacher",), **options)
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def method(*stages):
    """The `build` of a method with these stages and a teacher."""

    def build(settings, task):
        return Method("custom", stages, default_teacher(settings))

    return build


def stage(name, **options):
    return Stage(name, 1, supervised_loss, OptimizerConfig(), **options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            method(stage("a", start="b"), stage("b")),
            r"custom: expected the stage a to start from one of the earlier stages \(there are"
            r" none\), got 'b'",
        ),
        (method(stage("a"), stage("a")), "expected stages with different names, got 'a' twice"),
        (method(stage("a", teachers=("b",))), "a recipe for each teacher .* got none for 'b'"),
        (method(stage("teacher")), "names of stages and teachers, got 'teacher' for both"),
    ],
)
def test_bad_order_and_bad_names_are_refused(config, tmp_path, monkeypatch, build, message):
    use_method(monkeypatch, config, build)
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


class CustomConfig(Section):
    """The settings of a custom method."""

    weight: Fraction = Field(default=0.5, description="A weight.")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"wieght": 0.5}, "config.custom.wieght: unknown field; did you mean 'weight'"),
        ({"weight": 1.5}, "config.custom.weight: expected less than or equal to 1, got 1.5"),
    ],
)
def test_bad_field_of_a_method_is_refused(config, tmp_path, monkeypatch, section, message):
    use_method(monkeypatch, config, method(stage("a")), section=CustomConfig)
    config.custom = section
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def test_only_settings_that_the_method_reads_must_match(config, tmp_path, monkeypatch):
    def build(settings, task):
        return Method("custom", (stage("a"),))

    use_method(monkeypatch, config, build, section=CustomConfig, reads=("kd",))
    config.custom = {"weight": 0.5}
    results = runs.run(config, tmp_path)
    config.annealing_kd.max_temperature = 3
    assert runs.run(config, tmp_path) == results
    config.kd.weight = 0.25
    assert_refused(config, tmp_path, r"config.kd.weight \(recorded 0.9, given 0.25\)")
    config.kd.weight = 0.9
    config.custom.weight = 0.75
    assert_refused(config, tmp_path, r"config.custom.weight \(recorded 0.5, given 0.75\)")
