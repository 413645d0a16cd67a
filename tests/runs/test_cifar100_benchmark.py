"""The configuration of the published CIFAR-100 tables, on a few random images."""

import itertools

import numpy as np
import pytest

from akd_jax import methods, models
from akd_jax.runs import config as schema
from akd_jax.runs import rehearse
from akd_jax.types import Task
from configs import cifar100_benchmark
from experiments import train


@pytest.fixture
def archive(tmp_path):
    """A folder with an unpacked archive of 40 images for training and 8 for testing."""
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train.bin", 40), ("test.bin", 8)):
        records = rng.integers(0, 256, (count, 2 + 32 * 32 * 3), np.uint8)
        records[:, :2] %= 100
        (folder / name).write_bytes(records.tobytes())
    return tmp_path


@pytest.mark.parametrize(
    ("teacher", "student"),
    list(itertools.product(cifar100_benchmark.TEACHERS, cifar100_benchmark.STUDENTS)),
)
def test_all_pairs_have_the_published_settings(teacher, student):
    settings = schema.parse(cifar100_benchmark.get_config(f"{teacher}-{student}"))
    for spec in (settings.teacher.model, settings.student.model, settings.takd.assistant.model):
        models.build(spec, 100)
    method = methods.METHODS[settings.method].build(settings, Task.numbered(100))
    (stage,) = method.stages
    (recipe,) = method.teachers.values()
    assert (method.name, settings.kd.temperature, settings.kd.weight) == ("kd", 4.0, 0.9)
    small = student in ("MobileNetV2", "ShuffleV1", "ShuffleV2")
    for trained, rate in ((stage, 0.01 if small else 0.05), (recipe.method.stages[0], 0.05)):
        assert trained.epochs == 240
        assert trained.optimizer.model_dump() == {
            **{"name": "sgd", "learning_rate": rate, "momentum": 0.9, "weight_decay": 5e-4},
            **{"schedule": "step", "drops": "5/8,3/4,7/8", "warmup_epochs": 0},
            **{"clip_norm": 0.0, "restart_each_temperature": False},
        }
    dataset = settings.dataset
    assert (settings.batch_size, dataset.crop_padding, dataset.flip) == (64, 4, True)


@pytest.mark.parametrize("argument", ["resnet32x4", "resnet8x4-resnet32x4", "resnet32x4-vgg,kd"])
def test_unknown_pairs_are_rejected(argument):
    with pytest.raises(ValueError, match="expected TEACHER-STUDENT with a teacher among resnet56"):
        cifar100_benchmark.get_config(argument)


@pytest.mark.slow  # Compiles two large networks; the tests above plan all pairs.
def test_dry_run(archive):
    config = cifar100_benchmark.get_config("vgg13-vgg8")
    config.dataset.data_dir = str(archive)
    config.dataset.validation_size = 8
    config.batch_size = 8
    report = rehearse(config)
    assert report["networks"] == {
        "student": {"parameters": 3_965_028},
        "teacher": {"parameters": 9_462_180},
    }
    (stage,) = report["stages"]
    assert (stage["name"], stage["epochs"], stage["updates"]) == ("kd", 240, 240 * 4)
    expected = np.repeat([0.05, 0.005, 0.0005, 0.00005], [150, 30, 30, 30])
    np.testing.assert_allclose(stage["learning_rate"], expected, rtol=1e-5)
    assert np.isfinite(stage["loss"])
    assert "kd, 240 epochs" in train.dry_run_report(report)
