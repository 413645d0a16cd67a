"""L2KD: its stages, replay and resume."""

import re
import shutil

import jax
import numpy as np
import pytest

from akd_jax import data, runs
from akd_jax.data import Batches
from akd_jax.data.readers import tsv
from akd_jax.host import records
from akd_jax.host.errors import StoppedError
from akd_jax.methods import METHODS
from akd_jax.training import replay
from akd_jax.types import Task
from tests.support.errors import error_of
from tests.support.runs import assert_same_run, read_metrics
from tests.support.stopping import stop_at_check
from tests.support.streaming import LENGTH, TASKS, stream_config, write_stream


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("l2kd")
    write_stream(root / "stream")
    config = stream_config(root / "stream")
    config.l2kd.gamma = 0.5
    config.l2kd.variant = "seq_kd_soft"
    runs.run(config, root / "run")
    return root


@pytest.fixture
def config(root):
    config = stream_config(root / "stream")
    config.l2kd.gamma = 0.5
    return config


def final_params(folder):
    """The best parameters of the last stage, by path."""
    _, models = runs.load(folder)
    return jax.tree.map(np.asarray, models["student"].variables["params"])


def assert_equal_params(one, other):
    jax.tree.map(np.testing.assert_array_equal, final_params(one), final_params(other))


def texts_of(folder, name):
    (path,) = folder.glob(f"teacher_logits/{name}.texts-*/texts.tsv")
    return list(tsv.read(path, ("source", "target", "ended")).rows.values())


def test_the_run_has_the_scores_on_all_tasks_so_far(root):
    results = records.read(root / "run/results.json")
    stages = results["stages"]
    assert [stage["name"] for stage in stages] == ["copy", "reverse"]
    assert [list(stage["tests"]) for stage in stages] == [
        ["test_copy"],
        ["test_copy", "test_reverse"],
    ]
    last = stages[-1]["tests"]
    # The scores of the result are those of the last stage, whose last epoch counts.
    assert results["student"]["test"] == pytest.approx(np.mean(list(last.values())))
    assert results["student"]["test"] == results["student"]["test_last"]
    assert results["student"]["metrics"]["test_reverse"]["score"] == last["test_reverse"]
    assert 0 <= stages[1]["malformed"] <= 1
    for stage in stages:
        name = stage["name"]
        teacher = records.read(root / f"run/teacher_{name}/results.json")
        assert teacher["stages"][0]["best_validation"] == teacher["validation"]
        # The score of a teacher is that on its own task.
        own = teacher["metrics"][f"test_{name}"]["score"]
        assert teacher["test"] == own == results[f"teacher_{name}"]["test"]
        assert stage["teacher_tests"] == {f"test_{name}": own}
    assert results["select_on"] == "last epoch"


def test_teachers_are_thrown_away_unless_they_are_kept(root, config, tmp_path):
    assert not list((root / "run").glob("teacher_*/scratch"))
    _, models = runs.load(root / "run")
    assert list(models) == ["student"]
    config.l2kd.variant, config.l2kd.keep_teachers = "word_kd", True
    config.dataset.tasks, config.student.epochs, config.teacher.epochs = "copy", 1, 1
    runs.run(config, tmp_path)
    _, models = runs.load(tmp_path)
    assert list(models) == ["student", "teacher_copy"]


