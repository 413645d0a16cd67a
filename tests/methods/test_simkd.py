"""Runs of the method simkd: the teacher's classifier in the student, and refusals."""

import jax
import numpy as np
import pytest

from akd_jax import losses, methods, runs
from akd_jax.methods.scratch import supervised_loss
from akd_jax.runs.config import parse
from akd_jax.runs.creation import obtain_teacher
from akd_jax.runs.dry_run import rehearse
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from experiments import export
from tests.support.configs import small_config
from tests.support.killing import kill_at_evaluation
from tests.support.runs import (
    assert_refused,
    assert_same_run,
    assert_trees_equal,
    read_checkpoint,
    read_metrics,
)
from tests.support.scripted import use_loss, use_method


def simkd_config():
    """A run with a teacher whose last map has one pixel; its classifier reads the mean of it."""
    config = small_config()
    config.method = "simkd"
    config.teacher.model = "plain_cnn:6 M 6 M 8 M 8 FC"
    config.teacher.epochs = 2
    config.student.model = "simkd:8,plain_cnn:4 M FC"
    config.student.epochs = 3
    config.student.optimizer.weight_decay = 0.01
    config.checkpoint_every = 1
    return config


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("teacher")
    obtain_teacher(runs.make_plan(simkd_config()), "teacher", workdir)
    return str(workdir / "teacher")


@pytest.fixture(scope="module")
def simkd_run(teacher_path, tmp_path_factory):
    config = simkd_config()
    config.teacher.path = teacher_path
    workdir = tmp_path_factory.mktemp("run")
    runs.run(config, workdir)
    return workdir


@pytest.fixture
def config(teacher_path):
    config = simkd_config()
    config.teacher.path = teacher_path
    return config


def test_the_student_predicts_with_the_classifier_of_its_teacher(simkd_run):
    plan, trained = runs.load(simkd_run)
    images = plan.dataset.splits["test"].inputs[:5]
    student, teacher = (trained[name](images) for name in ("student", "teacher"))
    assert np.any(student.head.kernel)
    assert_trees_equal(student.head, teacher.head)
    pooled = student.features["transferred"].mean(axis=(1, 2))
    expected = pooled @ teacher.head.kernel + teacher.head.bias
    np.testing.assert_allclose(student.logits, expected, rtol=1e-4, atol=1e-5)
    checkpoint = read_checkpoint(simkd_run / "student/simkd")
    for variables in (checkpoint["state"]["model_state"], checkpoint["best"]):
        np.testing.assert_array_equal(variables["frozen"]["kernel"], teacher.head.kernel)


def test_the_student_approaches_the_features_of_its_teacher(simkd_run):
    records = read_metrics(simkd_run)
    errors = [record["train_features"] for record in records]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]
    np.testing.assert_allclose([record["train_loss"] for record in records], errors, rtol=1e-5)


@pytest.mark.slow  # tests/runs kills runs of other methods.
def test_a_killed_run_ends_like_an_undisturbed_run(config, simkd_run, tmp_path, monkeypatch):
    with kill_at_evaluation(monkeypatch, 2):
        runs.run(config, tmp_path)
    runs.run(config, tmp_path)
    assert_same_run(tmp_path, simkd_run)


