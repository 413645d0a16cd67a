"""Whole runs on texts, with small networks of transformers as teachers and starts."""

import json

import jax
import numpy as np
import pytest
import scipy.stats
import torch
import transformers

from akd_jax import data, methods, run
from akd_jax.errors import InputError
from akd_jax.plan import plan
from configs import glue
from experiments import export, predict
from tests.encoders import save, save_tokenizer

GOOD = ("a fine film", "warm and witty", "great fun", "a true delight", "bright and moving")
BAD = ("a poor film", "cold and dull", "no fun", "a true bore", "dark and tedious")
FILLER = ("from the start", "in the end", "with old friends", "we saw it twice", "for two hours")


def texts(count, seed):
    """Sentences that a few words make good (1) or bad (0); some twice as long as others."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = int(rng.integers(2))
        parts = [rng.choice(GOOD if label else BAD), *rng.choice(FILLER, rng.integers(1, 5))]
        rows.append((" ".join(parts), label))
    return rows


def write(path, rows, header=("sentence", "label")):
    lines = ["\t".join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of texts, and of networks with two vocabularies."""
    root = tmp_path_factory.mktemp("texts")
    for name, count, seed in (("train", 200, 0), ("dev", 61, 1), ("test", 75, 2)):
        write(root / f"{name}.tsv", texts(count, seed))
    words = [*GOOD, *BAD, *FILLER]
    for kind in ("bert", "roberta"):
        vocabulary = save_tokenizer(root / kind, kind, words, vocab_size=300)
        save(
            root / kind,
            kind,
            labels=("positive", "negative"),  # Not in the order of the task.
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    return root


@pytest.fixture
def config(folders):
    """A run on these texts, of seconds."""
    config = glue.get_config("sst2,annealing_kd")
    config.dataset.name = "movie_reviews"
    config.dataset.data_dir = str(folders)
    config.dataset.validation_size = 0
    config.dataset.max_length = 32
    config.teacher.path = str(folders / "bert")
    config.student.model = f"huggingface:{folders / 'bert'},every=2"
    config.takd.assistant.model = f"huggingface:{folders / 'bert'}"
    config.takd.assistant.epochs = 1
    config.student.epochs = 4
    config.annealing_kd.stage_1.epochs = 2
    config.annealing_kd.max_temperature = 2
    config.continuation_kd.max_temperature = 2
    config.continuation_kd.psi_until = 2
    for section in (
        config.takd.assistant,
        config.student,
        config.annealing_kd.stage_1,
        config.continuation_kd,
    ):
        section.optimizer.learning_rate = 3e-3
    return config


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
        run.run(config, tmp_path / "refused")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("method", methods.METHODS)
def test_every_method_learns_texts(config, tmp_path, method):
    config.method = method
    results = run.run(config, tmp_path)
    assert results["select_on"] == "validation accuracy"
    assert results["student"]["epoch"] > 0
    assert results["truncated"] == {"train": 0, "validation": 0, "test": 0}
    for stage in results["stages"]:
        assert stage["steps"] == stage["epochs"] * 7  # 200 sentences in batches of 32.
        assert stage["traces"] == 2  # Two lengths, 16 and 24.
        assert 0 < stage["padding"] < 0.6
    # A random teacher teaches nothing but itself; what learns from labels learns them.
    if method in ("scratch", "annealing_kd", "continuation_kd"):
        assert results["student"]["validation"] > 0.8
    assert set(results["student"]["metrics"]) == {"test"}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_fine_tuned_teacher_is_taken_over_with_the_logits_of_transformers(
    config, folders, tmp_path, kind
):
    """The student reads BERT's vocabulary; the teacher its own, of the same texts."""
    config.teacher.path = str(folders / kind)
    config.method = "kd"
    config.student.epochs = 1
    results = run.run(config, tmp_path)
    rows = texts(75, 2)
    expected = in_torch(folders / kind, [text for text, _ in rows])[:, [1, 0]]  # By name.
    found = run.predict(tmp_path)["teacher"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    labels = np.array([label for _, label in rows])
    assert results["teacher"]["test"] == np.mean(expected.argmax(axis=-1) == labels)
    tokens = plan(config).dataset.splits["test"].inputs
    assert len(tokens) == (1 if kind == "bert" else 2)

    # What was taken over can be shared, without the folder it came from being run again.
    config.teacher.path = str(tmp_path / "teacher")
    again = run.run(config, tmp_path / "again")
    assert again["student"] == results["student"]
    assert not (tmp_path / "again/teacher").exists()


def test_stored_logits_train_as_live_ones(config, tmp_path):
    config.method = "kd"
    config.student.epochs = 2
    results = []
    for views in (1, 0):
        config.teacher.views = views
        results.append(run.run(config, tmp_path / str(views)))
        with_cache = (tmp_path / str(views) / "teacher_logits").exists()
        assert with_cache == bool(views)
    cached, live = (run.predict(tmp_path / str(v), teachers=False)["student"] for v in (1, 0))
    np.testing.assert_allclose(cached, live, atol=2e-3)


def test_a_teacher_is_fine_tuned_from_a_folder(config, folders, tmp_path):
    config.teacher.path = ""
    config.teacher.model = f"huggingface:{folders / 'roberta'}"
    config.teacher.epochs = 6
    config.teacher.optimizer.learning_rate = 3e-3
    config.student.epochs = 2
    config.annealing_kd.stage_1.epochs = 1
    config.annealing_kd.max_temperature = 1
    results = run.run(config, tmp_path)
    assert results["teacher"]["validation"] > 0.8
    config.student.epochs = 3
    with pytest.raises(InputError, match=r"another config.student.epochs \(2 there, 3 here\)"):
        run.run(config, tmp_path)


def test_a_moved_folder_is_the_same_start(config, folders, tmp_path):
    config.method = "scratch"
    config.student.epochs = 1
    run.run(config, tmp_path / "run")
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in (folders / "bert").iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    config.student.model = f"huggingface:{moved},every=2"
    assert run.run(config, tmp_path / "run")["method"] == "scratch"
    (moved / "vocab.txt").write_text((moved / "vocab.txt").read_text() + "more\n")
    with pytest.raises(InputError, match=r"another config.student.model \('huggingface:"):
        run.run(config, tmp_path / "run")


def test_the_exported_student_says_in_transformers_what_it_says_here(config, tmp_path):
    config.method = "scratch"
    config.student.epochs = 2
    run.run(config, tmp_path / "run")
    found = run.predict(tmp_path / "run")["student"]
    export.export(tmp_path / "run", "safetensors", tmp_path / "out")
    rows = texts(75, 2)
    expected = in_torch(tmp_path / "out", [text for text, _ in rows])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert json.loads((tmp_path / "out/config.json").read_text())["id2label"] == {
        "0": "negative",
        "1": "positive",
    }

    write(
        tmp_path / "unlabelled.tsv",
        [(i, text) for i, (text, _) in enumerate(rows)],
        ("index", "sentence"),
    )
    count = predict.predict(tmp_path / "run", tmp_path / "unlabelled.tsv", tmp_path / "out.tsv")
    assert count == 75
    lines = (tmp_path / "out.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert lines[1:] == [f"{i}\t{row.argmax()}" for i, row in enumerate(expected)]


def test_the_stablehlo_of_an_encoder_takes_any_batch_and_length(config, tmp_path):
    config.method = "scratch"
    config.student.epochs = 1
    run.run(config, tmp_path / "run")
    export.export(tmp_path / "run", "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    planned = plan(config)
    (tokens,) = planned.dataset.splits["test"].inputs.values()
    expected = run.predict(tmp_path / "run", teachers=False)["student"]
    for rows, length in ((75, 32), (1, tokens.lengths[0])):
        found = exported.call(
            tokens.ids[:rows, :length], tokens.types[:rows, :length], tokens.lengths[:rows]
        )
        np.testing.assert_allclose(found, expected[:rows], atol=1e-5)
    with pytest.raises(InputError, match="the name of a new file, got one that exists"):
        export.export(tmp_path / "run", "stablehlo", tmp_path / "student.bin")


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


@pytest.mark.parametrize("method", ["kd", "annealing_kd", "continuation_kd"])
def test_a_regression_all_the_way(regression, tmp_path, method):
    regression.method = method
    results = run.run(regression, tmp_path / "run")
    assert results["select_on"] == "validation pearson"
    assert results["teacher"]["test"] == pytest.approx(
        run.evaluate(tmp_path / "run")["teacher"]["pearson"]
    )
    logits = run.predict(tmp_path / "run")["student"]
    assert logits.shape == (50, 1)
    labels = plan(regression).dataset.splits["test"].labels
    assert labels.dtype == np.float32
    found = results["student"]["metrics"]["test"]
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(labels, logits[:, 0])[0])
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(labels, logits[:, 0])[0])
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert {"train_squared_error", "validation_pearson", "validation_spearman"} <= set(lines[0])


def test_stage_two_of_a_regression_lowers_the_squared_error(regression, tmp_path):
    regression.student.epochs = 12
    run.run(regression, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    errors = [line["train_squared_error"] for line in lines if line["stage"] == "stage_2"]
    assert errors[-1] < 0.8 * errors[0]
    assert [line["train_loss"] for line in lines if line["stage"] == "stage_2"] == errors


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
        "config.teacher.path: .* for the labels negative, positive, got one of a regression",
    )


def test_networks_and_data_of_other_kinds_are_refused(config, folders, tmp_path):
    config.student.model = "resnet:8"
    refused(config, tmp_path, "config.student.model: expected huggingface:DIR, .* got 'resnet:8'")
    config.student.model = f"huggingface:{folders / 'bert'}"
    config.dataset.max_length = 65
    refused(config, tmp_path, "config.dataset.max_length: expected at most 64, .* got 65")
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


def test_long_texts_are_cut_and_counted(config, tmp_path):
    config.dataset.max_length = 12
    config.method = "scratch"
    config.student.epochs = 1
    results = run.run(config, tmp_path)
    planned = plan(config)
    (tokens,) = planned.dataset.splits["train"].inputs.values()
    assert tokens.ids.shape == (200, 12)
    (tokenizer,) = planned.reader.tokenizers.values()
    tokenizer.no_truncation()
    longer = sum(len(tokenizer.encode(text).ids) > 12 for text, _ in texts(200, 0))
    assert 0 < longer < 200
    assert results["truncated"]["train"] == longer


def test_accumulation_takes_the_same_updates(config, folders, tmp_path):
    for file in (folders / "bert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config.student.model = f"huggingface:{tmp_path}"
    config.method = "scratch"
    config.student.epochs = 1
    config.student.optimizer.name = "sgd"  # Adam would make much of the last digit.
    logits = []
    for accumulation in (1, 2):
        config.accumulation = accumulation
        run.run(config, tmp_path / str(accumulation))
        logits.append(run.predict(tmp_path / str(accumulation))["student"])
    np.testing.assert_allclose(*logits, atol=1e-5)
    config.accumulation = 3
    refused(config, tmp_path, r"config.batch_size: .* 4 devices x 3 parts, got 32; take 24 or 36")


def test_loaders_have_the_names_of_the_tasks():
    assert set(data.glue.TASKS) < set(data.DATASETS)
    for task in data.glue.TASKS:
        config = glue.get_config(task)
        assert (config.dataset.name, config.method) == (task, "annealing_kd")
    with pytest.raises(ValueError, match=r"expected a task among cola, .* got 'imdb'"):
        glue.get_config("imdb")
