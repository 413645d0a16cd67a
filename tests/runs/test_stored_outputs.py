"""Runs whose losses read stored features or the largest stored logits of a teacher."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from akd_jax import losses, runs
from akd_jax.methods.scratch import default_teacher
from akd_jax.training.method import Method
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Batch, TopK
from tests.support.configs import small_config
from tests.support.networks import use_featured_networks
from tests.support.runs import assert_refused, read_metrics
from tests.support.scripted import use_loss, use_method


def feature_loss(student, teachers, batch, clock):
    """The distance to the teacher's hidden features and to its logits."""
    teacher = teachers["teacher"]
    distance = jnp.square(student.features["hidden"] - teacher.features["hidden"]).mean(axis=-1)
    return distance + losses.annealed_mse(student.logits, teacher.logits)


def top_k_loss(student, teachers, batch, clock):
    """The cross-entropy of the student's probabilities to the teacher's three largest."""
    teacher = teachers["teacher"]
    top_k = TopK.of(teacher.logits, 3) if teacher.top_k is None else teacher.top_k
    probabilities = jnp.exp(top_k.values - top_k.log_sum_exp[:, None])
    log_q = jax.nn.log_softmax(student.logits)
    return -(probabilities * jnp.take_along_axis(log_q, top_k.indices, axis=-1)).sum(axis=-1)


@pytest.fixture(scope="module")
def featured_teacher(tmp_path_factory):
    """The folder of a finished teacher with features. Tests must not change it."""
    workdir = tmp_path_factory.mktemp("featured")
    with pytest.MonkeyPatch.context() as monkeypatch:
        config = small_config()
        use_featured_networks(monkeypatch, config, teacher=4, student=4)
        config.method = "kd"
        config.student.epochs = 1
        runs.run(config, workdir)
    return workdir / "teacher"


@pytest.fixture
def config(config, featured_teacher, tmp_path, monkeypatch):
    use_featured_networks(monkeypatch, config, teacher=4, student=4)
    config.teacher.path = str(featured_teacher)
    config.teacher.cache_dir = str(tmp_path / "cache")
    config.dataset.crop_padding = 1
    config.student.epochs = 2
    return config


def stores(folder):
    """The folders of the stores, and the names of their arrays."""
    return {
        path.name.partition("-")[0]: {file.name.partition(".")[2] for file in path.glob("*.npy")}
        for path in folder.iterdir()
    }


def losses_of(workdir):
    return [line["train_loss"] for line in read_metrics(workdir)]


@pytest.mark.parametrize(
    ("loss", "top_k", "arrays"),
    [
        (feature_loss, 0, {"logits.npy", "feature.hidden.npy"}),
        (top_k_loss, 3, {"logits.npy", *(f"top_k.{x}.npy" for x in ("values", "indices"))}),
    ],
)
def test_stored_outputs_train_like_a_live_teacher(
    config, tmp_path, monkeypatch, loss, top_k, arrays
):
    use_loss(monkeypatch, config, loss, teachers=("teacher",))
    runs.run(config, tmp_path / "live")
    assert not (tmp_path / "cache").exists()
    config.teacher.views = 2
    config.teacher.stored_top_k = top_k
    results = runs.run(config, tmp_path / "stored")
    assert results["teacher_cache"]["teacher"]["views"] == 2
    (names,) = stores(tmp_path / "cache").values()
    assert names == arrays | ({"top_k.log_sum_exp.npy"} if top_k else set())
    np.testing.assert_allclose(
        losses_of(tmp_path / "stored"), losses_of(tmp_path / "live"), rtol=1e-6
    )


def load_array(folder, name, dtype):
    (path,) = folder.glob(f"view_0000.{name}.npy")
    return np.load(path).view(dtype)


