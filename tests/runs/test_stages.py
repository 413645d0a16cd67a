"""Stages with examples, evaluations, changes of the batch and losses of their own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses, runs
from akd_jax.data import Examples
from akd_jax.data.augmentation import Augmentation
from akd_jax.host.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.runs import make_plan
from akd_jax.training.evaluate import MeanLoss, Predictor, SeveralTasks, TaskMetrics
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Term
from tests.support.killing import kill_at_evaluation
from tests.support.networks import use_featured_networks
from tests.support.recorder import RecordingLoss
from tests.support.runs import (
    assert_same_run,
    assert_trees_equal,
    read_checkpoint,
    read_metrics,
)
from tests.support.scripted import use_loss, use_method

SGD = OptimizerConfig(learning_rate=0.05)


@pytest.fixture
def config(config, monkeypatch):
    use_featured_networks(monkeypatch, config, teacher=8, student=4)
    config.student.epochs = 3
    return config


class PseudoLabels:
    """Labels 90 test images with the best student of the first stage, and adds 240 others."""

    def __init__(self):
        self.labels = None

    def __call__(self, context):
        images = context.dataset.splits["test"].inputs[:90]
        logits = context.models["first"](images).logits
        predictions = np.asarray(logits).argmax(axis=-1).astype(np.int32)
        train = context.dataset.splits["train"]
        self.labels = np.concatenate([predictions, train.labels[:240]])
        return Examples(np.concatenate([images, train.inputs[:240]]), self.labels)


def use_pseudo_labels(monkeypatch, config):
    """A stage on the training split, and one on examples that its student labels."""
    loss, pseudo_labels = RecordingLoss(), PseudoLabels()

    def build(settings, task):
        first = Stage("first", 2, loss.in_stage(0), SGD)
        second = Stage("second", 3, loss.in_stage(2), SGD, start="first", data=pseudo_labels)
        return Method("custom", (first, second))

    use_method(monkeypatch, config, build)
    return loss, pseudo_labels


def test_stage_trains_on_examples_built_from_an_earlier_student(config, tmp_path, monkeypatch):
    loss, pseudo_labels = use_pseudo_labels(monkeypatch, config)
    results = runs.run(config, tmp_path)
    jax.effects_barrier()
    second = {(epoch, i): 1 for epoch in range(2, 5) for i in range(330)}
    assert loss.examples == {(epoch, i): 1 for epoch in range(2) for i in range(1000)} | second

    # The labels are the predictions of the best student of the first stage.
    plan = make_plan(config)
    best = read_checkpoint(tmp_path / "student/first")["best"]
    test = plan.dataset.splits["test"].inputs[:90]
    predictions = plan.student.apply(best, test, train=False).logits.argmax(axis=-1)
    np.testing.assert_array_equal(pseudo_labels.labels[:90], predictions)
    assert {loss.labels[2, i] for i in range(330)} <= set(range(10))
    assert [loss.labels[4, i] for i in range(330)] == pseudo_labels.labels.tolist()

    # Two updates in each epoch of the second stage, after the ten of the first.
    assert [stage["steps"] for stage in results["stages"]] == [10, 6]
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [5, 10, 12, 14, 16]
    assert [line["epoch"] for line in lines] == [1, 2, 1, 2, 3]


def test_killed_stage_on_its_own_examples_resumes(config, tmp_path, monkeypatch):
    use_pseudo_labels(monkeypatch, config)
    config.checkpoint_every = 2
    # In the second stage: before its first checkpoint, and after it.
    for evaluation, epochs in ((3, 2), (3, 4)):
        with kill_at_evaluation(monkeypatch, evaluation):
            runs.run(config, tmp_path / "killed")
        assert len(read_metrics(tmp_path / "killed")) == epochs
    runs.run(config, tmp_path / "killed")
    runs.run(config, tmp_path / "undisturbed")
    assert_same_run(tmp_path / "killed", tmp_path / "undisturbed")


def no_examples(context):
    return context.dataset.splits["train"].take(np.arange(0))


def small_images(context):
    train = context.dataset.splits["train"]
    return Examples(train.inputs[:, :4], train.labels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (no_examples, "stage custom_0: expected training examples .* got none; return at least"),
        (small_images, r"stage custom_0: .* uint8\[8, 8, 1\], from .* got uint8\[4, 8, 1\]; build"),
    ],
)
def test_bad_examples_are_refused_in_one_line(config, tmp_path, monkeypatch, data, message):
    use_loss(monkeypatch, config, supervised_loss, data=data)
    with pytest.raises(InputError, match=message) as error:
        runs.run(config, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_smallest_score_can_select_the_best_student(config, tmp_path, monkeypatch):
    scores = iter([0.5, 0.2, 0.3])

    def evaluate(context):
        assert set(context.models) == set()
        return lambda model, loss_variables: {"error": np.float32(next(scores))}

    use_loss(monkeypatch, config, supervised_loss, evaluate=evaluate, select=("error", "min"))
    config.checkpoint_every = 1
    results = runs.run(config, tmp_path)
    assert results["select_on"] == "validation error"
    assert results["stages"][0]["best_epoch"] == results["student"]["epoch"] == 2
    assert results["student"]["validation"] == pytest.approx(0.2)
    recorded = [line["validation_error"] for line in read_metrics(tmp_path)]
    assert recorded == pytest.approx([0.5, 0.2, 0.3])
    stage = tmp_path / "student/custom_0"
    second, third = (read_checkpoint(stage, number) for number in (12, 18))
    assert_trees_equal(third["best"]["params"], second["state"]["params"]["student"])


def mean_loss(context):
    """An evaluation by the mean cross-entropy on the validation split."""
    return MeanLoss(supervised_loss, {}, context.batches("validation"))


def test_mean_loss_is_recorded_and_selects(config, tmp_path, monkeypatch):
    use_loss(monkeypatch, config, supervised_loss, evaluate=mean_loss, select=("loss", "min"))
    results = runs.run(config, tmp_path)
    recorded = [line["validation_loss"] for line in read_metrics(tmp_path)]
    assert results["student"]["validation"] == min(recorded)
    plan = make_plan(config)
    validation = plan.dataset.splits["validation"]
    state = read_checkpoint(tmp_path / "student/custom_0")["state"]
    variables = {"params": state["params"]["student"]}
    logits = np.float64(plan.student.apply(variables, validation.inputs, train=False).logits)
    right = logits[np.arange(len(logits)), validation.labels]
    expected = (np.log(np.exp(logits).sum(axis=-1)) - right).mean()
    assert recorded[-1] == pytest.approx(expected, rel=1e-5)


def test_student_is_evaluated_on_several_tasks(config, tmp_path, monkeypatch):
    config.method = "scratch"
    plan = make_plan(config)
    validation = plan.dataset.splits["validation"]
    odd = np.flatnonzero(validation.labels % 2)

    def evaluate(context):
        predictor, task = Predictor(), context.dataset.task
        parts = {"all": validation, "odd": validation.take(odd)}
        return SeveralTasks(
            {
                name: (TaskMetrics(predictor, context.batches(part), task), "accuracy")
                for name, part in parts.items()
            }
        )

    use_loss(monkeypatch, config, supervised_loss, evaluate=evaluate, select=("mean", "max"))
    results = runs.run(config, tmp_path)
    lines = read_metrics(tmp_path)
    for line in lines:
        parts = line["validation_all_accuracy"], line["validation_odd_accuracy"]
        assert line["validation_mean"] == pytest.approx(sum(parts) / 2)
    assert results["student"]["validation"] == max(line["validation_mean"] for line in lines)
    state = read_checkpoint(tmp_path / "student/custom_0")["state"]
    variables = {"params": state["params"]["student"]}
    logits = plan.student.apply(variables, validation.inputs[odd], train=False).logits
    expected = np.mean(logits.argmax(axis=-1) == validation.labels[odd])
    assert lines[-1]["validation_odd_accuracy"] == pytest.approx(expected)


def test_score_that_the_evaluation_does_not_return_is_refused(config, tmp_path, monkeypatch):
    use_loss(monkeypatch, config, supervised_loss, evaluate=mean_loss, select=("bleu", "max"))
    with pytest.raises(InputError, match=r"expected the score 'bleu', .* got loss; ") as error:
        runs.run(config, tmp_path)
    assert "\n" not in str(error.value)


def test_stage_changes_the_batch_after_the_augmentation(config, tmp_path, monkeypatch):
    seen = {}

    def invert(student, teachers, batch, clock, key):
        return batch.replace(inputs=jnp.uint8(16) - batch.inputs)

    def record(ids, views, inputs):
        seen.update(zip(zip(ids.tolist(), views.tolist(), strict=True), inputs, strict=True))

    def loss(student, teachers, batch, clock):
        jax.debug.callback(record, batch.ids, batch.views, batch.inputs)
        return losses.cross_entropy(student.logits, batch.labels)

    use_loss(monkeypatch, config, loss, prepare=invert)
    config.dataset.crop_padding = 1
    config.dataset.train_size = 40
    config.batch_size = 40
    config.student.epochs = 2
    runs.run(config, tmp_path)
    jax.effects_barrier()
    assert seen.keys() == {(i, view) for i in range(40) for view in range(2)}
    plan = make_plan(config)
    train = plan.batches("train")
    views = Augmentation(1, flip=False, seed=config.dataset.seed)
    for view in range(2):
        (batch,) = train.epoch(view)
        expected = 16 - np.asarray(views.view(batch).inputs)
        actual = np.stack([seen[i, view] for i in range(40)])
        np.testing.assert_array_equal(actual, expected[np.argsort(batch.ids)])
        assert (expected != 16 - batch.inputs).any()


def erase_pixels(student, teachers, batch, clock, key):
    """Erases random pixels of each image."""

    def erase(image, example):
        kept = jax.random.bernoulli(jax.random.fold_in(key, example), 0.8, image.shape)
        return jnp.where(kept, image, 0)

    return batch.replace(inputs=jax.vmap(erase)(batch.inputs, batch.ids))


@pytest.mark.slow  # Runs whose stages prepare batches are killed in tests/methods.
def test_killed_run_with_random_changes_of_the_batch_resumes(config, tmp_path, monkeypatch):
    use_loss(monkeypatch, config, supervised_loss, prepare=erase_pixels)
    config.dataset.crop_padding = 1
    config.student.optimizer.schedule = "constant"
    with kill_at_evaluation(monkeypatch, 3):
        runs.run(config, tmp_path / "killed")
    runs.run(config, tmp_path / "killed")
    runs.run(config, tmp_path / "undisturbed")
    assert_same_run(tmp_path / "killed", tmp_path / "undisturbed")
    use_loss(monkeypatch, config, supervised_loss)
    config.student.epochs = 1
    runs.run(config, tmp_path / "plain")
    plain, erased = (read_metrics(tmp_path / name)[0] for name in ("plain", "undisturbed"))
    assert plain["train_loss"] != erased["train_loss"]


class Projection(nn.Module):
    """Mean squared distance of the projected features of the student to those of the teacher.

    It also counts its updates, as a state of its own.
    """

    @nn.compact
    def __call__(self, student, teachers, batch, clock):
        target = teachers["teacher"].features["hidden"]
        updates = self.variable("counts", "updates", lambda: jnp.zeros((), jnp.int32))
        if not self.is_initializing():
            updates.value += 1
        projected = nn.Dense(target.shape[-1])(student.features["hidden"])
        distance = jnp.square(projected - target).mean(axis=-1)
        return {
            "distance": Term(distance, batch.weights, scale=2.0),
            "hard": Term(losses.cross_entropy(student.logits, batch.labels), batch.weights),
        }


def test_run_with_a_loss_that_owns_parameters(config, tmp_path, monkeypatch):
    # The teacher's checkpoints are those of a run of its own, so that it is trained once.
    use_loss(
        monkeypatch,
        config,
        Projection(),
        teachers=("teacher",),
        loss_optimizer=OptimizerConfig(name="adam", learning_rate=0.01),
    )
    config.checkpoint_every = 2
    runs.run(config, tmp_path / "undisturbed")
    config.teacher.path = str(tmp_path / "undisturbed/teacher")
    with kill_at_evaluation(monkeypatch, 3):
        runs.run(config, tmp_path / "killed")
    runs.run(config, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "undisturbed")

    stage = tmp_path / "undisturbed/student/custom_0"
    second, third = (read_checkpoint(stage, number) for number in (12, 18))
    kernels = [x["state"]["params"]["loss"]["Dense_0"]["kernel"] for x in (second, third)]
    assert kernels[0].shape == (4, 8)
    assert (kernels[0] != kernels[1]).any()
    assert third["state"]["loss_state"] == {"counts": {"updates": 15}}

    # Only the student is kept.
    plan, models = runs.load(tmp_path / "undisturbed")
    shapes = jax.eval_shape(plan.student.init, jax.random.key(0), plan.dataset.example)
    for variables in (third["best"], models["student"].variables):
        assert jax.tree.structure(dict(variables)) == jax.tree.structure(dict(shapes))

    lines = read_metrics(tmp_path / "undisturbed")
    for line in lines:
        assert line["train_distance_scale"] == 2
        assert line["train_hard_scale"] == 1
        total = 2 * line["train_distance"] + line["train_hard"]
        assert line["train_loss"] == pytest.approx(total, rel=1e-5)
    assert lines[-1]["train_distance"] < lines[0]["train_distance"]
