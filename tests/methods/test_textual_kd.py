"""Two-stage textual distillation: its pretrainings, its fine-tuning and what each of them keeps."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import runs
from akd_jax.data.codes import MASK, START
from akd_jax.host.errors import InputError
from akd_jax.methods.textual_pretraining import MaskCodes
from akd_jax.models.network import Model
from akd_jax.models.spans import SpanMask
from akd_jax.runs import make_plan
from akd_jax.runs.checks import reads_prepared_inputs
from akd_jax.types import Batch, Clock, Outputs
from configs import speech
from experiments.grid import row_config
from tests.support.killing import kill_at_record
from tests.support.runs import (
    assert_same_run,
    assert_trees_equal,
    read_checkpoint,
    read_metrics,
    without_times,
)
from tests.support.speech import speech_config


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of commands and of an encoder, which no test changes."""
    folder = tmp_path_factory.mktemp("speech")
    speech_config(folder)
    return folder


@pytest.fixture
def config(root):
    return speech_config(root)


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """The workdir of a run with all steps."""
    workdir = tmp_path_factory.mktemp("run")
    config = speech_config(root)
    config.textual_kd.update(speech.ROWS["augmentation"])
    runs.run(config, workdir)
    return workdir


def best(folder):
    return read_checkpoint(folder)["best"]["params"]


def read_results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def differs(one, other):
    return not np.array_equal(jax.tree.leaves(one)[0], jax.tree.leaves(other)[0])


def test_each_step_keeps_what_it_should(finished):
    masked_codes = best(finished / "masked_codes/masked_codes")
    sentence = best(finished / "sentence/sentence")
    ctc = best(finished / "ctc/ctc")
    student = best(finished / "student/fine_tuning")
    # CTC trains the head on the frozen encoder, and the fine-tuning keeps the encoder too.
    assert differs(masked_codes["encoder"], sentence["encoder"])
    assert_trees_equal(ctc["encoder"], sentence["encoder"])
    assert_trees_equal(student["encoder"], ctc["encoder"])
    assert differs(ctc["head"], student["head"])
    # What a pretraining adds belongs to its loss.
    assert set(student) == set(masked_codes) == set(ctc) == {"encoder", "head", "classifier"}
    state = read_checkpoint(finished / "sentence/sentence")["state"]
    assert set(state["params"]["loss"]) == {"losses_masked_codes", "losses_sentence"}
    # Frozen parameters have no state of the optimizer.
    state = read_checkpoint(finished / "student/fine_tuning")["state"]
    assert set(state["params"]["student"]) == {"head", "classifier"}
    assert set(state["frozen"]) == {"encoder"}


def test_pretrainings_learn_and_have_no_test_scores(finished):
    for name in ("masked_codes", "sentence", "ctc"):
        values = [line["validation_loss"] for line in read_metrics(finished / name)]
        assert values[-1] < values[0]
        # The labels are not used, so there is no accuracy on them.
        assert "train_accuracy" not in read_metrics(finished / name)[-1]
        results = read_results(finished / name)
        assert results["validation"] == min(values)
        assert (results["test"], results["metrics"]) == (None, {})
    terms = read_metrics(finished / "sentence")[-1]
    total = terms["validation_masked_codes"] + terms["validation_sentence"]
    assert terms["validation_loss"] == pytest.approx(total, rel=1e-5)


def test_student_is_tested_on_all_test_splits(finished):
    results = read_results(finished)
    assert set(results["student"]["metrics"]) == {"test", "test_far"}
    assert not {"sentence_encoder", "masked_codes", "sentence", "ctc"} & results.keys()
    assert results["teacher"]["test"] > 0.3  # The text classifier; chance is 1/6.
    scores = runs.evaluate(finished)
    assert {name: x["accuracy"] for name, x in scores.items()} == {
        name: results[name]["test"] for name in ("student", "teacher")
    }


@pytest.mark.slow  # Other tests compare its loss with hand numbers.
def test_student_learns_intents_from_its_text_classifier(config, tmp_path):
    config.textual_kd.update(speech.ROWS["ft_kd_only"])
    config.textual_kd.logits.class_reduction = "mean"
    config.student.epochs = 20
    results = runs.run(config, tmp_path)
    assert results["student"]["test"] > 0.6  # Chance is 1/6.