def test_rows_of_the_stage_are_new_examples_and_replay_in_both_views(root, config):
    """24 examples of the new task and half as many of the earlier one, if all are well-formed."""
    results = records.read(root / "run/results.json")
    kept = round(12 * (1 - results["stages"][1]["malformed"]))
    rows = 2 * (24 + kept)
    assert results["stages"][1]["steps"] == 2 * -(-rows // 16)
    replayed = texts_of(root / "run", "replay_after_copy")
    assert [source for source, *_ in replayed] == [f"copy {number}" for number in range(12)]
    well_formed = [replay.parse(text, ended=ended == "1") for _, text, ended in replayed]
    assert sum(row is not None for row in well_formed) == kept
    written = texts_of(root / "run", "teacher_reverse")
    train = data.load(runs.make_plan(config).settings.dataset).splits["train"]
    inputs = train.inputs[train.groups == "reverse"]
    assert [source for source, *_ in written] == [f"{row[0]} {row[1]}" for row in inputs]


@pytest.mark.parametrize(
    ("text", "ended", "expected"),
    [
        ("ab again? <answer> ab", True, ("ab again?", "ab")),
        ("ab again? <answer> ab", False, None),
        ("ab again?", True, None),
        ("ab <answer> a <answer> b", True, None),
        ("<answer> ab", True, None),
        ("ab again? <answer> ", True, None),
    ],
)
def test_malformed_texts_are_dropped(text, ended, expected):
    assert replay.parse(text, ended=ended) == expected


def test_replay_depends_on_its_number_and_not_on_the_batches(root, config):
    plan, models = runs.load(root / "run")
    target = plan.dataset.task.target
    written = []
    for size, numbers in ((16, np.arange(20)), (4, np.arange(20)[::-1])):
        sampler = replay.Sampler(target, LENGTH, top_k=3, seed=1)
        texts = sampler(
            models["student"],
            lambda examples, size=size: Batches(examples, size, buckets=plan.dataset.buckets),
            plan.dataset,
            ["copy" if number % 2 else "reverse" for number in numbers],
            numbers,
            learned=2,
        )
        written.append({n: x.texts for n, x in zip(numbers.tolist(), texts, strict=True)})
    assert written[0] == written[1]
    assert len({text for (text,) in written[0].values()}) > 10


def test_gamma_0_is_the_stream_without_replay(config, tmp_path):
    config.l2kd.variant, config.l2kd.gamma = "lamol", 0.0
    runs.run(config, tmp_path / "none")
    config.l2kd.replay = "real"
    runs.run(config, tmp_path / "real")
    assert_equal_params(tmp_path / "none", tmp_path / "real")
    assert not list((tmp_path / "none").glob("teacher_logits/replay*"))
    # The second task is learned as if it was the only one, from the parameters of the first.
    steps = [stage["steps"] for stage in records.read(tmp_path / "none/results.json")["stages"]]
    assert steps == [2 * 48 // 16] * 2


def test_a_stream_of_one_task_equals_plain_training(config, tmp_path):
    config.dataset.tasks = "copy"
    for variant in ("lamol", "multitask"):
        config.l2kd.variant = variant
        runs.run(config, tmp_path / variant)
    assert_equal_params(tmp_path / "lamol", tmp_path / "multitask")


@pytest.mark.slow  # Plain training of a task is compared by default.
def test_a_teacher_trains_as_a_stream_of_its_task(config, tmp_path):
    config.dataset.tasks, config.l2kd.variant = "copy", "lamol"
    runs.run(config, tmp_path / "lamol")
    config.l2kd.variant, config.teacher.seed = "word_kd", config.seed
    runs.run(config, tmp_path / "word_kd")
    teacher = records.read(tmp_path / "word_kd/teacher_copy/results.json")
    lamol = records.read(tmp_path / "lamol/results.json")
    scores = [
        lines[-1]["train_loss"]
        for lines in (
            read_metrics(tmp_path / "word_kd/teacher_copy"),
            read_metrics(tmp_path / "lamol"),
        )
    ]
    assert scores[0] == scores[1]
    assert teacher["test_last"] == lamol["student"]["test_last"]


@pytest.mark.slow  # Its examples are those of the test of equal shares, in a whole run.
def test_real_replay_takes_examples_of_the_data(config, tmp_path):
    config.l2kd.variant, config.l2kd.replay = "lamol", "real"
    runs.run(config, tmp_path)
    stages = records.read(tmp_path / "results.json")["stages"]
    assert stages[1]["steps"] == 2 * -(-2 * (24 + 12) // 16)
    assert "malformed" not in stages[1]


_SLOW = pytest.mark.slow  # The default run stops in the replay.


@pytest.mark.parametrize(
    ("check", "unfinished"),
    [
        pytest.param(20, "teacher_reverse/scratch", marks=_SLOW),
        pytest.param(26, "teacher_logits/teacher_copy.texts-*/parts", marks=_SLOW),
        (40, "teacher_logits/replay_after_copy.texts-*/parts"),
        pytest.param(48, "student/reverse", marks=_SLOW),
    ],
)
def test_a_stopped_stream_ends_as_if_undisturbed(root, config, tmp_path, check, unfinished):
    """Stops a teacher, its writing, the replay, and the student."""
    config.l2kd.variant = "seq_kd_soft"
    with stop_at_check(check), pytest.raises(StoppedError):
        runs.run(config, tmp_path / "stopped")
    assert list((tmp_path / "stopped").glob(unfinished))
    runs.run(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", root / "run")
    for name in ("replay_after_copy", "teacher_copy"):
        assert texts_of(tmp_path / "stopped", name) == texts_of(root / "run", name)


def test_seeds_are_orders(config):
    config.dataset.tasks, config.l2kd.order = "", "seed"
    orders = []
    for seed in range(6):
        config.seed = seed
        stages = runs.make_plan(config).method.stages
        orders.append(tuple(stage.name for stage in stages))
    assert len(set(orders)) == 6
    assert orders[0] == tuple(sorted(TASKS))


def test_replay_is_shared_equally_by_the_earlier_tasks(config):
    """ceil(0.3 * 24) = 8 examples, 8 of one earlier task, or 4 of each of two."""
    config.dataset.tasks, config.l2kd.gamma = "", 0.3
    stages = runs.make_plan(config).method.stages
    assert stages[0].data.replay is None
    assert [stage.data.replay.count for stage in stages[1:]] == [8, 4]
    config.l2kd.gamma = 0.01  # One example, which is not enough for two tasks.
    stages = runs.make_plan(config).method.stages
    assert [stage.data.replay is None for stage in stages] == [True, False, True]
    config.l2kd.variant = "finetune"
    stages = runs.make_plan(config).method.stages
    assert all(stage.data.replay is None for stage in stages)
    assert all(stage.data.views == 1 for stage in stages)


def test_bad_settings_are_refused(config, tmp_path):
    config.l2kd.lm_weight = 0.0
    assert error_of(runs.make_plan, config).startswith(
        "config.l2kd.lm_weight: expected more than 0, since a model that has not learned whole"
    )
    config.l2kd.lm_weight = 0.25
    config.student.model = "transformer:30,1+1x16"
    assert error_of(runs.make_plan, config) == (
        "config.student.model: expected a network that continues texts, such as decoder:2x64, for"
        " l2kd, got 'transformer:30,1+1x16'; choose another network"
    )
    with pytest.raises(Exception, match="expected a data set of texts to generate"):
        METHODS["l2kd"].build(
            runs.make_plan(stream_config(config.dataset.data_dir)).settings, Task(("a", "b"))
        )


def test_an_answer_longer_than_the_network_reads_is_refused(config, tmp_path):
    config.dataset.max_length = 4
    assert re.fullmatch(
        r"config\.dataset\.max_length: expected room for each answer beside a quarter of the tokens"
        r" for its question, got 4, too few for '[abcd]{4}'; increase it",
        error_of(runs.run, config, tmp_path),
    )


def test_a_stream_that_changed_is_refused(root, config, tmp_path):
    shutil.copytree(root / "run", tmp_path / "run")
    config.l2kd.variant = "seq_kd_soft"
    config.dataset.tasks = "reverse,copy"
    assert "dataset.tasks" in error_of(runs.run, config, tmp_path / "run")
    config.dataset.tasks = "copy,reverse"
    runs.run(config, tmp_path / "run")  # It is finished.
    shutil.copytree(root / "stream", tmp_path / "stream")
    path = tmp_path / "stream/copy/train.tsv"
    path.write_text(path.read_text().replace("a\t", "b\t", 1))
    config.dataset.data_dir = str(tmp_path / "stream")
    assert "data" in error_of(runs.run, config, tmp_path / "run")
