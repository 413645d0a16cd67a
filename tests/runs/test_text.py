"""Runs on texts: vocabularies, buckets, Hugging Face folders, exports and predictions."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from flax import traverse_util
from ml_collections.config_dict import ConfigDict

from akd_jax import data, losses, models, runs
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.runs import make_plan
from akd_jax.runs.evaluation import Evaluator
from akd_jax.runs.resume import resume_key
from configs import glue
from experiments import export, predict
from tests.support.errors import error_of
from tests.support.launching import ROOT
from tests.support.pages import code_of
from tests.support.runs import assert_refused, read_metrics
from tests.support.scripted import use_loss
from tests.support.texts import text_config, texts, write


@pytest.fixture
def config(texts_config):
    return texts_config


@pytest.fixture(scope="module")
def finished(text_folders, tmp_path_factory):
    """The workdir of a finished KD run with buckets, stored logits and an imported teacher."""
    workdir = tmp_path_factory.mktemp("finished")
    config = text_config(text_folders)
    config.method = "kd"
    config.dataset.bucketing = True
    config.student.epochs = 2
    runs.run(config, workdir)
    return workdir


def config_of(workdir):
    """The configuration of a run."""
    return ConfigDict(records.read_config(workdir)["config"])


def key_of(config):
    """The resume key of a run."""
    plan = make_plan(config)
    return resume_key(plan.settings, plan.dataset.task, plan.method.teachers)


def transformers_logits(folder, sentences):
    """Logits of the transformers library, one text at a time: no padding and no batches."""
    cls = {
        "bert": transformers.BertTokenizer,
        "roberta": transformers.RobertaTokenizer,
        "xlm-roberta": transformers.XLMRobertaTokenizer,
        "distilbert": transformers.DistilBertTokenizer,
    }
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    auto = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = cls[kind].from_pretrained(folder)
    with torch.no_grad():
        logits = [auto(**tokenizer(text, return_tensors="pt")).logits[0] for text in sentences]
    return torch.stack(logits).numpy()


@pytest.mark.slow  # test_text_methods.py trains on texts.
def test_kd_learns_from_texts(finished):
    first, second = (line["train_loss"] for line in read_metrics(finished))
    assert second < 0.9 * first
    results = records.read(finished / "results.json")
    assert results["truncated"] == {"train": 0, "validation": 0, "test": 0}


def test_buckets_reduce_padding_without_more_steps(finished):
    (stage,) = records.read(finished / "results.json")["stages"]
    assert stage["steps"] == 2 * 7  # As many as without buckets.
    assert stage["traces"] == 2  # Two lengths, 16 and 24.
    config = config_of(finished)
    bucketed = make_plan(config).batches("train", seed=0)
    assert stage["padding"] == round(bucketed.padding(), 4)
    config.dataset.bucketing = False
    assert bucketed.padding() < 0.8 * make_plan(config).batches("train").padding()


def test_imported_teacher_has_the_logits_of_transformers(finished, text_folders):
    rows = texts(75, 2)
    # The folder has its labels in another order than the task; they are matched by name.
    logits = transformers_logits(text_folders / "bert", [text for text, _ in rows])[:, [1, 0]]
    np.testing.assert_allclose(runs.predict(finished)["teacher"], logits, atol=1e-4)
    labels = np.array([label for _, label in rows])
    accuracy = np.mean(logits.argmax(axis=-1) == labels)
    assert records.read(finished / "results.json")["teacher"]["test"] == accuracy
    assert runs.evaluate(finished)["teacher"] == {"accuracy": accuracy}


def test_imported_teacher_can_be_shared(finished, tmp_path):
    config = config_of(finished)
    config.teacher.path = str(finished / "teacher")
    config.teacher.cache_dir = str(finished / "teacher_logits")
    config.student.epochs = 1
    results = runs.run(config, tmp_path)
    assert results["teacher"] == records.read(finished / "results.json")["teacher"]
    assert not (tmp_path / "teacher").exists()


def test_frozen_parts_of_the_student_keep_their_values(config, tmp_path):
    config.method = "scratch"
    config.student.epochs = 1
    config.student.frozen = "embeddings, layer_0"
    runs.run(config, tmp_path)
    plan, models = runs.load(tmp_path)
    start, trained = (
        traverse_util.flatten_dict(variables["params"], sep="/")
        for variables in (
            plan.student.initial_variables(jax.random.key(0), plan.dataset.example),
            models["student"].variables,
        )
    )
    kept = {name for name in start if np.array_equal(start[name], trained[name])}
    frozen = {x for x in start if x.startswith(("embeddings/", "layer_0/"))}
    # The biases of classifiers can start from 0, and all parts that learn have moved.
    assert kept == frozen
    config.student.frozen = "embedings"
    assert "got 'embedings'; use one of" in error_of(make_plan, config)


def test_scores_of_domains_are_those_of_their_own_splits(config, tmp_path):
    for name, size in (("books", 40), ("games", 23)):
        (tmp_path / name).mkdir()
        for split, seed in (("train", size), ("dev", size + 1), ("test", size + 2)):
            write(tmp_path / name / f"{split}.tsv", texts(size, seed))
    config.method = "scratch"
    config.dataset.name, config.dataset.data_dir = "sentiment_domains", str(tmp_path)
    plan = make_plan(config)
    variables = plan.student.initial_variables(jax.random.key(0), plan.dataset.example)
    student, evaluator = Model(variables, plan.student.apply), Evaluator(plan)
    scores, _ = evaluator.on_tests(student)
    assert list(scores) == ["test", "test_books", "test_games"]
    assert scores == {name: evaluator.on(name)(student, {}) for name in scores}
    assert scores["test_books"] != scores["test_games"]


@pytest.mark.slow  # tests/runs/test_quality.py trains a student of another architecture.
def test_teacher_and_student_can_be_of_different_families(config, text_folders, tmp_path):
    config.teacher.path = str(text_folders / "xlm-roberta")
    config.student.model = f"huggingface:{text_folders / 'distilbert'},every=2"
    config.dataset.max_length = 62  # The teacher's vocabulary has few whole words.
    config.method = "kd"
    config.student.epochs = 1
    runs.run(config, tmp_path)
    sentences = [text for text, _ in texts(75, 2)]
    predictions = runs.predict(tmp_path)
    logits = transformers_logits(text_folders / "xlm-roberta", sentences)[:, [1, 0]]
    np.testing.assert_allclose(predictions["teacher"], logits, atol=1e-4)
    export.export_network(tmp_path, "safetensors", tmp_path / "out", "student")
    logits = transformers_logits(tmp_path / "out", sentences)
    np.testing.assert_allclose(predictions["student"], logits, atol=1e-4)
    # Each of them has a vocabulary of its own.
    assert len(make_plan(config).dataset.splits["test"].inputs) == 2


@pytest.mark.slow
def test_stored_logits_train_like_a_live_teacher(finished, tmp_path):
    config = config_of(finished)
    config.teacher.views = 0
    runs.run(config, tmp_path)
    assert (finished / "teacher_logits").exists()
    assert not (tmp_path / "teacher_logits").exists()
    stored, live = (runs.predict(workdir)["student"] for workdir in (finished, tmp_path))
    np.testing.assert_allclose(stored, live, atol=2e-3)


def test_teacher_can_be_fine_tuned_from_a_folder(config, text_folders, tmp_path):
    config.method = "kd"
    config.teacher.path = ""
    config.teacher.model = f"huggingface:{text_folders / 'roberta'}"
    config.teacher.epochs = 6
    config.teacher.optimizer.learning_rate = 1e-2
    config.student.epochs = 1
    results = runs.run(config, tmp_path)
    assert results["teacher"]["validation"] > 0.8
    config.student.epochs = 2
    assert_refused(config, tmp_path, r"config.student.epochs \(.*1.* 2.*\)")


def test_resume_key_depends_on_the_content_of_a_folder(finished, text_folders, tmp_path):
    config = config_of(finished)
    moved = shutil.copytree(text_folders / "bert", tmp_path / "moved")
    config.student.model = f"huggingface:{moved},every=2"
    assert key_of(config) == key_of(config_of(finished))
    (moved / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert key_of(config) != key_of(config_of(finished))


@pytest.mark.parametrize("model", ["student", "teacher"])
def test_exported_model_has_the_same_logits_in_transformers(finished, tmp_path, model):
    export.export_network(finished, "safetensors", tmp_path / "out", model)
    logits = transformers_logits(tmp_path / "out", [text for text, _ in texts(75, 2)])
    np.testing.assert_allclose(runs.predict(finished)[model], logits, atol=1e-4)
    names = json.loads((tmp_path / "out/config.json").read_text())["id2label"]
    assert names == {"0": "negative", "1": "positive"}


def test_the_code_of_the_docs_reads_a_folder(finished, tmp_path, monkeypatch, capsys):
    export.export_network(finished, "safetensors", tmp_path / "models/student")
    monkeypatch.chdir(tmp_path)
    (code,) = (x for x in code_of(ROOT / "docs/export.md") if "transformers" in x)
    exec(code, {})
    assert capsys.readouterr().out.strip() in ("['negative']", "['positive']")


def test_predictions_are_written_in_the_format_of_glue(finished, tmp_path):
    rows = [(number, text) for number, (text, _) in enumerate(texts(75, 2))]
    write(tmp_path / "test.tsv", rows, ("index", "sentence"))
    lines = predict.predict_file(finished, tmp_path / "test.tsv", tmp_path / "out/SST-2.tsv")
    assert len(lines) == 76
    lines = (tmp_path / "out/SST-2.tsv").read_text().splitlines()
    best = runs.predict(finished, teachers=False)["student"].argmax(axis=-1)
    assert lines == ["index\tprediction", *(f"{i}\t{best[i]}" for i in range(75))]


def test_stablehlo_of_an_encoder_accepts_any_batch_size_and_length(finished, tmp_path):
    export.export_network(finished, "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    (tokens,) = make_plan(config_of(finished)).dataset.splits["test"].inputs.values()
    expected = runs.predict(finished, teachers=False)["student"]
    for rows, length in ((75, 24), (1, tokens.lengths[0])):
        ids, types = tokens.ids[:rows, :length], tokens.token_type_ids[:rows, :length]
        logits = exported.call(ids, types, tokens.lengths[:rows])
        np.testing.assert_allclose(logits, expected[:rows], atol=1e-5)
    with pytest.raises(InputError, match="a new file, got one that exists"):
        export.export_network(finished, "stablehlo", tmp_path / "student.bin")


def test_onnx_of_an_encoder_accepts_any_batch_size(finished, tmp_path):
    export.export_network(finished, "onnx", tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx")
    (tokens,) = make_plan(config_of(finished)).dataset.splits["test"].inputs.values()
    expected = runs.predict(finished, teachers=False)["student"]
    names = [given.name for given in session.get_inputs()]
    for rows in (75, 1):
        arrays = [x[:rows] for x in (tokens.ids, tokens.token_type_ids, tokens.lengths)]
        (logits,) = session.run(None, dict(zip(names, arrays, strict=True)))
        np.testing.assert_allclose(logits, expected[:rows], atol=1e-5)


def test_networks_and_settings_that_do_not_fit_texts_are_refused(config, text_folders, tmp_path):
    workdir = tmp_path / "refused"
    config.student.model = "resnet:8"
    message = "config.student.model: expected huggingface:DIR or ngrams:.*, got 'resnet:8'"
    assert_refused(config, workdir, message)
    config.student.model = f"huggingface:{text_folders / 'bert'}"
    for length in (2, 65):  # The special tokens leave no room; more than the positions.
        config.dataset.max_length = length
        message = rf"config.dataset.max_length: expected 3 to 64, .* got {length}"
        assert_refused(config, workdir, message)
    config.dataset.max_length = 32
    config.dataset.flip = True
    assert_refused(config, workdir, "crop_padding 0 and flip False for the texts of movie_reviews")
    config.dataset.flip = False
    config.dataset.name = "digits"
    config.dataset.validation_size = 100
    message = "a network for the images of the data set digits, .* reads texts"
    assert_refused(config, workdir, message)
    assert not workdir.exists()


def test_vocabulary_larger_than_the_network_is_refused(config, text_folders, tmp_path):
    for file in (text_folders / "bert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "vocab.txt").open("a") as file:
        file.write("one\nmore\n")
    config.student.model = f"huggingface:{tmp_path}"
    message = r"expected a tokenizer of at most \d+ tokens, the vocab_size"
    assert_refused(config, tmp_path / "refused", message)


def test_long_texts_are_truncated_and_counted(config):
    config.dataset.max_length = 12
    plan = make_plan(config)
    (tokens,) = plan.dataset.splits["train"].inputs.values()
    assert tokens.ids.shape == (200, 12)
    tokenizer = models.folder(config.student.model).load_tokenizer()
    tokenizer.no_truncation()
    longer = sum(len(tokenizer.encode(text).ids) > 12 for text, _ in texts(200, 0))
    assert 0 < longer < 200
    assert make_plan(config).dataset.splits.truncated()["train"] == longer


def test_gradients_are_accumulated_over_parts_of_a_batch(config, tmp_path, monkeypatch):
    rows = set()

    def loss(student, teachers, batch, clock, *, axis_name=None):
        if axis_name is not None:  # Not in the check of the shapes.
            rows.add(len(batch.weights))
        return losses.cross_entropy(student.logits, batch.labels)

    use_loss(monkeypatch, config, loss)
    config.student.epochs = 1
    config.grad_accumulation_steps = 2
    runs.run(config, tmp_path / "run")
    assert rows == {32 // 4 // 2}  # The batch size, the devices and the parts.
    config.grad_accumulation_steps = 3
    message = r"config.batch_size: .* 4 devices x 3 parts, got 32; take 24 or 36"
    assert_refused(config, tmp_path / "refused", message)


def test_mask_of_a_teacher_cannot_be_stored(config, tmp_path, monkeypatch):
    def loss(student, teachers, batch, clock):
        counts = teachers["teacher"].mask.sum(axis=-1).astype(jnp.float32)
        return counts * losses.annealed_mse(student.logits, teachers["teacher"].logits)

    use_loss(monkeypatch, config, loss, teachers=("teacher",))
    config.teacher.views = 1
    message = "config.teacher.views: expected 0, .* custom_0 reads the mask of teacher, .* got 1"
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()


def test_features_of_every_token_cannot_be_stored_with_buckets(config, tmp_path, monkeypatch):
    def loss(student, teachers, batch, clock):
        states = (x.features["last_hidden_state"] for x in (student, teachers["teacher"]))
        one, other = (state[:, 0] for state in states)  # The first token.
        return jnp.square(one - other).mean(axis=-1)

    use_loss(monkeypatch, config, loss, teachers=("teacher",))
    config.dataset.bucketing = True
    config.teacher.views = 1
    message = "bucketing: expected False to store the features last_hidden_state of teacher, whose"
    assert_refused(config, tmp_path / "run", message)
    assert not (tmp_path / "run").exists()
    config.teacher.views = 0
    assert make_plan(config).reads["student", "custom_0"]["teacher"].features == {
        "last_hidden_state"
    }


def test_every_glue_task_has_a_configuration():
    for task in data.glue.TASKS:
        config = glue.get_config(task)
        assert (config.dataset.name, config.method) == (task, "annealing_kd")
    with pytest.raises(ValueError, match=r"expected a task among cola, .* got 'imdb'"):
        glue.get_config("imdb")
