"""Whole runs on texts, with small networks of transformers as teachers and starts."""

import json
import shutil

import jax
import numpy as np
import pytest
import scipy.stats
import torch
import transformers
from ml_collections.config_dict import ConfigDict

from akd_jax import data, loop, methods, records, runs
from akd_jax.errors import InputError
from akd_jax.plan import make_plan, resume_key
from configs import glue
from experiments import export, predict
from tests.support.encoders import save, save_tokenizer
from tests.support.texts import BAD, GOOD, text_config, texts, write, write_folders


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    write_folders(root)
    return root


@pytest.fixture
def config(folders):
    return text_config(folders)


@pytest.fixture(scope="session")
def finished(folders, tmp_path_factory):
    """Folder of a run by kd with buckets and a cache, whose teacher came fine-tuned."""
    folder = tmp_path_factory.mktemp("finished")
    config = text_config(folders)
    config.method = "kd"
    config.dataset.bucketing = True
    config.student.epochs = 2
    runs.run(config, folder)
    return folder


def settings_of(finished):
    return ConfigDict(records.read_config(finished)["config"])


def in_torch(folder, sentences):
    """Logits of transformers on texts, one text at a time: no padding, no batches."""
    cls = {"bert": transformers.BertTokenizer, "roberta": transformers.RobertaTokenizer}
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    auto = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = cls[kind].from_pretrained(folder)
    with torch.no_grad():
        found = [auto(**tokenizer(text, return_tensors="pt")).logits[0] for text in sentences]
    return torch.stack(found).numpy()


def refused(config, tmp_path, match):
    with pytest.raises(InputError, match=match) as error:
        runs.run(config, tmp_path / "refused")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("method", methods.METHODS)
def test_every_method_learns_texts(config, tmp_path, method):
    config.method = method
    results = runs.run(config, tmp_path)
    assert results["select_on"] == "validation accuracy"
    assert results["truncated"] == {"train": 0, "validation": 0, "test": 0}
    for stage in results["stages"]:
        assert stage["steps"] == stage["epochs"] * 7  # 200 sentences in batches of 32.
        assert stage["traces"] == 1
    if method == "scratch":  # The others learn from a random teacher, too.
        assert results["student"]["validation"] > 0.8
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [line["train_loss"] for line in lines if line["stage"] == results["stages"][-1]["name"]]
    falling = last[2:] if method == "continuation_kd" else last  # It mixes other losses before.
    assert falling[-1] < 0.9 * falling[0]
    assert set(results["student"]["metrics"]) == {"test"}


def test_texts_of_like_lengths_come_together(finished):
    results = records.read(finished / "results.json")
    (stage,) = results["stages"]
    assert stage["steps"] == 2 * 7  # As many as without buckets.
    assert stage["traces"] == 2  # Two lengths, 16 and 24.
    config = settings_of(finished)
    bucketed = make_plan(config).batches("train", seed=0)
    assert stage["padding"] == round(bucketed.padding(), 4)
    config.dataset.bucketing = False
    assert bucketed.padding() < 0.8 * make_plan(config).batches("train").padding()


def test_a_fine_tuned_teacher_is_taken_over_with_the_logits_of_transformers(finished, folders):
    rows = texts(75, 2)
    expected = in_torch(folders / "bert", [text for text, _ in rows])[:, [1, 0]]  # By name.
    np.testing.assert_allclose(runs.predict(finished)["teacher"], expected, atol=1e-4)
    labels = np.array([label for _, label in rows])
    right = np.mean(expected.argmax(axis=-1) == labels)
    assert records.read(finished / "results.json")["teacher"]["test"] == right
    assert runs.evaluate(finished)["teacher"] == {"accuracy": right}


def test_what_was_taken_over_can_be_shared(finished, tmp_path):
    config = settings_of(finished)
    config.teacher.path = str(finished / "teacher")
    config.teacher.cache_dir = str(finished / "teacher_logits")
    config.student.epochs = 1
    results = runs.run(config, tmp_path)
    assert results["teacher"] == records.read(finished / "results.json")["teacher"]
    assert not (tmp_path / "teacher").exists()