def test_stored_arrays_are_the_outputs_on_the_views(config, tmp_path, monkeypatch, caplog):
    use_loss(monkeypatch, config, feature_loss, teachers=("teacher",))
    config.teacher.views = 1
    config.student.epochs = 1
    runs.run(config, tmp_path / "float32")
    (exact,) = (tmp_path / "cache").iterdir()
    assert not [message for message in caplog.messages if "running the teacher" in message]
    config.teacher.stored_dtype = "bfloat16"
    runs.run(config, tmp_path / "bfloat16")
    (warning,) = [message for message in caplog.messages if "running the teacher" in message]
    assert f"{exact} is not used, because it has a different selection" in warning
    (rounded,) = set((tmp_path / "cache").iterdir()) - {exact}

    plan, models = runs.load(tmp_path / "float32")
    train = plan.dataset.splits["train"]
    rows = np.arange(len(train), dtype=np.int32)
    batch = Batch(train.inputs, train.labels, np.ones(len(train)), rows, np.zeros_like(rows))
    live = models["teacher"](plan.augmentation.view(batch).inputs)
    for name, expected in (("logits", live.logits), ("feature.hidden", live.features["hidden"])):
        array = load_array(exact, name, np.float32)
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(
            load_array(rounded, name, ml_dtypes.bfloat16), array.astype(ml_dtypes.bfloat16)
        )
    assert losses_of(tmp_path / "bfloat16") == pytest.approx(
        losses_of(tmp_path / "float32"), rel=1e-2
    )
    assert losses_of(tmp_path / "bfloat16") != losses_of(tmp_path / "float32")


def halves(settings, task):
    """Stages on the training split, and one on half of it; two of three read features."""
    half = Stage(
        "half",
        1,
        feature_loss,
        OptimizerConfig(),
        teachers=("teacher",),
        data=lambda context: context.dataset.splits["train"].take(np.arange(500)),
    )
    logits = Stage(
        "logits", 1, losses.bind(losses.annealed_mse), OptimizerConfig(), teachers=("teacher",)
    )
    features = dataclasses.replace(logits, name="features", loss=feature_loss)
    return Method("custom", (logits, features, half), default_teacher(settings))


def test_stages_share_a_store_unless_they_have_examples_of_their_own(
    config, tmp_path, monkeypatch, caplog
):
    use_method(monkeypatch, config, halves)
    config.teacher.views = 1
    results = runs.run(config, tmp_path / "run")
    assert results["teacher_cache"].keys() == {"teacher", "teacher.half"}
    arrays = {"logits.npy", "feature.hidden.npy"}
    assert stores(tmp_path / "cache") == {"teacher": arrays, "teacher.half": arrays}
    (half,) = (tmp_path / "cache").glob("teacher.half-*")
    assert load_array(half, "logits", np.float32).shape == (500, 10)
    assert not [message for message in caplog.messages if "running the teacher" in message]
    bytes_per_example = 4 * (10 + 4)  # Float32 logits and hidden features.
    assert runs.rehearse(config)["cache"] == bytes_per_example * (1000 + 500)


def test_stored_outputs_of_batches_that_a_stage_changes_are_warned_about(
    config, tmp_path, monkeypatch, caplog
):
    def invert(student, teachers, batch, clock, key):
        return batch.replace(inputs=jnp.uint8(16) - batch.inputs)

    use_loss(monkeypatch, config, feature_loss, teachers=("teacher",), prepare=invert)
    config.teacher.views = 1
    config.student.epochs = 1
    runs.run(config, tmp_path / "run")
    (warning,) = [message for message in caplog.messages if "stored outputs" in message]
    assert "stage custom_0: the stored outputs of teacher are those of the batches" in warning
    caplog.clear()
    use_loss(monkeypatch, config, feature_loss, teachers=("teacher",))
    runs.run(config, tmp_path / "unchanged")
    assert not [message for message in caplog.messages if "stored outputs" in message]


@pytest.mark.parametrize(
    ("method", "top_k", "message"),
    [
        ("kd", 3, "stored_top_k: expected 0, because the loss of the stage kd reads all logits of"),
        ("kd", 11, "stored_top_k: expected 0 to 10, the number of logits, got 11"),
        ("takd", 3, "because the loss of the stage takd reads all logits of assistant, got 3"),
    ],
)
def test_losses_of_all_logits_are_refused_with_the_largest_ones(
    config, tmp_path, method, top_k, message
):
    config.method = method
    config.takd.assistant.model = "featured:4"
    config.teacher.path = ""  # A teacher would be trained.
    config.teacher.views = 1
    config.teacher.stored_top_k = top_k
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()