def test_an_export_has_the_transfer_and_the_classifier(simkd_run, tmp_path):
    export.export_network(simkd_run, "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    plan, _ = runs.load(simkd_run, teachers=False)
    images = plan.dataset.splits["test"].inputs[:20]
    expected = runs.predict(simkd_run)["student"][:20]
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(exported.call(images), expected, atol=1e-5)


@pytest.mark.slow  # Stored features are tested with other methods.
def test_a_student_learns_from_stored_features(config, tmp_path):
    config.teacher.views = 1
    config.student.epochs = 1
    config.simkd.supervised_weight = 0.5
    runs.run(config, tmp_path)
    (store,) = (tmp_path / "teacher_logits").iterdir()
    assert [path.name for path in store.glob("*.feature.*")] == ["view_0000.feature.group_4.npy"]
    (record,) = read_metrics(tmp_path)
    expected = record["train_features"] + 0.5 * record["train_supervised"]
    np.testing.assert_allclose(record["train_loss"], expected, rtol=1e-5)
    _, trained = runs.load(tmp_path)
    frozen = trained["student"].variables["frozen"]
    np.testing.assert_array_equal(
        frozen["kernel"], trained["teacher"].variables["params"]["Dense_0"]["kernel"]
    )


def test_a_dry_run_reads_the_features(config):
    (stage,) = rehearse(config)["stages"]
    assert np.isfinite(stage["loss"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"student.model": "plain_cnn:4 M FC"},
            r"config\.student\.model: expected simkd:CHANNELS,STUDENT for the method simkd, got"
            r" 'plain_cnn:4 M FC'; write simkd:64,resnet:8",
        ),
        (
            {"student.model": "simkd:6,plain_cnn:4 M FC"},
            r"config\.student\.model: expected simkd:8,STUDENT for the 8 inputs of the teacher's"
            r" classifier, got 'simkd:6,plain_cnn:4 M FC'; change the number of channels",
        ),
        (
            {"teacher.path": "", "teacher.model": "plain_cnn:8 M FC"},
            r"config\.teacher\.model: expected a classifier of the mean of the last map, which has"
            r" 8 channels, got 128 inputs; choose a residual network",
        ),
        (
            {"student.model": "simkd:8,plain_cnn:FC"},
            r"config\.student\.model: simkd: expected networks that return maps as group_1",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(config, tmp_path, fields, message):
    config.update_from_flattened_dict(fields)
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def test_a_classifier_of_stored_outputs_is_refused(config, tmp_path, monkeypatch):
    config.student.model = "plain_cnn:4 M FC"
    config.teacher.views = 1
    loss = losses.SRRL(("group_1", "pooled"))
    use_loss(monkeypatch, config, loss, teachers=("teacher",))
    message = r"config\.teacher\.views: expected 0, .* reads the head of teacher, .* got 1;"
    assert_refused(config, tmp_path / "run", message)
    config.teacher.views = 0
    runs.make_plan(config)


def use_initial_variables(monkeypatch, config, initialise):
    """Makes a run train without progress from the variables that `initialise` returns."""

    def build(settings, task):
        optimizer = OptimizerConfig(name="sgd", learning_rate=1e-12, weight_decay=0.0)
        stage = Stage("only", 1, supervised_loss, optimizer)
        return Method("custom", (stage,), methods.default_teacher(settings), initialise)

    use_method(monkeypatch, config, build)


def test_a_method_can_start_from_the_variables_of_a_teacher(config, tmp_path, monkeypatch):
    config.student.model = config.teacher.model
    use_initial_variables(
        monkeypatch, config, lambda student, teachers, inputs: teachers["teacher"].variables
    )
    runs.run(config, tmp_path)
    _, trained = runs.load(tmp_path)
    student, teacher = (trained[name].variables["params"] for name in ("student", "teacher"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), student, teacher)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda variables: {"params": variables["params"]},
            r"custom: expected the initial variable \['batch_stats'\].* to stay float32\[4\], got"
            r" none; change the method's `initialise`",
        ),
        (
            lambda variables: {**variables, "more": variables["params"]},
            r"variable \['more'\].* to stay absent, got float32",
        ),
    ],
)
def test_initial_variables_of_other_shapes_are_refused(
    config, tmp_path, monkeypatch, change, message
):
    config.student.model = "plain_cnn:4 M FC"
    use_initial_variables(
        monkeypatch, config, lambda student, teachers, inputs: change(student.variables)
    )
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def test_the_supervised_loss_is_left_out_without_a_weight():
    parsed = parse(simkd_config())
    (stage,) = methods.METHODS["simkd"].build(parsed, None).stages
    assert stage.loss.losses.keys() == {"features"}