@pytest.mark.parametrize(
    ("row", "teachers"),
    [
        ("scratch", []),
        ("ft_kd_only", ["teacher"]),
        ("base", ["masked_codes"]),
        ("pt_kd", ["masked_codes", "sentence", "sentence_encoder"]),
        ("ft_kd", ["masked_codes", "sentence", "sentence_encoder", "teacher"]),
        ("ctc", ["ctc", "masked_codes", "sentence", "sentence_encoder", "teacher"]),
    ],
)
def test_rows_need_the_teachers_of_their_steps(config, row, teachers):
    config.textual_kd.update(speech.ROWS[row])
    plan = make_plan(config)
    assert sorted(plan.recipes) == teachers
    assert plan.method.stages[0].frozen == (() if "masked_codes" not in teachers else ("encoder",))


@pytest.mark.parametrize("size", ["", ",tenth"])
@pytest.mark.parametrize("first", ["scratch", "base", "augmentation"])
def test_rows_of_a_comparison_do_not_depend_on_the_row_of_the_configuration(first, size):
    config = speech.get_config(first + size)
    for row in speech.ROWS:
        expected = speech.get_config(row + size)
        assert row_config(config, row).textual_kd == expected.textual_kd


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ({"weight": 0.5}, 0.5 * (1 + 2 + 0.5)),
        ({"weight": 0.5, "class_reduction": "mean"}, 0.5 * (1 + 2 + 0.5) / 3),
    ],
)
def test_fine_tuning_loss_by_hand(config, logits, expected):
    config.textual_kd.logits.update(logits)
    (stage,) = make_plan(config).method.stages
    student, teacher = jnp.float32([[1, 0, 2]]), jnp.float32([[0, 2, 1.5]])
    batch = Batch(None, jnp.int32([2]), jnp.float32([1]))
    terms = stage.loss(Outputs(student), {"teacher": Outputs(teacher)}, batch, Clock.at())
    total = sum(float(term.scale * term.values[0]) for term in terms.values())
    labels = np.log(np.exp([1, 0, 2]).sum()) - 2
    assert total == pytest.approx(labels + expected, rel=1e-6)


def test_masked_codes_do_not_depend_on_the_batch(config):
    plan = make_plan(config)
    batch = next(plan.batches("train", seed=0).epoch())
    mask = MaskCodes(SpanMask(0.5, 3))

    def masked(batch):
        return jax.jit(lambda b: mask(None, {}, b, Clock.at(), jax.random.key(3)))(batch)

    prepared = masked(batch)
    codes, is_masked = batch.inputs["codes"].ids, np.asarray(prepared.extra["masked"])
    np.testing.assert_array_equal(prepared.extra["codes"], codes)
    ids = np.asarray(prepared.inputs["codes"].ids)
    np.testing.assert_array_equal(ids, np.where(is_masked, MASK, codes))
    assert (ids[:, 0] == START).all()
    assert not is_masked[~np.asarray(batch.inputs["codes"].mask)].any()
    assert 0.2 < is_masked.sum() / batch.inputs["codes"].lengths.sum() < 0.6
    order = np.random.default_rng(0).permutation(len(ids))
    shuffled = masked(jax.tree.map(lambda x: x[order], batch))
    np.testing.assert_array_equal(np.asarray(shuffled.inputs["codes"].ids), ids[order])


