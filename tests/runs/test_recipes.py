"""Teachers that stages read: recipes, the teachers of teachers, and folders."""

import jax
import numpy as np
import pytest

from akd_jax import losses, runs
from akd_jax.host import records
from akd_jax.methods import kd
from akd_jax.methods.scratch import supervised_loss
from akd_jax.training.method import Frozen, Method, Pretrained, Trained
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from tests.support.networks import use_featured_networks
from tests.support.runs import assert_refused, read_metrics, snapshot
from tests.support.scripted import use_method

SGD = OptimizerConfig(learning_rate=0.05)
FROZEN = OptimizerConfig(learning_rate=1e-30)


def recipe(width, method, seed=0):
    """The recipe of a teacher of a width; its field is for messages only."""
    return Trained(f"featured:{width}", method, seed, {"epochs": 1}, "config.custom")


def scratch_method():
    return Method("teacher", (Stage("scratch", 1, supervised_loss, SGD),))


def distance(name):
    """The squared distance of the student's logits to those of a teacher."""
    return losses.bind(losses.annealed_mse, teacher=name)


def student_stages(teachers):
    """A stage for each teacher, whose student keeps its initial parameters."""
    return tuple(
        Stage(f"of_{name}", 1, distance(name), FROZEN, teachers=(name,)) for name in teachers
    )


@pytest.fixture
def config(config, monkeypatch):
    use_featured_networks(monkeypatch, config, teacher=8, student=4)
    return config


@pytest.fixture
def use_teachers(config, monkeypatch):
    """Makes runs use a stage for each teacher of some recipes."""

    def use(teachers):
        def build(settings, task):
            return Method("custom", student_stages(teachers), teachers)

        use_method(monkeypatch, config, build)

    return use


def distilled_recipe(task, base):
    """The recipe of a teacher that another teacher trains."""
    stage = kd.kd_stage("kd", 1, SGD, kd.Config(), task, "base")
    return recipe(6, Method("second", (stage,), {"base": base}), seed=2)


def test_every_stage_reads_its_own_teacher(config, tmp_path, monkeypatch):
    def build(settings, task):
        teachers = {
            "first": recipe(5, scratch_method(), seed=1),
            "second": distilled_recipe(task, recipe(7, scratch_method())),
        }
        return Method("custom", student_stages(teachers), teachers)

    use_method(monkeypatch, config, build)
    results = runs.run(config, tmp_path)
    trained = {
        name: records.read(tmp_path / name / "results.json") for name in ("first", "second", "base")
    }
    assert [trained[name]["model"] for name in trained] == [
        "featured:5",
        "featured:6",
        "featured:7",
    ]
    scores = {
        name: {score: trained[name][score] for score in ("validation", "test", "parameters")}
        for name in trained
    }
    assert (results["first"], results["second"]) == (scores["first"], scores["second"])
    assert trained["second"]["base"] == scores["base"]
    assert "base" not in results
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        *("student", "first", "second", "base")
    }

    # The student does not change, so that the losses can be computed from the models.
    plan, models = runs.load(tmp_path)
    assert models.keys() == {"student", "first", "second"}
    images = plan.dataset.splits["train"].inputs
    logits = {name: np.asarray(model(images).logits) for name, model in models.items()}
    expected = [np.square(logits["student"] - logits[x]).mean() for x in ("first", "second")]
    recorded = [line["train_loss"] for line in read_metrics(tmp_path)]
    np.testing.assert_allclose(recorded, expected, rtol=1e-5)
    assert runs.evaluate(tmp_path)["second"]["accuracy"] == scores["second"]["test"]


def test_finished_teacher_of_a_recipe_is_read_from_its_folder(config, tmp_path, use_teachers):
    use_teachers({"first": recipe(5, scratch_method())})
    trained = runs.run(config, tmp_path / "trained")
    before = snapshot(tmp_path / "trained")
    use_teachers({"first": Pretrained(str(tmp_path / "trained/first"), "config.custom.path")})
    read = runs.run(config, tmp_path / "read")
    assert read["first"] == trained["first"]
    assert read["student"] == trained["student"]
    assert not (tmp_path / "read/first").exists()
    assert snapshot(tmp_path / "trained") == before

    use_teachers({"first": Pretrained(str(tmp_path / "nowhere"), "config.custom.path")})
    message = "config.custom.path: expected the folder of a finished teacher, got .*nowhere"
    assert_refused(config, tmp_path / "refused", message)
    assert not (tmp_path / "refused").exists()


def test_run_with_another_recipe_is_refused(config, tmp_path, use_teachers):
    use_teachers({"first": recipe(5, scratch_method())})
    runs.run(config, tmp_path)
    use_teachers({"first": recipe(5, scratch_method(), seed=1)})
    assert_refused(config, tmp_path, r"config\.teachers\.first\.seed \(recorded 0, given 1\)")


def circle(task):
    base = recipe(6, Method("second", (), {"first": recipe(5, scratch_method())}))
    return {"first": recipe(5, Method("first", (), {"second": base}))}


def two_recipes(task):
    return {
        "base": recipe(5, scratch_method()),
        "second": distilled_recipe(task, recipe(6, scratch_method())),
    }


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        (circle, "expected recipes without a circle, got first <- second <- first; give"),
        (two_recipes, "expected one recipe for the teacher 'base', got two that differ; give"),
        (lambda task: {"student": recipe(5, scratch_method())}, "other than student .* 'student'"),
        (lambda task: {"a/b": recipe(5, scratch_method())}, "name of a folder .* got 'a/b'"),
        (
            lambda task: {"of_a": recipe(5, scratch_method())},
            "stages and teachers, got 'of_a' for both; rename",
        ),
    ],
)
def test_bad_recipes_are_refused_before_anything_is_written(
    config, tmp_path, monkeypatch, teachers, message
):
    def build(settings, task):
        stage = Stage("of_a", 1, supervised_loss, SGD)
        return Method("custom", (stage,), teachers(task))

    use_method(monkeypatch, config, build)
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("views", [0, 1])
def test_frozen_network_is_only_read(config, tmp_path, use_teachers, views):
    use_teachers({"first": Frozen("featured:5", "config.custom")})
    config.teacher.views = views
    results = runs.run(config, tmp_path)
    assert "first" not in results
    assert not (tmp_path / "first").exists()
    plan, models = runs.load(tmp_path)
    initial = plan.teachers["first"].initial_variables(jax.random.key(0), plan.dataset.example)
    jax.tree.map(np.testing.assert_array_equal, models["first"].variables, initial)
    images = plan.dataset.splits["train"].inputs
    logits = {name: np.asarray(model(images).logits) for name, model in models.items()}
    expected = np.square(logits["student"] - logits["first"]).mean()
    np.testing.assert_allclose(read_metrics(tmp_path)[0]["train_loss"], expected, rtol=1e-5)


def test_result_that_does_not_predict_labels_has_no_test_scores(config, tmp_path, monkeypatch):
    def build(settings, task):
        stages = (Stage("pretraining", 1, supervised_loss, SGD),)
        return Method("custom", stages, predicts_labels=False)

    use_method(monkeypatch, config, build)
    student = runs.run(config, tmp_path)["student"]
    assert (student["test"], student["metrics"], student["test_last"]) == (None, {}, None)
    assert student["validation"] == read_metrics(tmp_path)[0]["validation_accuracy"]
