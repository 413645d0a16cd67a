import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import methods
from akd_jax.data import Batches, Examples
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.runs.config import parse
from akd_jax.training.method import Pretrained, Trained
from akd_jax.training.stage import StageContext
from akd_jax.training.terms import evaluate_loss
from akd_jax.types import UNLABELLED, Batch, Clock, Outputs, TargetVocabulary, Task
from tests.support import logits as in_numpy
from tests.support.errors import error_of

# Expected losses are NumPy formulas in float64; they do not use the library's losses.
RNG = np.random.default_rng(0)
STUDENT, TEACHER = np.float32(RNG.normal(size=(2, 6, 10)))
LABELS = np.int32(RNG.integers(0, 10, 6))
BATCH = Batch(np.zeros((6, 1)), LABELS, np.ones(6, np.float32))
DIGITS, REGRESSION = Task.numbered(10), Task((), ("pearson",))
TEXTS = Task((), ("bleu",), target=TargetVocabulary("key", 10, start=1, end=2, pad=0, decode=list))
OF_TEXTS = ("seq_kd", "imitkd", "gkd")
OTHERS = (*OF_TEXTS, "l2kd")  # l2kd reads a stream of tasks; see test_l2kd.py.
CASES = [
    *((name, DIGITS) for name in methods.METHODS if name not in OTHERS),
    *((name, REGRESSION) for name in methods.METHODS if name not in ("rl_kd", *OTHERS)),
    *((name, TEXTS) for name in ("scratch", "kd", "annealing_kd", *OF_TEXTS)),
]
CROSS_ENTROPY = in_numpy.cross_entropy(np.float64(STUDENT), LABELS)


def build(config, method, task=DIGITS, **fields):
    config.method = method
    if method == "textual_kd":
        config.student.model = "speech:8,1x16"
        config.textual_kd.sentence.encoder = "sentence:encoder"
    if method in ("multi_teacher", "rl_kd"):
        config[method].teachers = {"one": {}, "two": {}}
    config.update_from_flattened_dict(fields)
    return methods.METHODS[method].build(parse(config), task)


def terms_of(stage, *, batch=BATCH, student=STUDENT, k=0, epoch=0, **teachers):
    """The terms of a stage's loss by name."""
    terms, _ = evaluate_loss(
        stage.loss,
        {},
        Outputs(jnp.asarray(student)),
        {name: Outputs(jnp.asarray(logits)) for name, logits in teachers.items()},
        batch,
        Clock.at(temperature_step=k, epoch=epoch),
        key=jax.random.key(0),
        axis_name=None,
    )
    return terms


def loss_of(stage, **arguments):
    """The sum of the scaled values of all terms, per example."""
    return sum(term.scale * term.values for term in terms_of(stage, **arguments).values())


def soft_labels(temperature):
    return in_numpy.kl(np.float64(STUDENT), np.float64(TEACHER), temperature)


def annealed_error(phi):
    return np.square(np.float64(STUDENT) - phi * TEACHER).mean(axis=-1)


def values_of(schedule, times):
    return [float(schedule(Clock.at(**time))) for time in times]


def test_scratch_is_cross_entropy_without_a_teacher(config):
    method = build(config, "scratch")
    (stage,) = method.stages
    assert method.teachers == {}
    assert stage.teachers == ()
    np.testing.assert_allclose(loss_of(stage), CROSS_ENTROPY, rtol=1e-5)


def test_kd_by_hand(config):
    # T = 2, weight 1/4. The probabilities at T are (3/4, 1/4) and (1/2, 1/2).
    (stage,) = build(config, "kd", **{"kd.temperature": 2.0, "kd.weight": 0.25}).stages
    batch = Batch(np.zeros((1, 1)), np.int32([0]), np.ones(1, np.float32))
    loss = loss_of(stage, batch=batch, student=np.zeros((1, 2)), teacher=2 * np.log([[0.75, 0.25]]))
    expected = 0.75 * np.log(2) + 0.25 * 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_kd_mixes_hard_and_soft_labels(config, weight):
    (stage,) = build(config, "kd", **{"kd.temperature": 3.0, "kd.weight": weight}).stages
    expected = (1 - weight) * CROSS_ENTROPY + weight * soft_labels(3.0)
    np.testing.assert_allclose(loss_of(stage, teacher=TEACHER), expected, rtol=1e-4)
    terms = terms_of(stage, teacher=TEACHER)
    assert {name: float(term.scale) for name, term in terms.items()} == {
        "hard": 1 - weight,
        "soft": weight,
    }
    assert values_of(stage.schedules["temperature"], [{"epoch": 0}, {"epoch": 9}]) == [3, 3]