def test_each_network_reads_the_same_texts_with_its_own_vocabulary(config, folders, tmp_path):
    config.teacher.path = str(folders / "roberta")
    config.dataset.max_length = 62  # This vocabulary has few whole words.
    config.method = "kd"
    config.student.epochs = 1
    runs.run(config, tmp_path)
    expected = in_torch(folders / "roberta", [text for text, _ in texts(75, 2)])[:, [1, 0]]
    np.testing.assert_allclose(runs.predict(tmp_path)["teacher"], expected, atol=1e-4)
    tokens = make_plan(config).dataset.splits["test"].inputs
    assert len(tokens) == 2


def test_stored_logits_train_as_live_ones(finished, tmp_path):
    config = settings_of(finished)
    config.teacher.views = 0
    runs.run(config, tmp_path)
    assert (finished / "teacher_logits").exists()
    assert not (tmp_path / "teacher_logits").exists()
    cached, live = (runs.predict(folder)["student"] for folder in (finished, tmp_path))
    np.testing.assert_allclose(cached, live, atol=2e-3)


def test_a_teacher_is_fine_tuned_from_a_folder(config, folders, tmp_path):
    config.teacher.path = ""
    config.teacher.model = f"huggingface:{folders / 'roberta'}"
    config.teacher.epochs = 6
    config.teacher.optimizer.learning_rate = 1e-2
    config.student.epochs = 2
    config.annealing_kd.stage_1.epochs = 1
    config.annealing_kd.max_temperature = 1
    results = runs.run(config, tmp_path)
    assert results["teacher"]["validation"] > 0.8
    config.student.epochs = 3
    with pytest.raises(
        InputError, match=r"different config.student.epochs \(recorded 2, given 3\)"
    ):
        runs.run(config, tmp_path)


def test_a_moved_folder_is_the_same_start(finished, folders, tmp_path):
    config = settings_of(finished)
    moved = tmp_path / "moved"
    shutil.copytree(folders / "bert", moved)
    config.student.model = f"huggingface:{moved},every=2"
    assert resume_key(make_plan(config)) == resume_key(make_plan(settings_of(finished)))
    (moved / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert resume_key(make_plan(config)) != resume_key(make_plan(settings_of(finished)))


@pytest.mark.parametrize("model", ["student", "teacher"])
def test_what_is_exported_says_in_transformers_what_it_says_here(finished, tmp_path, model):
    export.export_network(finished, "safetensors", tmp_path / "out", model)
    rows = texts(75, 2)
    expected = in_torch(tmp_path / "out", [text for text, _ in rows])
    np.testing.assert_allclose(runs.predict(finished)[model], expected, atol=1e-4)
    names = json.loads((tmp_path / "out/config.json").read_text())["id2label"]
    assert names == {"0": "negative", "1": "positive"}


def test_predictions_are_a_submission_to_glue(finished, tmp_path):
    rows = [(number, text) for number, (text, _) in enumerate(texts(75, 2))]
    write(tmp_path / "test.tsv", rows, ("index", "sentence"))
    assert predict.predict_file(finished, tmp_path / "test.tsv", tmp_path / "out/SST-2.tsv") == 75
    lines = (tmp_path / "out/SST-2.tsv").read_text().splitlines()
    best = runs.predict(finished, teachers=False)["student"].argmax(axis=-1)
    assert lines == ["index\tprediction", *(f"{i}\t{best[i]}" for i in range(75))]


def test_the_stablehlo_of_an_encoder_takes_any_batch_and_length(finished, tmp_path):
    export.export_network(finished, "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    (tokens,) = make_plan(settings_of(finished)).dataset.splits["test"].inputs.values()
    expected = runs.predict(finished, teachers=False)["student"]
    for rows, length in ((75, 24), (1, tokens.lengths[0])):
        ids, types = tokens.ids[:rows, :length], tokens.token_type_ids[:rows, :length]
        found = exported.call(ids, types, tokens.lengths[:rows])
        np.testing.assert_allclose(found, expected[:rows], atol=1e-5)
    with pytest.raises(InputError, match="expected a new file, got one that exists"):
        export.export_network(finished, "stablehlo", tmp_path / "student.bin")


@pytest.fixture
def regression(config, folders, tmp_path):
    """STS-B's files: pairs, whose score is the share of words that they have in common."""
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


@pytest.mark.parametrize("method", ["kd", "annealing_kd"])
def test_a_regression_all_the_way(regression, tmp_path, method):
    regression.method = method
    regression.student.epochs = 8
    results = runs.run(regression, tmp_path / "run")
    assert results["select_on"] == "validation pearson"
    assert results["teacher"]["test"] == pytest.approx(
        runs.evaluate(tmp_path / "run")["teacher"]["pearson"]
    )
    logits = runs.predict(tmp_path / "run")["student"]
    assert logits.shape == (50, 1)
    labels = make_plan(regression).dataset.splits["test"].labels
    assert labels.dtype == np.float32
    found = results["student"]["metrics"]["test"]
    numbers = logits[:, 0].astype(np.float64)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(labels, numbers)[0])
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(labels, numbers)[0])
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert {"train_squared_error", "validation_pearson", "validation_spearman"} <= set(lines[0])
    if method == "annealing_kd":  # Kd's students follow the random teacher to the end.
        errors = [line["train_squared_error"] for line in lines if line["stage"] == "stage_2"]
        assert errors[-1] < 0.8 * errors[0]


