import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import methods
from akd_jax.host.errors import InputError
from akd_jax.methods.continuation_kd import continuation_loss
from akd_jax.runs.config import parse
from akd_jax.types import Batch, Outputs

# Expected losses are NumPy formulas in float64; they do not use the library's losses.
RNG = np.random.default_rng(0)
STUDENT, TEACHER = np.float32(RNG.normal(size=(2, 6, 10)))
LABELS = np.int32(RNG.integers(0, 10, 6))
BATCH = Batch(np.zeros((6, 1)), LABELS, np.ones(6, np.float32))


def build(config, method, **fields):
    config.method = method
    config.update_from_flattened_dict(fields)
    return methods.build(parse(config))


def loss_of(stage, k=0, *, batch=BATCH, **teachers):
    outputs = {name: Outputs(jnp.asarray(logits)) for name, logits in teachers.items()}
    return stage.loss(Outputs(jnp.asarray(STUDENT)), outputs, batch, jnp.int32(k))


def log_softmax(logits):
    logits = np.float64(logits)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def cross_entropy(logits):
    return -log_softmax(logits)[np.arange(6), LABELS]


def soft_label_loss(student, teacher, temperature):
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def annealed_error(phi):
    return np.square(np.float64(STUDENT) - phi * TEACHER).mean(axis=-1)


def test_scratch_is_cross_entropy_without_a_teacher(config):
    (stage,) = build(config, "scratch").stages
    assert stage.teachers == ()
    np.testing.assert_allclose(loss_of(stage), cross_entropy(STUDENT), rtol=1e-5)


def test_kd_by_hand(config):
    # T = 2, weight 1/4. The probabilities at T are (3/4, 1/4) and (1/2, 1/2).
    (stage,) = build(config, "kd", **{"kd.temperature": 2.0, "kd.weight": 0.25}).stages
    teacher = Outputs(2 * jnp.log(jnp.array([[0.75, 0.25]])))
    batch = Batch(np.zeros((1, 1)), np.int32([0]), np.ones(1, np.float32))
    loss = stage.loss(Outputs(jnp.zeros((1, 2))), {"teacher": teacher}, batch, jnp.int32(0))
    expected = 0.75 * np.log(2) + 0.25 * 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_kd_mixes_hard_and_soft_labels(config, weight):
    (stage,) = build(config, "kd", **{"kd.temperature": 3.0, "kd.weight": weight}).stages
    hard, soft = cross_entropy(STUDENT), soft_label_loss(STUDENT, TEACHER, 3.0)
    expected = (1 - weight) * hard + weight * soft
    np.testing.assert_allclose(loss_of(stage, teacher=TEACHER), expected, rtol=1e-4)


def test_kd_of_a_regression_mixes_squared_errors(config):
    (stage,) = build(config, "kd", **{"kd.weight": 0.25}).stages
    student, teacher, labels = np.float32(RNG.normal(size=(3, 6)))
    batch = BATCH.replace(labels=labels)
    teachers = {"teacher": Outputs(jnp.asarray(teacher)[:, None])}
    loss = stage.loss(Outputs(jnp.asarray(student)[:, None]), teachers, batch, jnp.int32(0))
    expected = 0.75 * (student - labels) ** 2 + 0.25 * (student - teacher) ** 2
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_annealing_kd_has_the_two_stages_of_the_paper(config):
    fields = {
        "student.epochs": 12,
        "annealing_kd.stage_1.epochs": 8,
        "annealing_kd.max_temperature": 4,
    }
    stage_1, stage_2 = build(config, "annealing_kd", **fields).stages
    assert (stage_1.epochs, stage_2.epochs) == (8, 4)
    assert (stage_1.max_temperature, stage_2.max_temperature) == (4, 1)
    assert (stage_1.start, stage_2.start) == (None, "stage_1")
    assert (stage_1.teachers, stage_2.teachers) == (("teacher",), ())
    for k in range(4):
        loss = loss_of(stage_1, k, teacher=TEACHER)
        np.testing.assert_allclose(loss, annealed_error((k + 1) / 4), rtol=1e-5)
    np.testing.assert_allclose(loss_of(stage_2), cross_entropy(STUDENT), rtol=1e-5)


