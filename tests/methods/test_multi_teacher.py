"""KD from several named teachers: their examples, their average, and wrong settings."""

import numpy as np
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.host.errors import InputError
from akd_jax.runs import make_plan
from tests.support.groups import teacher, use_grouped_digits
from tests.support.logits import cross_entropy, kl, softmax
from tests.support.networks import use_featured_networks
from tests.support.runs import assert_same_run, read_metrics


@pytest.fixture
def config(config, monkeypatch):
    """Three teachers on 200 digits: of all examples, and of each group."""
    use_featured_networks(monkeypatch, config, teacher=4, student=4)
    use_grouped_digits(monkeypatch, config)
    config.batch_size = 200
    config.student.epochs = 1
    config.student.optimizer.learning_rate = 1e-60  # 0 in float32.
    config.method = "multi_teacher"
    config.multi_teacher.teachers = ConfigDict(
        {
            "all": teacher(config, 8),
            "even": teacher(config, 6, group="even"),
            "odd": teacher(config, 5, group="odd", seed=3),
        }
    )
    return config


@pytest.mark.parametrize(
    ("average", "weights", "views"),
    [("probabilities", {}, 0), ("logits", {"odd": 1.0, "even": 3.0, "all": 0.0}, 1)],
)
def test_loss_of_the_average_by_hand(config, tmp_path, average, weights, views):
    config.teacher.views = views
    config.multi_teacher.average = average
    config.multi_teacher.weights = ConfigDict(weights)
    config.multi_teacher.temperature = t = 2.0
    config.multi_teacher.weight = 0.6
    runs.run(config, tmp_path)
    (line,) = read_metrics(tmp_path)
    train = make_plan(config).dataset.splits["train"]
    _, models = runs.load(tmp_path)
    logits = {name: np.float64(model(train.inputs).logits) for name, model in models.items()}
    shares = np.array([weights.get(name, 1.0) for name in ("all", "even", "odd")])
    stacked = np.stack([logits[name] for name in ("all", "even", "odd")])
    mean = np.einsum("k,kbc->bc", shares / shares.sum(), stacked)
    target = softmax(mean / t)
    if average == "probabilities":
        target = np.einsum("k,kbc->bc", shares / shares.sum(), softmax(stacked / t))
    soft = kl(logits["student"], t * np.log(target), t).mean()
    hard = cross_entropy(logits["student"], train.labels).mean()
    assert line["train_soft"] == pytest.approx(soft, rel=1e-4)
    assert line["train_loss"] == pytest.approx(0.6 * soft + 0.4 * hard, rel=1e-4)


def test_teachers_learn_from_their_group(config, tmp_path):
    config.batch_size = 20
    runs.run(config, tmp_path)
    train = make_plan(config).dataset.splits["train"]
    for name, group in (("all", None), ("even", "even"), ("odd", "odd")):
        count = len(train) if group is None else int(np.sum(train.groups == group))
        steps = read_metrics(tmp_path / name)[-1]["step"]
        assert steps == -(-count // 20)
    # A finished teacher is used again.
    config.multi_teacher.teachers["even"].path = str(tmp_path / "even")
    runs.run(config, tmp_path / "again")
    assert not (tmp_path / "again/even").exists()
    assert_same_run(tmp_path / "again", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x.teachers.update({"even": {"group": "prime"}}),
            "groups of the .*, even, odd, g",
        ),
        (
            lambda x: x.__setattr__("teachers", ConfigDict()),
            "at least two teachers by name, got no",
        ),
        (
            lambda x: x.weights.update({"all": 1.0}),
            "a weight for each of all, even, odd, .* got all",
        ),
        (lambda x: x.teachers["all"].update({"epochs": 0}), r"teachers.all.epochs: .*, got 0"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(config, tmp_path, change, message):
    with config.unlocked():
        change(config.multi_teacher)
    with pytest.raises(InputError, match=message) as error:
        runs.run(config, tmp_path)
    assert "\n" not in str(error.value)
