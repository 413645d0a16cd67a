"""Every method on texts, and regressions, with small encoders as teachers and students."""

import numpy as np
import pytest
import scipy.stats

from akd_jax import runs
from akd_jax.runs import make_plan
from tests.support.encoders import save, save_tokenizer
from tests.support.runs import assert_refused, read_metrics
from tests.support.texts import BAD, GOOD, write


@pytest.fixture
def config(texts_config):
    return texts_config


# tests/runs/test_text.py trains by KD.
@pytest.mark.parametrize(
    "method",
    [
        "scratch",
        # Image runs and the recorded first updates of texts have the stages of these.
        pytest.param("annealing_kd", marks=pytest.mark.slow),
        pytest.param("continuation_kd", marks=pytest.mark.slow),
        pytest.param("takd", marks=pytest.mark.slow),  # It fine-tunes an assistant, too.
    ],
)
def test_every_method_learns_from_texts(config, tmp_path, method):
    config.method = method
    results = runs.run(config, tmp_path)
    assert results["select_on"] == "validation accuracy"
    assert results["truncated"] == {"train": 0, "validation": 0, "test": 0}
    for stage in results["stages"]:
        assert stage["steps"] == stage["epochs"] * 7  # 200 sentences in batches of 32.
        assert stage["traces"] == 1
    if method == "scratch":  # The other methods also learn from a random teacher.
        assert results["student"]["validation"] > 0.8
    last_stage = results["stages"][-1]["name"]
    losses = [line["train_loss"] for line in read_metrics(tmp_path) if line["stage"] == last_stage]
    if method == "continuation_kd":
        losses = losses[2:]  # The first two epochs mix two losses.
    assert losses[-1] < 0.9 * losses[0]
    assert set(results["student"]["metrics"]) == {"test"}


@pytest.fixture
def regression(config, tmp_path):
    """STS-B's files. The score of a pair is 5 if it has a word in common, else mostly 0."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 160), ("dev", 50)):
        rows = []
        for _ in range(count):
            one, other = rng.choice([*GOOD, *BAD], 2), rng.choice([*GOOD, *BAD], 1)
            same = rng.integers(2)
            rows.append((" ".join(one), one[0] if same else other[0], 5.0 * same))
        folder = tmp_path / "glue" / "STS-B"
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{name}.tsv", rows, ("sentence1", "sentence2", "score"))
    config.dataset.name = "stsb"
    config.dataset.data_dir = str(tmp_path / "glue")
    config.dataset.validation_size = 40
    vocabulary = save_tokenizer(tmp_path / "regressor", "bert", [*GOOD, *BAD], vocab_size=300)
    save(
        tmp_path / "regressor",
        "bert",
        labels=("LABEL_0",),
        vocab_size=len(vocabulary),
        num_hidden_layers=2,
        num_labels=1,
    )
    config.teacher.path = str(tmp_path / "regressor")
    config.student.model = f"huggingface:{tmp_path / 'regressor'},every=2"
    return config


@pytest.mark.slow  # test_quality.py trains regressions by both methods.
@pytest.mark.parametrize("method", ["kd", "annealing_kd"])
def test_regression_run(regression, tmp_path, method):
    regression.method = method
    results = runs.run(regression, tmp_path / "run")
    assert results["select_on"] == "validation pearson"
    assert results["teacher"]["test"] == pytest.approx(
        runs.evaluate(tmp_path / "run")["teacher"]["pearson"]
    )
    logits = runs.predict(tmp_path / "run")["student"]
    assert logits.shape == (50, 1)
    labels = make_plan(regression).dataset.splits["test"].labels
    assert labels.dtype == np.float32
    scores = results["student"]["metrics"]["test"]
    predictions = logits[:, 0].astype(np.float64)
    assert scores["pearson"] == pytest.approx(scipy.stats.pearsonr(labels, predictions)[0])
    assert scores["spearman"] == pytest.approx(scipy.stats.spearmanr(labels, predictions)[0])
    lines = read_metrics(tmp_path / "run")
    assert {"train_squared_error", "validation_pearson", "validation_spearman"} <= set(lines[0])
    if method == "kd":
        # KD of a regression has no temperature, because there is no distribution to soften.
        assert not any("temperature" in line for line in lines)
        assert results["stages"][0]["temperatures"] == []
    else:  # The student of KD follows the random teacher to the end.
        errors = [line["train_squared_error"] for line in lines if line["stage"] == "stage_2"]
        assert errors[-1] < 0.8 * errors[0]


def test_teachers_for_another_task_are_refused(regression, tmp_path, text_folders):
    workdir = tmp_path / "refused"
    regression.teacher.path = str(text_folders / "bert")
    message = "config.teacher.path: .* a head for a regression, got positive"
    assert_refused(regression, workdir, message)
    regression.dataset.name = "movie_reviews"
    regression.dataset.data_dir = str(text_folders)
    regression.dataset.validation_size = 0
    regression.teacher.path = str(tmp_path / "regressor")
    message = "config.teacher.path: .* for the labels negative, positive, got one .* a regression"
    assert_refused(regression, workdir, message)
    assert not workdir.exists()