def test_annealing_kd_can_sum_over_classes(config):
    fields = {"annealing_kd.class_reduction": "sum", "annealing_kd.max_temperature": 2}
    stage = build(config, "annealing_kd", **fields).stages[0]
    loss = loss_of(stage, 0, teacher=TEACHER)
    np.testing.assert_allclose(loss, 10 * annealed_error(0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "name"),
    [(methods.METHODS["takd"], "assistant"), (methods.TEACHERS["assistant"], "teacher")],
    ids=["student", "assistant"],
)
def test_takd_student_reads_the_assistant_and_the_assistant_reads_the_teacher(config, method, name):
    config.update_from_flattened_dict({"kd.temperature": 3.0, "kd.weight": 0.25})
    (stage,) = method(parse(config)).stages
    assert stage.teachers == (name,)
    loss = loss_of(stage, **{name: TEACHER, "other": TEACHER[::-1]})
    expected = 0.75 * cross_entropy(STUDENT) + 0.25 * soft_label_loss(STUDENT, TEACHER, 3.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize(("epoch", "psi"), [(0, 0.0), (4, 0.5), (5, 0.625), (6, 1.0), (9, 1.0)])
def test_continuation_kd_raises_psi_with_the_epoch(config, epoch, psi):
    fields = {
        "continuation_kd.max_temperature": 5,
        "continuation_kd.margin": 0.1,
        "continuation_kd.psi_epochs": 8,
        "continuation_kd.psi_until": 6,
    }
    (stage,) = build(config, "continuation_kd", **fields).stages
    assert (stage.epochs, stage.max_temperature) == (10, 5)
    batch = BATCH.replace(epochs=np.full(6, epoch, np.int32))
    loss = loss_of(stage, 2, batch=batch, teacher=TEACHER)
    soft = np.maximum(0, annealed_error(3 / 5) - 0.1 * 3 / 5)
    expected = psi * cross_entropy(STUDENT) + (1 - psi) * soft
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)


def test_continuation_kd_with_a_step_has_the_stages_of_annealing_kd(config):
    annealing = build(config, "annealing_kd").stages
    fields = {"continuation_kd.psi": "step", "continuation_kd.margin": 0.5}
    stages = build(config, "continuation_kd", **fields).stages
    for expected, stage in zip(annealing, stages, strict=True):
        assert dataclasses.replace(expected, loss=None) == dataclasses.replace(stage, loss=None)
    max_temperature = stages[0].max_temperature
    for k in range(max_temperature):
        phi = (k + 1) / max_temperature
        soft = np.maximum(0, annealed_error(phi) - 0.5 * phi)
        loss = loss_of(stages[0], k, teacher=TEACHER)
        np.testing.assert_allclose(loss, soft, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss_of(stages[1]), cross_entropy(STUDENT), rtol=1e-5)


@pytest.mark.parametrize("psi", [0.0, 1.0])
def test_continuation_loss_equals_the_stages_of_annealing_kd(psi):
    loss = continuation_loss("mean", 0.0, 2, lambda batch: jnp.float32(psi))
    student, teacher = Outputs(jnp.asarray(STUDENT)), Outputs(jnp.asarray(TEACHER))
    for k in (0, 1):
        expected = cross_entropy(STUDENT) if psi else annealed_error((k + 1) / 2)
        values = loss(student, {"teacher": teacher}, BATCH, jnp.int32(k))
        np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_continuation_kd_must_reach_psi_1(config):
    for fields in ({"psi_epochs": 10, "psi_until": 10}, {"psi_epochs": 20, "psi_until": 11}):
        named = {f"continuation_kd.{name}": value for name, value in fields.items()}
        with pytest.raises(InputError, match="otherwise psi never reaches 1"):
            build(config, "continuation_kd", **named)
    build(config, "continuation_kd", **{"continuation_kd.psi_until": 9})


def test_all_methods_make_the_same_number_of_updates(config):
    assert {build(config, name).epochs for name in methods.METHODS} == {config.student.epochs}


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        (
            "annealing_kd",
            {"annealing_kd.max_temperature": 6},
            "max_temperature: expected 1 to 5, .* got 6",
        ),
        (
            "annealing_kd",
            {"annealing_kd.stage_1.epochs": 10},
            "fewer than config.student.epochs = 10, got 10",
        ),
        (
            "continuation_kd",
            {"continuation_kd.max_temperature": 11},
            r"continuation_kd\.max_temperature: expected 1 to 10, .* got 11",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named_in_the_error(config, method, fields, message):
    with pytest.raises(InputError, match=message):
        build(config, method, **fields)


def test_unknown_method_is_named_in_the_error(config):
    with pytest.raises(
        InputError, match="one of scratch, kd, takd, annealing_kd, continuation_kd, got 'akd'"
    ):
        build(config, "akd")
