import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses, methods
from akd_jax.config import parse
from akd_jax.errors import InputError
from akd_jax.methods.continuation_kd import continuation_loss
from akd_jax.types import Batch, Outputs

RNG = np.random.default_rng(0)
STUDENT, TEACHER = (Outputs(jnp.float32(RNG.normal(size=(6, 10)))) for _ in range(2))
BATCH = Batch(np.zeros((6, 1)), np.int32(RNG.integers(0, 10, 6)), np.ones(6, np.float32))


def config_of(config, fields=None):
    config.update_from_flattened_dict(fields or {})
    return parse(config)


def build(config, method, **fields):
    config.method = method
    config.update_from_flattened_dict(fields)
    return methods.build(parse(config))


def loss(stage, k=0):
    return stage.loss(STUDENT, {"teacher": TEACHER}, BATCH, jnp.int32(k))


def test_scratch_is_cross_entropy_without_a_teacher(config):
    (stage,) = build(config, "scratch").stages
    assert stage.teachers == ()
    np.testing.assert_array_equal(loss(stage), losses.cross_entropy(STUDENT.logits, BATCH.labels))


def test_kd_mixes_hard_and_soft(config):
    (stage,) = build(config, "kd", **{"kd.temperature": 3.0, "kd.weight": 0.25}).stages
    hard = losses.cross_entropy(STUDENT.logits, BATCH.labels)
    soft = losses.distillation_kl(STUDENT.logits, TEACHER.logits, 3.0)
    np.testing.assert_allclose(loss(stage), 0.75 * hard + 0.25 * soft, rtol=1e-6)


def test_kd_of_a_regression_mixes_squared_errors(config):
    (stage,) = build(config, "kd", **{"kd.weight": 0.25}).stages
    student, teacher, labels = np.float32(RNG.normal(size=(3, 6)))
    batch = BATCH.replace(labels=labels)
    teachers = {"teacher": Outputs(jnp.asarray(teacher)[:, None])}
    found = stage.loss(Outputs(jnp.asarray(student)[:, None]), teachers, batch, jnp.int32(0))
    expected = 0.75 * (student - labels) ** 2 + 0.25 * (student - teacher) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_kd_at_the_ends_of_its_weight(config, weight):
    (stage,) = build(config, "kd", **{"kd.weight": weight}).stages
    expected = (
        losses.distillation_kl(STUDENT.logits, TEACHER.logits, 4.0)
        if weight
        else losses.cross_entropy(STUDENT.logits, BATCH.labels)
    )
    np.testing.assert_allclose(loss(stage), expected, rtol=1e-6)


def test_annealing_kd_has_the_papers_two_stages(config):
    method = build(
        config,
        "annealing_kd",
        **{
            "student.epochs": 12,
            "annealing_kd.stage_1.epochs": 8,
            "annealing_kd.max_temperature": 4,
        },
    )
    stage_1, stage_2 = method.stages
    assert (stage_1.epochs, stage_2.epochs) == (8, 4)
    assert (stage_1.max_temperature, stage_2.max_temperature) == (4, 1)
    assert (stage_1.start, stage_2.start) == (None, "stage_1")
    assert (stage_1.teachers, stage_2.teachers) == (("teacher",), ())
    for k in range(4):
        expected = np.square(STUDENT.logits - (k + 1) / 4 * TEACHER.logits).mean(axis=-1)
        np.testing.assert_allclose(loss(stage_1, k), expected, rtol=1e-5)
    np.testing.assert_array_equal(loss(stage_2), losses.cross_entropy(STUDENT.logits, BATCH.labels))


def test_annealing_kd_can_sum_over_classes(config):
    mean = loss(build(config, "annealing_kd").stages[0])
    total = loss(build(config, "annealing_kd", **{"annealing_kd.class_reduction": "sum"}).stages[0])
    np.testing.assert_allclose(total, 10 * mean, rtol=1e-5)


