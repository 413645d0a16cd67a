"""Generated texts: tables, files, predictions, and messages."""

import shutil
from pathlib import Path

import pytest

from akd_jax import runs
from akd_jax.data.readers.parallel import tokenizer_paths
from akd_jax.host.errors import InputError
from akd_jax.metrics import generation
from akd_jax.models.network import count_parameters
from experiments import check_exposure, evaluate, html_report, predict
from experiments.preparation import parallel_text
from experiments.prepare import prepare_dataset
from tests.support.errors import error_of
from tests.support.texts import write
from tests.support.translating import WORDS, pairs, translation_config, word_tokenizer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A finished run with its teacher, which no test changes."""
    folder = tmp_path_factory.mktemp("translation")
    config = translation_config(folder)
    config.method = "kd"
    config.kd.update({"weight": 1.0, "temperature": 1.0})
    runs.run(config, folder / "run")
    return folder


@pytest.fixture
def config(root):
    return translation_config(root)


def references(root):
    lines = (root / "translations/test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[1] for line in lines]


def test_scores_are_those_of_the_generated_texts(root):
    texts = runs.generate(root / "run", teachers=True)
    assert set(texts) == {"student", "teacher"}
    results = runs.evaluate(root / "run")
    for name, written in texts.items():
        assert len(written.texts) == 24
        assert results[name]["bleu"] == generation.bleu(written.texts, references(root))
        assert results[name]["chrf"] == generation.chrf(written.texts, references(root))
        assert results[name]["without_end"] == written.without_end.mean()


def test_report_shows_bleu_by_length_and_the_sizes_of_the_networks(root, tmp_path):
    page = html_report.write(shutil.copytree(root / "run", tmp_path / "run")).read_text()
    assert "BLEU of the sources with so many words." in page
    _, models = runs.load(root / "run")
    for model in models.values():
        assert f"<td>{count_parameters(model.variables):,}</td>" in page


def test_evaluation_by_length_and_tokens_per_second(root):
    plan, models = runs.load(root / "run")
    tables = evaluate.text_tables(plan, models, "test", beams=2)
    assert "| BLEU by words of the source | 0-8 |" in " ".join(tables.split())
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in tables
    texts = runs.generate(root / "run", beams=2)["student"].texts
    assert f"{100 * generation.bleu(texts, references(root)):.2f}" in tables
    assert "tokens/s, batch 64" in evaluate.cost_table(plan, models, "test")


def test_predictions_are_one_text_a_line(root, tmp_path):
    rows = [(source, "ignored") for source, _ in pairs(5, seed=8)]
    write(tmp_path / "new.tsv", rows, ("source", "note"))
    output = tmp_path / "texts.txt"
    lines = predict.predict_file(root / "run", tmp_path / "new.tsv", output)
    assert len(lines) == 5
    assert output.read_text(encoding="utf-8").splitlines() == lines
    assert set(" ".join(lines).split()) <= set(WORDS.values())
    test = root / "translations/test.tsv"
    assert predict.predict_file(root / "run", test) == runs.generate(root / "run")["student"].texts
    by_beams = runs.generate(root / "run", beams=3)["student"].texts
    assert predict.predict_file(root / "run", test, beams=3) == by_beams


def test_labels_cannot_be_generated_and_texts_not_predicted(root, finished_run):
    assert error_of(runs.predict, root / "run").endswith(
        "expected a run that predicts labels, got one that generates texts; use `generate`"
    )
    assert error_of(runs.generate, finished_run).endswith(
        "expected a run that generates texts, got one that predicts labels; use `predict`"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("eins\t", ", line 98: expected a source and a translation, got an empty translation;"),
        ("\tone", ", line 98: expected a source and a translation, got an empty source; "),
        ("eins one", ", line 98: expected at least 2 columns separated by tabs, got 1: 'eins one'"),
    ],
)
def test_rows_of_other_forms_are_refused(tmp_path, row, message):
    config = translation_config(tmp_path)
    path = Path(config.dataset.data_dir) / "train.tsv"
    path.write_text(f"{path.read_text(encoding='utf-8')}{row}\n", encoding="utf-8")
    assert error_of(runs.make_plan, config).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset.max_length": 2},
            "config.student.model: expected config.dataset.max_length from 3 to 512, the positions"
            " of transformer:10,1+1x16, got 2; choose a length in this range",
        ),
        (
            {"method": "kd", "teacher.model": "ngrams:64x8"},
            "config.teacher.model: expected a network that generates texts, such as"
            " transformer:4000,2+2x256, for the data set parallel_text, got 'ngrams:64x8'; choose"
            " another network",
        ),
        (
            {"student.model": "transformer:9,1+1x16"},
            "source.tokenizer.json: expected at most 9 tokens, the vocabulary of the network, got"
            " 10; choose a network with a larger vocabulary",
        ),
        (
            {"student.model": "transformer:10,1x16"},
            "config.student.model: expected transformer:VOCABULARY,ENCODER+DECODERxWIDTH with"
            " numbers from 1 to 9999999, and options among joint, pre, learned, inner=N, heads=N,"
            " got 'transformer:10,1x16'; write it in this form",
        ),
        (
            {"student.model": "transformer:10,1+1x16,joint"},
            "config.student.model: expected one tokenizer for both sides of parallel_text, since"
            " transformer:10,1+1x16,joint has one table, got two; prepare the data set in a new"
            " folder with --joint, or choose a network with two tables",
        ),
        (
            {"student.model": "recurrent:10,1x15"},
            "expected an even width, for two directions of the encoder, got 15",
        ),
        (
            {"method": "kd", "teacher.views": 1},
            "config.teacher.views: expected 0 for texts to generate, whose teachers have outputs"
            " for every token that are not stored, got 1; set it to 0",
        ),
        (
            {"dataset.unlabelled_size": 3},
            "config.dataset.unlabelled_size: expected at most 0, the number of unlabelled examples",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(config, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError) as error:
        runs.make_plan(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_networks_that_generate_texts_need_such_a_data_set(config):
    config.dataset.update({"name": "language_names", "data_dir": ""})
    assert error_of(runs.make_plan, config) == (
        "config.student.model: expected a network that predicts the labels of the data set"
        " language_names, got 'transformer:10,1+1x16', which generates texts; choose another"
        " network"
    )


def test_a_teacher_with_another_target_vocabulary_is_refused(root, tmp_path):
    config = translation_config(tmp_path)
    _, target = tokenizer_paths(Path(config.dataset.data_dir))
    word_tokenizer(list(WORDS.values())[::-1]).save(str(target))
    config.method, config.teacher.path = "kd", str(root / "run/teacher")
    message = error_of(runs.make_plan, config)
    assert message.startswith(
        "config.teacher.path: expected a teacher for the student's data set parallel_text, with the"
        " vocabularies "
    )
    assert message.endswith("; give a teacher for the same task")


def test_rouge_selects_summaries(tmp_path):
    config = translation_config(tmp_path)
    config.dataset.name = "summaries"
    config.student.epochs = 1
    results = runs.run(config, tmp_path / "run")
    assert results["metric"] == "rouge1"
    scores = results["student"]["metrics"]["test"]
    assert set(scores) == {"rouge1", "rouge2", "rouge_l", "length_ratio", "without_end"}


def test_columns_have_other_names(tmp_path):
    config = translation_config(tmp_path)
    for name in ("train", "dev", "test"):
        path = Path(config.dataset.data_dir) / f"{name}.tsv"
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        write(path, [line.split("\t") for line in lines], ("de", "en"))
    config.dataset.update({"source_column": "de", "target_column": "en"})
    assert runs.make_plan(config).dataset.columns == ("de", "en")


def test_each_completes_the_first_halves_of_the_other(root):
    plan, models = runs.load(root / "run")
    texts = check_exposure.completed_texts(plan, models, "test")
    alone = {name: x.texts for name, x in runs.generate(root / "run", teachers=True).items()}
    for name in ("student", "teacher"):
        assert texts[name, name] == alone[name]
    for first, second in (("student", "teacher"), ("teacher", "student")):
        for own, completed in zip(alone[first], texts[first, second], strict=True):
            words = own.split()
            half = (len(words) + 2) // 2
            assert completed.split()[:half] == words[:half]
        assert texts[first, second] not in (alone[first], alone[second])
    # A student completes its own texts as they are.
    same = check_exposure.completed_texts(plan, {**models, "teacher": models["student"]}, "test")
    assert same["student", "teacher"] == same["student", "student"]


def test_exposure_needs_a_teacher(root):
    plan, models = runs.load(root / "run", teachers=False)
    assert error_of(check_exposure.completed_texts, plan, models, "test") == (
        "--workdir: expected a run that generates texts, with a network 'teacher', got student;"
        " give another run, or another --teacher"
    )


@pytest.mark.parametrize(
    "student",
    [
        "transformer:400,1+1x16,joint",
        pytest.param("recurrent:400,1x16,joint", marks=pytest.mark.slow),
    ],
)
def test_networks_with_one_table_train_on_one_tokenizer(tmp_path, student):
    config = translation_config(tmp_path)
    folder = Path(config.dataset.data_dir)
    for path in tokenizer_paths(folder):
        path.unlink()
    prepare_dataset("parallel_text", folder, parallel=parallel_text.Options(300, joint=True))
    config.student.model, config.student.epochs = student, 1
    config.dataset.max_length = 40
    results = runs.run(config, tmp_path / "run")
    assert results["truncated"] == {"train": 0, "validation": 0, "test": 0}
    params = runs.load(tmp_path / "run")[1]["student"].variables["params"]
    assert [name for name in params if "embedding" in name] == ["target_embedding"]