def test_teachers_of_another_task_are_refused(config, regression, tmp_path, folders):
    regression.teacher.path = str(folders / "bert")
    refused(regression, tmp_path, "config.teacher.path: .* a head for a regression, got positive")
    regression.dataset.name = "movie_reviews"
    regression.dataset.data_dir = str(folders)
    regression.dataset.validation_size = 0
    regression.teacher.path = str(tmp_path / "regressor")
    refused(
        regression,
        tmp_path,
        "config.teacher.path: .* for the labels negative, positive, got one for a regression",
    )


def test_networks_and_data_of_other_kinds_are_refused(config, folders, tmp_path):
    config.student.model = "resnet:8"
    refused(config, tmp_path, "config.student.model: expected huggingface:DIR, .* got 'resnet:8'")
    config.student.model = f"huggingface:{folders / 'bert'}"
    for length in (2, 65):  # No room for a word between its marks; more than the positions.
        config.dataset.max_length = length
        refused(config, tmp_path, rf"config.dataset.max_length: expected 3 to 64, .* got {length}")
    config.dataset.max_length = 32
    config.dataset.flip = True
    refused(config, tmp_path, "crop_padding 0 and flip False for the texts of movie_reviews")
    config.dataset.flip = False
    config.dataset.name = "digits"
    config.dataset.validation_size = 100
    refused(config, tmp_path, "a network for images, as the data set digits has, .* reads texts")


def test_a_vocabulary_larger_than_the_network_is_refused(config, folders, tmp_path):
    for file in (folders / "bert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "vocab.txt").open("a") as file:
        file.write("one\nmore\n")
    config.student.model = f"huggingface:{tmp_path}"
    refused(config, tmp_path, r"expected a tokenizer of at most \d+ tokens, the vocab_size")


def test_long_texts_are_cut_and_counted(config):
    config.dataset.max_length = 12
    plan = make_plan(config)
    (tokens,) = plan.dataset.splits["train"].inputs.values()
    assert tokens.ids.shape == (200, 12)
    (vocabulary,) = plan.vocabularies
    tokenizer = vocabulary.tokenizer
    tokenizer.no_truncation()
    longer = sum(len(tokenizer.encode(text).ids) > 12 for text, _ in texts(200, 0))
    assert 0 < longer < 200
    assert make_plan(config).dataset.splits.truncated()["train"] == longer


def test_accumulation_reaches_the_step(config, tmp_path, monkeypatch):
    class ReachedError(Exception):
        pass

    def spy(stage, state, *args, **kwargs):
        raise ReachedError(state.grad_accumulation_steps)

    monkeypatch.setattr(loop, "StageRun", spy)
    config.method = "scratch"
    config.grad_accumulation_steps = 2
    with pytest.raises(ReachedError, match="2"):
        runs.run(config, tmp_path / "run")
    config.grad_accumulation_steps = 3
    refused(config, tmp_path, r"config.batch_size: .* 4 devices x 3 parts, got 32; take 24 or 36")


def test_loaders_have_the_names_of_the_tasks():
    assert set(data.glue.TASKS) < set(data.DATASETS)
    for task in data.glue.TASKS:
        config = glue.get_config(task)
        assert (config.dataset.name, config.method) == (task, "annealing_kd")
    with pytest.raises(ValueError, match=r"expected a task among cola, .* got 'imdb'"):
        glue.get_config("imdb")
