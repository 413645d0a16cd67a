"""Streams of tasks from the front door: tables, predictions, exports, and networks of folders."""

import shutil

import jax
import numpy as np
import pytest
import torch
import transformers
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.data.readers.parallel import tokenizer_paths
from akd_jax.host import records
from experiments import compare, evaluate, export, html_report, predict, score_matrix
from experiments.preparation import streams as preparation
from tests.support.errors import error_of
from tests.support.streaming import stream_config, write_stream
from tests.support.texts import write
from tests.support.translating import LENGTH, WORDS, translation_config, word_tokenizer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A finished comparison of two variants."""
    root = tmp_path_factory.mktemp("streams")
    write_stream(root / "stream")
    config = stream_config(root / "stream")
    config.variants = ConfigDict(
        {name: {"l2kd": {"variant": name, "gamma": 0.5}} for name in ("lamol", "word_kd")}
    )
    compare.compare_methods(config, ["lamol", "word_kd"], 1, root / "compared", ["lamol"])
    return root


def test_comparison_has_the_scores_of_streams(root):
    comparison = records.read(root / "compared/comparison.json")
    table = [dict(zip(comparison["headers"], row, strict=True)) for row in comparison["rows"]]
    assert {row[""] for row in table[:2]} == {"(teacher_copy)", "(teacher_reverse)"}
    assert [row[""] for row in table[2:]] == ["lamol", "word_kd"]
    results = [records.read(root / "compared/word_kd/seed_0/results.json")]
    learned = [
        np.mean([list(stage["tests"].values())[-1] for stage in result["stages"]])
        for result in results
    ]
    assert table[-1]["after learning"].startswith(f"{100 * np.mean(learned):.2f}")
    forgotten = [
        max(first, last) - last
        for first, last in (
            [stage["tests"]["test_copy"] for stage in result["stages"]] for result in results
        )
    ]
    assert table[-1]["forgetting"].startswith(f"{100 * np.mean(forgotten):.2f}")
    assert " to " in table[-1]["vs lamol"]
    # The score of a teacher is that on its own task.
    teachers = {row[""]: row["test"] for row in table[:2]}
    for name in ("copy", "reverse"):
        teacher = records.read(root / f"compared/teacher_{name}/results.json")
        score = teacher["metrics"][f"test_{name}"]["score"]
        assert teachers[f"(teacher_{name})"] == f"{100 * score:.2f}"
    updates = [sum(stage["steps"] for stage in result["stages"]) for result in results]
    assert any(f"{updates[0]:,} updates" in note for note in comparison["notes"])
    # The teachers are those of all rows and seeds.
    assert not list((root / "compared").glob("*/seed_*/teacher_copy"))
    page = html_report.write(root / "compared").read_text()
    assert "Heat maps" in page
    streams = {"word_kd": score_matrix.read(results[0])}
    assert streams["word_kd"]["reverse"].keys() == {"copy", "reverse"}
    assert comparison["methods"]["word_kd"]["matrices"] == [streams["word_kd"]]
    figure = score_matrix.draw(streams)
    shown = [text.get_text() for text in figure.axes[0].texts]
    scores = [score for stage in results[0]["stages"] for score in stage["tests"].values()]
    assert shown == [f"{100 * score:.1f}" for score in scores]


def test_evaluation_and_predictions(root, tmp_path):
    run = root / "compared/word_kd/seed_0"
    plan, models = runs.load(run)
    table = evaluate.text_tables(plan, models, "test_reverse")
    assert "score" in table
    score = records.read(run / "results.json")["student"]["metrics"]["test_reverse"]["score"]
    assert f"{100 * score:.2f}%" in table
    rows = [("abca", "again?"), ("ddba", "backwards?")]
    write(tmp_path / "new.tsv", rows, ("context", "question"))
    lines = predict.predict_file(run, tmp_path / "new.tsv", tmp_path / "out.txt")
    assert len(lines) == 2
    texts = np.array([[*row, ""] for row in rows], object)
    examples, _ = plan.tokenise(texts)
    evaluator = runs.evaluation.Evaluator(plan)
    assert lines == evaluator.texts(models["student"], examples).texts


def test_export_is_read_by_transformers_and_starts_another_run(root, tmp_path):
    run = root / "compared/word_kd/seed_0"
    export.export_network(run, "safetensors", tmp_path / "gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "gpt2")
    network = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2").eval()
    plan, models = runs.load(run)
    prompt = "abca again?"
    examples, _ = plan.tokenise(np.array([["abca", "again?", ""]], object))
    tokens = next(iter(examples.inputs.values()))
    ids = tokenizer(f"{prompt}<answer>", return_tensors="pt").input_ids
    length = int(tokens.lengths[0])
    assert ids[0].tolist() == tokens.ids[0, :length].tolist()
    with torch.no_grad():
        expected = network(ids).logits.numpy()
    logits = models["student"](examples.inputs).logits
    np.testing.assert_allclose(logits[:, :length], expected, atol=1e-4)
    # The folder is the student of another run, of the third task.
    config = stream_config(root / "stream")
    config.dataset.tasks, config.l2kd.variant = "first", "lamol"
    config.student.model = config.teacher.model = f"huggingface:{tmp_path / 'gpt2'}"
    config.student.epochs = 1
    plan = runs.make_plan(config)
    initial = plan.student.initial_variables(jax.random.key(0), plan.dataset.example)
    jax.tree.map(np.testing.assert_array_equal, initial, models["student"].variables)
    runs.run(config, tmp_path / "run")
    export.export_network(tmp_path / "run", "safetensors", tmp_path / "again")
    # A stream with another tokenizer is refused.
    shutil.copytree(root / "stream", tmp_path / "other")
    (tmp_path / "other/tokenizer.json").unlink()
    write(
        tmp_path / "other/copy/train.tsv",
        [("xyz", "more?", "zyx")],
        ("context", "question", "answer"),
    )
    preparation.prepare(tmp_path / "other", preparation.Options(characters=True))
    config.dataset.data_dir = str(tmp_path / "other")
    assert "expected the tokenizer of the data set stream to be that of" in error_of(
        runs.make_plan, config
    )


def test_stablehlo_of_a_decoder(root, tmp_path):
    run = root / "compared/lamol/seed_0"
    export.export_network(run, "stablehlo", tmp_path / "student.bin")
    exported = jax.export.deserialize(bytearray((tmp_path / "student.bin").read_bytes()))
    plan, models = runs.load(run)
    examples, _ = plan.tokenise(np.array([["abca", "again?", "ab"]] * 3, object))
    tokens = next(iter(examples.inputs.values()))
    logits = exported.call(tokens.ids, tokens.token_type_ids, tokens.lengths)
    np.testing.assert_allclose(logits, models["student"](examples.inputs).logits, atol=1e-5)


@pytest.fixture
def translation(tmp_path):
    """Parallel text with one tokenizer for both sides, as for other networks with one table."""
    config = translation_config(tmp_path)
    tokenizer = word_tokenizer([*WORDS, *WORDS.values()])
    for path in tokenizer_paths(tmp_path / "translations"):
        tokenizer.save(str(path))
    config.dataset.max_length = 2 * LENGTH
    config.student.model = config.teacher.model = "decoder:1x16,heads=2"
    return config


@pytest.mark.slow  # By default, decoders learn streams of tasks.
@pytest.mark.parametrize("method", ["kd", "seq_kd"])
def test_decoders_translate(translation, tmp_path, method):
    translation.method = method
    results = runs.run(translation, tmp_path / "run")
    assert 0 <= results["student"]["test"] <= 1


def test_decoders_teach_only_decoders_and_write_no_contexts(translation):
    translation.method = "imitkd"
    assert "expected a network that maps a source to a target" in error_of(
        runs.make_plan, translation
    )
    translation.method, translation.teacher.model = "kd", "transformer:40,1+1x16"
    assert "which one continues texts" in error_of(runs.make_plan, translation)