def test_kd_learns_from_the_teacher_on_unlabelled_examples(config):
    (stage,) = build(config, "kd").stages
    batch = BATCH.replace(labels=np.where(np.arange(6) < 2, UNLABELLED, LABELS))
    terms = terms_of(stage, batch=batch, teacher=TEACHER)
    np.testing.assert_array_equal(terms["hard"].weights, [0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(terms["soft"].weights, np.ones(6))


def test_kd_of_a_regression_mixes_squared_errors(config):
    (stage,) = build(config, "kd", REGRESSION, **{"kd.weight": 0.25}).stages
    student, teacher, labels = np.float32(RNG.normal(size=(3, 6)))
    batch = BATCH.replace(labels=labels)
    loss = loss_of(stage, batch=batch, student=student[:, None], teacher=teacher[:, None])
    expected = 0.75 * (student - labels) ** 2 + 0.25 * (student - teacher) ** 2
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert stage.schedules == {}  # A regression has no temperature.


def test_annealing_kd_has_the_two_stages_of_the_paper(config):
    fields = {
        "student.epochs": 12,
        "annealing_kd.stage_1.epochs": 8,
        "annealing_kd.max_temperature": 4,
    }
    stage_1, stage_2 = build(config, "annealing_kd", **fields).stages
    assert (stage_1.epochs, stage_2.epochs) == (8, 4)
    assert (stage_1.start, stage_2.start) == (None, "stage_1")
    assert (stage_1.teachers, stage_2.teachers) == (("teacher",), ())
    assert [stage_1.temperature_step(epoch) for epoch in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {stage_2.temperature_step(epoch) for epoch in range(4)} == {0}
    times = [{"temperature_step": k} for k in range(4)]
    assert values_of(stage_1.schedules["temperature"], times) == [4, 3, 2, 1]
    assert values_of(stage_1.schedules["phi"], times) == [0.25, 0.5, 0.75, 1]
    assert stage_2.schedules == {}
    for k in range(4):
        loss = loss_of(stage_1, k=k, teacher=TEACHER)
        np.testing.assert_allclose(loss, annealed_error((k + 1) / 4), rtol=1e-5)
    np.testing.assert_allclose(loss_of(stage_2), CROSS_ENTROPY, rtol=1e-5)


def test_stage_1_weighs_errors_by_the_teachers_probabilities(config):
    fields = {"annealing_kd.max_temperature": 2, "annealing_kd.stage_1.error": "weighted"}
    fields["annealing_kd.stage_1.weight_temperature"] = 3.0
    stage = build(config, "annealing_kd", **fields).stages[0]
    weights = in_numpy.softmax(np.float64(TEACHER) / 3)
    for k, phi in enumerate((0.5, 1.0)):
        errors = np.float64(STUDENT) - phi * TEACHER
        expected = [np.cov(row, aweights=p, ddof=0) for row, p in zip(errors, weights, strict=True)]
        np.testing.assert_allclose(loss_of(stage, k=k, teacher=TEACHER), expected, rtol=1e-5)


def test_stage_1_centres_and_scales_the_teachers_logits(config):
    name = "annealing_kd.stage_1.teacher_logits"
    config.annealing_kd.max_temperature = 2
    centred = np.float64(TEACHER) - TEACHER.mean(axis=-1, keepdims=True)
    stage = build(config, "annealing_kd", **{name: "centred"}).stages[0]
    moved = TEACHER + np.float32(RNG.normal(size=(6, 1)))  # The softmax does not see it.
    expected = np.square(np.float64(STUDENT) - centred / 2).mean(axis=-1)  # Phi is 1/2.
    np.testing.assert_allclose(loss_of(stage, teacher=moved), expected, rtol=1e-4)
    assert stage.loss_data is None
    # The scale is that of the whole training split, not of a batch.
    stage = build(config, "annealing_kd", **{name: "scaled"}).stages[0]
    examples = Examples(TEACHER, LABELS)
    context = StageContext(
        dataset=None,
        models={"teacher": Model({}, lambda variables, inputs, **options: Outputs(inputs))},
        batches=lambda split: Batches(examples, 4),
        tokenise=None,
        digest=None,
    )
    scale = centred.std()
    terms, _ = evaluate_loss(
        stage.loss,
        stage.build_loss_data(context),
        Outputs(jnp.asarray(STUDENT)),
        {"teacher": Outputs(jnp.asarray(TEACHER))},
        BATCH,
        Clock.at(),
        key=jax.random.key(0),
        axis_name=None,
    )
    (term,) = terms.values()
    expected = np.square(np.float64(STUDENT) - centred / scale / 2).mean(axis=-1)
    np.testing.assert_allclose(term.values, expected, rtol=1e-5)


def test_logits_of_generated_texts_have_no_scale(config):
    config.annealing_kd.stage_1.teacher_logits = "scaled"
    config.method = "annealing_kd"
    task = Task((), target=TargetVocabulary("x", 5, 1, 2, 0, decode=str))
    with pytest.raises(InputError, match="expected raw or centred for texts to generate, got sca"):
        methods.METHODS["annealing_kd"].build(parse(config), task)


def test_stage_2_starts_from_the_last_student_and_keeps_the_teacher(config):
    fields = {"stage_1.student": "last", "stage_2.kd_weight": 0.25, "stage_2.temperature": 3.0}
    fields = {f"annealing_kd.{name}": value for name, value in fields.items()}
    stage_1, stage_2 = build(config, "annealing_kd", **fields).stages
    assert stage_1.select == ("accuracy", "last")
    assert (stage_2.start, stage_2.teachers, stage_2.select) == ("stage_1", ("teacher",), None)
    expected = 0.75 * CROSS_ENTROPY + 0.25 * soft_labels(3.0)
    np.testing.assert_allclose(loss_of(stage_2, teacher=TEACHER), expected, rtol=1e-4)


@pytest.mark.parametrize("method", ["annealing_kd", "continuation_kd"])
def test_changed_targets_need_classes_and_annealing_kd(config, method):
    task = REGRESSION if method == "annealing_kd" else DIGITS
    fields = {"annealing_kd.stage_1.teacher_logits": "centred", "continuation_kd.psi": "step"}
    message = error_of(lambda: build(config, method, task, **fields))
    assert "expected error=squared and teacher_logits=raw for" in message


def test_annealing_kd_can_sum_over_classes(config):
    fields = {"annealing_kd.class_reduction": "sum", "annealing_kd.max_temperature": 2}
    stage = build(config, "annealing_kd", **fields).stages[0]
    loss = loss_of(stage, k=0, teacher=TEACHER)
    np.testing.assert_allclose(loss, 10 * annealed_error(0.5), rtol=1e-5)


def test_takd_student_reads_the_assistant_and_the_assistant_reads_the_teacher(config):
    fields = {"kd.temperature": 3.0, "kd.weight": 0.25, "takd.assistant.epochs": 7}
    method = build(config, "takd", **fields)
    assert method.teachers.keys() == {"assistant"}
    assistant = method.teachers["assistant"]
    assert assistant.model == config.takd.assistant.model
    assert assistant.method.teachers.keys() == {"teacher"}
    assert assistant.method.epochs == 7
    expected = 0.75 * CROSS_ENTROPY + 0.25 * soft_labels(3.0)
    for (stage,), name in (
        (method.stages, "assistant"),
        (assistant.method.stages, "teacher"),
    ):
        assert stage.teachers == (name,)
        loss = loss_of(stage, **{name: TEACHER, "other": TEACHER[::-1]})
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("method", ["kd", "takd", "annealing_kd", "continuation_kd"])
def test_teacher_is_trained_on_the_hard_labels(config, method):
    config.update_from_flattened_dict({"teacher.epochs": 3, "teacher.seed": 5})
    recipes = dict(build(config, method).all_teachers())
    teacher = recipes["teacher"]
    assert isinstance(teacher, Trained)
    assert (teacher.model, teacher.seed) == (config.teacher.model, 5)
    assert teacher.settings["teacher"]["epochs"] == 3
    assert "path" not in teacher.settings["teacher"]
    (stage,) = teacher.method.stages
    assert stage.epochs == 3
    np.testing.assert_allclose(loss_of(stage), CROSS_ENTROPY, rtol=1e-5)


def test_a_path_replaces_the_training_of_a_teacher(config):
    config.teacher.path = "runs/teacher"
    teachers = build(config, "kd").teachers
    assert teachers == {"teacher": Pretrained("runs/teacher", "config.teacher.path")}
    # The assistant may be finished although the teacher is not, and is then all that is needed.
    config.update_from_flattened_dict({"teacher.path": "", "takd.assistant.path": "runs/small"})
    recipes = dict(build(config, "takd").all_teachers())
    assert recipes == {"assistant": Pretrained("runs/small", "config.takd.assistant.path")}


def test_what_trains_a_teacher_is_in_its_settings(config):
    def settings(**fields):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(fields)
        return build(changed, "takd").teachers["assistant"].settings

    expected = settings()
    for field, value in (
        ("takd.assistant.epochs", 77),
        ("takd.assistant.optimizer.learning_rate", 0.77),
        ("kd.temperature", 7.7),
        ("kd.weight", 0.77),
        ("teacher.views", 7),
    ):
        assert settings(**{field: value}) != expected, field
    for field, value in (
        ("student.epochs", 77),
        ("teacher.cache_dir", "elsewhere"),
        ("student.optimizer.learning_rate", 0.77),
    ):
        assert settings(**{field: value}) == expected, field


@pytest.mark.parametrize(("epoch", "psi"), [(0, 0.0), (4, 0.5), (5, 0.625), (6, 1.0), (9, 1.0)])
def test_continuation_kd_raises_psi_with_the_epoch(config, epoch, psi):
    fields = {
        "continuation_kd.max_temperature": 5,
        "continuation_kd.margin": 0.1,
        "continuation_kd.psi_epochs": 8,
        "continuation_kd.psi_until": 6,
    }
    (stage,) = build(config, "continuation_kd", **fields).stages
    assert stage.epochs == 10
    assert [stage.temperature_step(e) for e in range(10)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert values_of(stage.schedules["psi"], [{"epoch": epoch}]) == [psi]
    assert values_of(stage.schedules["temperature"], [{"temperature_step": 2}]) == [3]
    loss = loss_of(stage, k=2, epoch=epoch, teacher=TEACHER)
    soft = np.maximum(0, annealed_error(3 / 5) - 0.1 * 3 / 5)
    expected = psi * CROSS_ENTROPY + (1 - psi) * soft
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)


def test_continuation_kd_with_a_step_has_the_stages_of_annealing_kd(config):
    annealing = build(config, "annealing_kd").stages
    fields = {"continuation_kd.psi": "step", "continuation_kd.margin": 0.5}
    stages = build(config, "continuation_kd", **fields).stages
    functions = {"loss": None, "temperature_step": None, "schedules": None}
    times = [{"temperature_step": k} for k in range(3)]
    for expected, stage in zip(annealing, stages, strict=True):
        without_functions = [dataclasses.replace(s, **functions) for s in (expected, stage)]
        assert without_functions[0] == without_functions[1]
        epochs = range(stage.epochs)
        steps = [list(map(s.temperature_step, epochs)) for s in (expected, stage)]
        assert steps[0] == steps[1]
        assert expected.schedules.keys() == stage.schedules.keys()
        for name, schedule in stage.schedules.items():
            assert values_of(schedule, times) == values_of(expected.schedules[name], times)
    max_temperature = config.annealing_kd.max_temperature
    for k in range(max_temperature):
        phi = (k + 1) / max_temperature
        soft = np.maximum(0, annealed_error(phi) - 0.5 * phi)
        loss = loss_of(stages[0], k=k, teacher=TEACHER)
        np.testing.assert_allclose(loss, soft, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss_of(stages[1]), CROSS_ENTROPY, rtol=1e-5)


def test_continuation_kd_without_a_margin_and_with_a_step_is_annealing_kd(config):
    expected = build(config, "annealing_kd").stages
    fields = {"continuation_kd.psi": "step", "continuation_kd.margin": 0.0}
    stages = build(config, "continuation_kd", **fields).stages
    for k in (0, 1):
        for stage, other in zip(stages, expected, strict=True):
            arguments = {"k": k, "teacher": TEACHER}
            np.testing.assert_array_equal(loss_of(stage, **arguments), loss_of(other, **arguments))


def test_continuation_kd_must_reach_psi_1(config):
    for fields in ({"psi_epochs": 10, "psi_until": 10}, {"psi_epochs": 20, "psi_until": 11}):
        named = {f"continuation_kd.{name}": value for name, value in fields.items()}
        with pytest.raises(InputError, match="otherwise psi never reaches 1"):
            build(config, "continuation_kd", **named)
    build(config, "continuation_kd", **{"continuation_kd.psi_until": 9})


def test_compose_without_other_terms_is_scratch(config):
    method = build(config, "compose")
    (stage,) = method.stages
    assert method.teachers == {}
    assert stage.teachers == ()
    np.testing.assert_allclose(loss_of(stage), CROSS_ENTROPY, rtol=1e-5)


def test_compose_adds_the_terms_with_a_weight(config):
    fields = {
        "compose.supervised.weight": 0.5,
        "compose.kl.weight": 2.0,
        "compose.kl.end_weight": 1.0,
        "compose.kl.schedule": "linear",
        "compose.kl.schedule_epochs": 4,
        "compose.kl.temperature": 3.0,
    }
    method = build(config, "compose", **fields)
    (stage,) = method.stages
    assert stage.teachers == ("teacher",)
    assert method.teachers.keys() == {"teacher"}
    for epoch, weight in ((0, 2.0), (1, 1.75), (4, 1.0), (9, 1.0)):
        loss = loss_of(stage, epoch=epoch, teacher=TEACHER)
        expected = 0.5 * CROSS_ENTROPY + weight * soft_labels(3.0)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
    fields["compose.supervised.weight"] = 0.0
    (stage,) = build(config, "compose", **fields).stages
    np.testing.assert_allclose(loss_of(stage, teacher=TEACHER), 2 * soft_labels(3.0), rtol=1e-4)


def test_compose_reads_pairs_of_features(config):
    fields = {
        "compose.rkd_distance.weight": 25.0,
        "compose.rkd_distance.layers": "low, middle:high",
        "compose.rkd_angle.weight": 50.0,
        "compose.rkd_angle.layers": "low:high",
    }
    (stage,) = build(config, "compose", **fields).stages
    features = {name: jnp.float32(RNG.normal(size=(6, 4))) for name in ("low", "middle", "high")}
    outputs = Outputs(jnp.asarray(STUDENT), features)
    teacher = Outputs(jnp.asarray(TEACHER), {name: x[::-1] for name, x in features.items()})
    # A distance to itself is 0: `middle` and `high` of the teacher are exchanged here.
    same = Outputs(jnp.asarray(TEACHER), {**features, "high": features["middle"]})

    def evaluate(teacher):
        terms, _ = evaluate_loss(
            stage.loss,
            {},
            outputs,
            {"teacher": teacher},
            BATCH,
            Clock.at(),
            key=jax.random.key(0),
            axis_name=None,
        )
        return terms

    terms = evaluate(teacher)
    assert {name: float(term.scale) for name, term in terms.items()} == {
        "supervised": 1,
        "rkd_distance_low": 25,
        "rkd_distance_middle": 25,
        "rkd_angle": 50,
    }
    assert all(term.values.max() > 1e-3 for term in terms.values())
    terms = evaluate(same)
    for name in ("rkd_distance_low", "rkd_distance_middle"):
        np.testing.assert_allclose(terms[name].values, 0, atol=1e-6)
    assert terms["rkd_angle"].values.max() > 1e-3


def test_all_methods_make_the_same_number_of_updates(config):
    epochs = {build(config, name, task).epochs for name, task in CASES}
    assert epochs == {config.student.epochs}


@pytest.mark.parametrize(
    ("name", "task"),
    CASES,
)
def test_method_has_its_own_name_and_can_be_built_twice(config, name, task):
    first, second = (build(config, name, task) for _ in range(2))
    assert first.name == second.name == name
    assert [stage.name for stage in first.stages] == [stage.name for stage in second.stages]
    pretrainings = {"masked_codes", "sentence", "sentence_encoder"}
    known = {"teacher", "assistant", "one", "two", *pretrainings}
    assert dict(first.all_teachers()).keys() <= known


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
        (
            "compose",
            {"compose.supervised.weight": 0.0},
            r"config\.compose: expected a term with a weight above 0, got none; set",
        ),
        (
            "compose",
            {"compose.supervised.schedule": "exponential"},
            r"config\.compose\.supervised: start, end: expected values greater than 0, got 1.0 and",
        ),
        (
            "compose",
            {"compose.hint.weight": 1.0, "compose.hint.layers": "low:a,low:b"},
            r"config\.compose\.hint\.layers: expected different features of the .* 'low' twice;",
        ),
        (
            "kd",
            {"student.optimizer.warmup_epochs": 10},
            "kd: expected warmup_epochs below its 10 epochs, got 10; set fewer",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named_in_the_error(config, method, fields, message):
    with pytest.raises(InputError, match=message):
        build(config, method, **fields)


def test_a_regression_has_no_kl_divergence(config):
    with pytest.raises(InputError, match=r"kl\.weight: expected 0 in a regression, .* got 0\.5;"):
        build(config, "compose", REGRESSION, **{"compose.kl.weight": 0.5})