def test_masks_change_what_students_read_but_not_text_encoders(config):
    plan = make_plan(config)
    method, network = plan.trained("sentence")
    initial = network.initial_variables(jax.random.key(0), plan.dataset.example)
    student, examples = Model(initial, network.apply), plan.dataset.splits["train"]
    stage, sentence = method.stages[0], plan.teachers["sentence_encoder"]
    encoder = Model(sentence.variable_shapes(plan.dataset.example), sentence.apply_shapes)
    changed = {
        name: reads_prepared_inputs(
            stage, student, {"sentence_encoder": encoder}, preprocess, examples, plan.dataset
        )
        for name, preprocess in (
            ("student", plan.student.preprocess),
            ("encoder", plan.teachers["sentence_encoder"].preprocess),
        )
    }
    assert changed == {"student": True, "encoder": False}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"student": {"model": "ngrams:64x8"}},
            r"config\.student\.model: expected speech:CODES,LAYERSxWIDTH .* got 'ngrams:64x8'",
        ),
        (
            {"textual_kd": {**speech.ROWS["scratch"], "freeze_encoder": True}},
            r"config\.textual_kd\.freeze_encoder: expected False without a pretraining",
        ),
        (
            {"textual_kd": {"sentence": {"encoder": ""}}},
            r"config\.textual_kd\.sentence\.encoder: expected sentence:DIR",
        ),
        (
            {"textual_kd": {**speech.ROWS["scratch"], "ctc": {"enabled": True}}},
            r"config\.textual_kd\.ctc\.enabled: expected False without a pretraining",
        ),
        (
            {"student": {"model": "speech:5,1x16,light:16"}},
            r"expected codes from 0 to 4",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(config, fields, message):
    config.update(fields)
    with pytest.raises(InputError, match=message) as error:
        make_plan(config)
    assert "\n" not in str(error.value)


def test_pretraining_without_recordings_is_refused(config, root, tmp_path):
    folder = tmp_path / "commands"
    folder.mkdir()
    for file in (root / "commands").iterdir():
        if not file.name.startswith("pretrain"):
            (folder / file.name).write_bytes(file.read_bytes())
    config.dataset.data_dir = str(folder)
    with pytest.raises(InputError, match="expected recordings without labels") as error:
        runs.run(config, tmp_path / "run")
    assert "\n" not in str(error.value)


# Each run is killed in the second epoch of the next network: masked_codes, sentence, ctc, the text
# classifier and the student. The network before has lost an epoch.
@pytest.mark.slow  # tests/methods/test_rl_kd.py kills runs whose losses have parameters, too.
def test_killed_run_ends_as_if_undisturbed(root, finished, tmp_path, monkeypatch):
    config = speech_config(root)
    config.textual_kd.update(speech.ROWS["augmentation"])
    for number in (2, 3, 3, 3, 5):
        with kill_at_record(monkeypatch, number):
            runs.run(config, tmp_path)
    runs.run(config, tmp_path)
    assert_same_run(tmp_path, finished)
    for name in ("masked_codes", "sentence", "ctc", "teacher"):
        stage = read_results(finished / name)["stage"]
        assert_trees_equal(
            *(read_checkpoint(folder / name / stage) for folder in (tmp_path, finished))
        )
        records = ([*map(without_times, read_metrics(x / name))] for x in (tmp_path, finished))
        assert next(records) == next(records)


@pytest.mark.parametrize("state", ["first", "mean"])
def test_sentence_loss_matches_the_chosen_state(config, state):
    config.textual_kd.sentence.state = state
    method, _ = make_plan(config).trained("sentence")
    (stage,) = method.stages
    rng = np.random.default_rng(0)
    features = {name: jnp.float32(rng.normal(size=(2, 6))) for name in ("sentence", "mean_state")}
    target = jnp.float32(rng.normal(size=(2, 6)))
    states = jnp.zeros((2, 4, 6))
    student = Outputs(jnp.zeros((2, 3)), {**features, "last_hidden_state": states})
    encoder = {"sentence_encoder": Outputs(jnp.zeros((2, 0)), {"sentence": target})}
    extra = {"codes": jnp.full((2, 4), 5), "masked": jnp.ones((2, 4), bool)}
    batch = Batch(None, jnp.zeros(2, jnp.int32), jnp.ones(2), extra=extra)
    arguments = (student, encoder, batch, Clock.at())
    variables = stage.loss.init(jax.random.key(0), *arguments)
    terms = stage.loss.apply(variables, *arguments)
    chosen = features["sentence" if state == "first" else "mean_state"]
    expected = np.square(np.asarray(chosen) - np.asarray(target)).mean(axis=1)
    np.testing.assert_allclose(terms["sentence"].values, expected, rtol=1e-5)