def test_takd_reads_the_assistant_and_the_assistant_the_teacher(config):
    settings = config_of(config, {"kd.temperature": 3.0, "kd.weight": 0.25})
    for method, name in (
        (methods.METHODS["takd"], "assistant"),
        (methods.TEACHERS["assistant"], "teacher"),
    ):
        (stage,) = method(settings).stages
        assert stage.teachers == (name,)
        other = Outputs(TEACHER.logits + 1)
        found = stage.loss(STUDENT, {name: TEACHER, "other": other}, BATCH, jnp.int32(0))
        hard = losses.cross_entropy(STUDENT.logits, BATCH.labels)
        soft = losses.distillation_kl(STUDENT.logits, TEACHER.logits, 3.0)
        np.testing.assert_allclose(found, 0.75 * hard + 0.25 * soft, rtol=1e-6)


def test_continuation_kd_ramps_psi_by_the_epoch(config):
    fields = {
        "continuation_kd.max_temperature": 5,
        "continuation_kd.margin": 0.1,
        "continuation_kd.psi_epochs": 8,
        "continuation_kd.psi_until": 6,
    }
    (stage,) = build(config, "continuation_kd", **fields).stages
    assert (stage.epochs, stage.max_temperature) == (10, 5)
    for epoch, psi in ((0, 0.0), (4, 0.5), (5, 0.625), (6, 1.0), (9, 1.0)):
        batch = BATCH.replace(epochs=np.full(6, epoch, np.int32))
        found = stage.loss(STUDENT, {"teacher": TEACHER}, batch, jnp.int32(2))
        hard = losses.cross_entropy(STUDENT.logits, BATCH.labels)
        error = losses.annealed_mse(STUDENT.logits, TEACHER.logits, 2, 5)
        expected = psi * hard + (1 - psi) * np.maximum(0, error - 0.1 * 3 / 5)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_continuation_kd_with_a_step_has_annealings_stages(config):
    annealing = build(config, "annealing_kd").stages
    stages = build(config, "continuation_kd", **{"continuation_kd.psi": "step"}).stages
    for one, other in zip(annealing, stages, strict=True):
        assert dataclasses.replace(one, loss=None) == dataclasses.replace(other, loss=None)
    # With margin 0 psi = 0 is stage I, and psi = 1 stage II.
    whole = continuation_loss("mean", 0.0, 2, lambda batch: jnp.float32(1))
    for k in (0, 1):
        np.testing.assert_array_equal(loss(stages[0], k), loss(annealing[0], k))
        found = whole(STUDENT, {"teacher": TEACHER}, BATCH, jnp.int32(k))
        np.testing.assert_array_equal(found, loss(annealing[1], k))


def test_continuation_kd_must_end_with_the_hard_labels_alone(config):
    for fields in ({"psi_epochs": 10, "psi_until": 10}, {"psi_epochs": 20, "psi_until": 11}):
        named = {f"continuation_kd.{name}": value for name, value in fields.items()}
        with pytest.raises(InputError, match="never learns from the hard labels alone"):
            build(config, "continuation_kd", **named)
    build(config, "continuation_kd", **{"continuation_kd.psi_until": 9})


def test_continuation_kd_names_what_does_not_fit(config):
    with pytest.raises(InputError, match=r"continuation_kd\.max_temperature: .*10, .* got 11"):
        build(config, "continuation_kd", **{"continuation_kd.max_temperature": 11})


def test_all_methods_make_the_same_updates(config):
    assert {build(config, name).epochs for name in methods.METHODS} == {config.student.epochs}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"annealing_kd.max_temperature": 6}, "max_temperature: expected 1 to 5, .* got 6"),
        ({"annealing_kd.stage_1.epochs": 10}, "fewer than config.student.epochs = 10, got 10"),
    ],
)
def test_annealing_kd_names_what_does_not_fit(config, fields, message):
    with pytest.raises(InputError, match=message):
        build(config, "annealing_kd", **fields)


def test_an_unknown_method(config):
    with pytest.raises(
        InputError, match="one of scratch, kd, takd, annealing_kd, continuation_kd, got 'akd'"
    ):
        build(config, "akd")
