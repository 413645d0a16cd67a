"""RL-KD: its stages, its comparisons, cross-fitted teachers, the reward split, wrong settings."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import data, losses, runs
from akd_jax.host.errors import InputError
from akd_jax.methods import METHODS
from akd_jax.runs import make_plan
from akd_jax.runs.config import parse
from akd_jax.types import Task
from configs import fashion_teachers
from experiments.grid import row_config
from tests.support.groups import teacher, use_grouped_digits
from tests.support.killing import kill_at_evaluation
from tests.support.logits import kl, softmax
from tests.support.networks import use_featured_networks
from tests.support.runs import assert_same_run, assert_trees_equal, read_checkpoint, read_metrics

ADAM = {"name": "adam", "learning_rate": 0.01, "schedule": "constant", "weight_decay": 0.0}


@pytest.fixture
def config(config, monkeypatch):
    """Two teachers on 200 digits: of all examples, and of a group."""
    use_featured_networks(monkeypatch, config, teacher=4, student=4)
    use_grouped_digits(monkeypatch, config)
    config.batch_size = 40
    config.checkpoint_every = 1
    config.teacher.views = 1
    config.student.epochs = 3
    config.student.optimizer.update(ADAM)
    config.method = "rl_kd"
    config.rl_kd.teachers = ConfigDict(
        {
            "wide": teacher(config, 16, epochs=2),
            "odd": teacher(config, 8, epochs=2, group="odd"),
        }
    )
    return config


def use_teachers_of(config, workdir):
    """Takes the finished teachers of another run."""
    for name in ("wide", "odd"):
        config.rl_kd.teachers[name].path = str(workdir / name)


def logits_of(model, inputs):
    return np.float64(model(inputs).logits)


@pytest.mark.slow  # The killed run below has the same stages.
def test_both_pretrainings_then_student_and_policy(config, tmp_path):
    """The stage 'policy' does not change the student; the last stage starts from its policy."""
    config.student.epochs = 4
    config.rl_kd.uniform_epochs = 2
    config.rl_kd.policy_epochs = 1
    runs.run(config, tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["stage"] for line in lines] == ["uniform", "uniform", "policy", "rl_kd"]
    assert all(line["train_rate_wide"] == line["train_rate_odd"] == 1 for line in lines[:2])
    uniform, policy, last = (
        read_checkpoint(tmp_path / f"student/{name}") for name in ("uniform", "policy", "rl_kd")
    )
    assert policy["state"]["params"]["student"] == {}
    assert_trees_equal(policy["state"]["frozen"], uniform["best"]["params"])
    assert_trees_equal(policy["best"], uniform["best"])
    learned = policy["state"]["params"]["loss"]["policy"]["kernel"]
    assert np.abs(learned).max() > 0.001
    # An update of Adam moves a number by at most its learning rate.
    moved = np.abs(last["state"]["params"]["loss"]["policy"]["kernel"] - learned)
    assert 0 < moved.max() <= 0.005 * 5 * 1.01
    assert max(jax.tree.leaves(jax.tree.map(_distance, last["best"], uniform["best"]))) > 0


def _distance(a, b):
    return np.abs(a - b).max()


@pytest.mark.slow  # By default, test_resume.py stops runs; the policy is a part of the state.
def test_killed_run_resumes_to_the_bit(config, tmp_path, monkeypatch):
    config.student.epochs = 5
    config.rl_kd.uniform_epochs, config.rl_kd.policy_epochs = 1, 2
    config.rl_kd.reward = "r3"
    config.rl_kd.baseline = "running"
    config.dataset.reward_size = 15
    runs.run(config, tmp_path / "whole")
    use_teachers_of(config, tmp_path / "whole")
    for epoch in (3, 5):  # The second epochs of the stages in which the policy learns.
        with kill_at_evaluation(monkeypatch, epoch):
            runs.run(config, tmp_path / f"killed_{epoch}")
        runs.run(config, tmp_path / f"killed_{epoch}")
        assert_same_run(tmp_path / f"killed_{epoch}", tmp_path / "whole")


def test_accuracy_of_the_reward_comes_from_examples_that_do_not_choose_the_student(
    config, tmp_path
):
    config.rl_kd.reward = "r3"
    config.rl_kd.baseline = "none"
    config.dataset.reward_size = 16
    config.student.epochs = 1
    config.batch_size = 200  # One update, whose reward reads all 16 examples on four devices.
    runs.run(config, tmp_path)
    plan, models = runs.load(tmp_path)
    splits = plan.dataset.splits
    sizes = {name: len(splits[name]) for name in ("train", "validation", "reward")}
    assert sizes == {"train": 200, "validation": 24, "reward": 16}
    assert "reward" not in plan.dataset.test_splits
    correct = logits_of(models["student"], splits["reward"].inputs).argmax(axis=-1)
    (line,) = read_metrics(tmp_path)
    accuracy = np.mean(correct == splits["reward"].labels)
    assert line["train_reward_accuracy"] == pytest.approx(accuracy, rel=1e-5)
    # The examples of both splits are those of the validation split without a reward.
    config.rl_kd.choice, config.dataset.reward_size = "weighted", 0
    whole = make_plan(config).dataset.splits["validation"].inputs
    parts = np.concatenate([splits["validation"].inputs, splits["reward"].inputs])
    assert sorted(x.tobytes() for x in parts) == sorted(x.tobytes() for x in whole)


@pytest.mark.parametrize("views", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_cross_fitted_teachers_teach_what_they_have_not_seen(config, tmp_path, views):
    config.teacher.views = views
    config.rl_kd.folds = 2
    config.rl_kd.choice = "weighted"
    config.batch_size = 200
    config.student.epochs = 1
    runs.run(config, tmp_path)
    train = make_plan(config).dataset.splits["train"]
    fold = np.arange(200) % 2
    for name in ("wide", "odd"):
        for number in range(2):
            learned_from = fold != number
            if name == "odd":
                learned_from &= train.groups == "odd"
            steps = read_metrics(tmp_path / f"{name}_fold_{number}")[-1]["step"]
            assert steps == 2 * -(-int(learned_from.sum()) // 200)
    student = make_plan(config).student
    initial = student.initial_variables(
        jax.random.fold_in(jax.random.key(config.seed), 0), make_plan(config).dataset.example
    )
    _, models = runs.load(tmp_path)
    outputs = {
        name: np.where(
            fold[:, None] == 0,
            *(logits_of(models[x], train.inputs) for x in losses.fold_names(name, 2)),
        )
        for name in ("wide", "odd")
    }
    target = np.mean([softmax(x) for x in outputs.values()], axis=0)
    logits = np.float64(student.apply(initial, train.inputs, train=False).logits)
    soft = kl(logits, np.log(target), 1).mean()
    (line,) = read_metrics(tmp_path)
    assert line["train_soft"] == pytest.approx(soft, rel=1e-4)
    # Finished teachers of the folds are used again.
    use_teachers_of(config, tmp_path)
    runs.run(config, tmp_path / "again")
    assert not list((tmp_path / "again").glob("*_fold_*"))
    assert_same_run(tmp_path / "again", tmp_path)


def test_uniform_choice_equals_multi_teacher_bit_for_bit(config, tmp_path):
    config.rl_kd.choice = "weighted"
    runs.run(config, tmp_path / "rl_kd")
    config.method = "multi_teacher"
    config.multi_teacher.teachers = config.rl_kd.teachers
    runs.run(config, tmp_path / "multi_teacher")
    a, b = (
        read_checkpoint(tmp_path / f"{name}/student/{name}")["state"]["params"]["student"]
        for name in ("rl_kd", "multi_teacher")
    )
    assert_trees_equal(a, b)


def test_rows_of_a_comparison_are_valid():
    """Each row of a configuration builds a method, with what its name says."""
    config = fashion_teachers.get_config()
    losses_of = {}
    for row in config.variants:
        settings = parse(row_config(config, row))
        method = METHODS[settings.method].build(settings, Task.numbered(10))
        losses_of[row] = method.stages[-1].loss
    assert losses_of["single_small"].weights == (0, 0, 1)
    assert losses_of["uniform"].weights == (1, 1, 1)
    assert losses_of["random"].rule == "random"
    assert [losses_of[f"rl_{reward}"].reward for reward in ("r1", "r2", "r3")] == ["r1", "r2", "r3"]
    assert not losses_of["rl_no_labels"].labels


def set_fields(**fields):
    return lambda config: config.rl_kd.update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.rl_kd.teachers.__delitem__("odd"), "at least two teachers by name, got wide"),
        (set_fields(weight=1.5), r"rl_kd.weight: .*less than or equal to 1, got 1.5"),
        (set_fields(folds=1), "rl_kd.folds: expected 0, or at least 2, got 1"),
        (
            set_fields(choice="random", weights={"wide": 0.5, "odd": 1.5}),
            r"rl_kd.weights.odd: expected a probability from 0 to 1 .*, got 1.5",
        ),
        (
            set_fields(choice="weighted", weights={"wide": 1.0, "even": 1.0}),
            "a weight for each of odd, wide, not all 0, got even 1, wide 1; correct the weights",
        ),
        (
            set_fields(reward="r3", baseline="none"),
            "dataset.reward_size: expected at least 1 .* r3, .* got 0",
        ),
        (
            set_fields(reward="r3"),
            "baseline: expected running or none with the .* r3, .* got batch",
        ),
        (
            set_fields(reward="r3", before_update=True),
            "before_update: expected False with the reward r3, got True",
        ),
        (
            lambda x: x.rl_kd.update(
                {
                    "teachers": {"sentence_encoder": x.rl_kd.teachers["odd"].to_dict()},
                    "sentence_encoder": "sentence:here",
                }
            ),
            "rl_kd.teachers: expected names other than sentence_encoder, .* rename the teacher",
        ),
        (
            set_fields(uniform_epochs=2, policy_epochs=1),
            r"uniform_epochs and policy_epochs below student.epochs \(3\) together, got 3",
        ),
        (
            lambda x: x.dataset.update({"reward_size": 40}),
            "dataset.reward_size: expected fewer than the 40 validation examples, got 40",
        ),
        (
            lambda x: [x.rl_kd.teachers[name].update({"path": "here"}) for name in ("wide", "odd")],
            "wide.path: expected another teacher than that of odd, got 'here' for both",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(config, tmp_path, change, message):
    with config.unlocked():
        change(config)
    with pytest.raises(InputError, match=message) as error:
        runs.run(config, tmp_path)
    assert "\n" not in str(error.value)


def test_regressions_are_refused(config, tmp_path, monkeypatch):
    source = data.DATASETS["grouped"](None)
    task = dataclasses.replace(source.task, labels=())
    train, test = (
        dataclasses.replace(x, labels=np.float32(x.labels)) for x in (source.train, source.test)
    )
    changed = dataclasses.replace(source, task=task, train=train, test=test)
    monkeypatch.setitem(data.DATASETS, "numbers", lambda data_dir: changed)
    config.dataset.name = "numbers"
    with pytest.raises(InputError, match="expected a task with classes for rl_kd, got a regr"):
        runs.run(config, tmp_path)
