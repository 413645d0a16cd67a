"""Tokenizers of Marian's folders, against transformers, and data sets that use them."""

import json
import warnings

import numpy as np
import pytest
import transformers
from jax import export as jax_export

from akd_jax import runs
from akd_jax.data import sequences
from akd_jax.host.errors import InputError
from akd_jax.models import huggingface, tokenizer
from akd_jax.types import SOURCE, TARGET
from experiments import export
from experiments.preparation import parallel_text
from experiments.prepare import prepare_dataset
from tests.support import multilingual
from tests.support.encoders import train_sentencepiece
from tests.support.errors import error_of
from tests.support.marian import in_torch, save_marian
from tests.support.translating import pairs, translation_config, write_translations

TEXTS = multilingual.sentences(1000, seed=1)
WORDS = [text for pair in pairs(400, seed=3) for text in pair]


def save_tokenizers(folder, sources, targets, size=300):
    """Saves the files of two vocabularies with shared ids; returns the number of ids."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {"</s>": 0, "<unk>": 1}
    for name, texts in (("source", sources), ("target", targets)):
        model = train_sentencepiece(texts, size)
        (folder / f"{name}.spm").write_bytes(model.serialized_model_proto())
        for number in range(3, model.get_piece_size()):
            ids.setdefault(model.id_to_piece(number), len(ids))
    ids[">>fra<<"] = len(ids)
    ids["<pad>"] = len(ids)
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    return len(ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tokenizers of two languages with different letters. Tests must not change them."""
    path = tmp_path_factory.mktemp("marian")
    save_tokenizers(path, multilingual.sentences(2000, seed=0), WORDS)
    return path


@pytest.fixture(scope="module")
def reference(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The package sacremoses is not installed.
        return transformers.MarianTokenizer(
            *(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json"))
        )


def test_sources_equal_those_of_transformers(folder, reference):
    source, _ = tokenizer.load_sides(folder)
    ours = [x.ids for x in source.encode_batch(TEXTS, add_special_tokens=False)]
    assert [[*ids, 0] for ids in ours] == reference(TEXTS)["input_ids"]
    assert sum(1 in ids for ids in ours) > 100  # Some texts have unknown characters.


def test_targets_equal_those_of_transformers_and_are_decoded(folder, reference):
    _, target = tokenizer.load_sides(folder)
    ours = [x.ids for x in target.encode_batch(WORDS, add_special_tokens=False)]
    assert [[*ids, 0] for ids in ours] == reference(text_target=WORDS)["input_ids"]
    assert target.decode_batch(ours) == WORDS
    # A network may also write pieces of the source.
    pieces = np.random.default_rng(0).permutation(target.get_vocab_size() - 2)[:50] + 2
    pieces = [int(x) for x in pieces if target.id_to_token(int(x)) not in (">>fra<<", "<pad>")]
    for length in (1, 3, 10):
        expected = reference.decode(pieces[:length], skip_special_tokens=True)
        assert target.decode(pieces[:length]).strip() == expected.strip()


def test_codes_of_languages_are_tokens(folder, reference):
    source, _ = tokenizer.load_sides(folder)
    text = ">>fra<< naïve café"
    ids = source.encode(text, add_special_tokens=False).ids
    assert [*ids, 0] == reference(text)["input_ids"]
    assert ids[0] == reference.encoder[">>fra<<"]


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("{", "Expecting property name"),
        ('{"<pad>": 0, "</s>": 1, "<unk>": 3}', "ids with gaps"),
        ('{"<pad>": 0, "</s>": 1}', "no <unk>"),
    ],
)
def test_a_damaged_vocabulary_is_refused(folder, tmp_path, content, got):
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "vocab.json").write_text(content)
    message = error_of(tokenizer.load_sides, tmp_path)
    assert message.startswith(f"{tmp_path}/vocab.json: expected an object with the ids of all")
    assert f"got: {got}" in message


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of a small translation model with random weights."""
    path = tmp_path_factory.mktemp("model")
    size = save_tokenizers(path, WORDS, WORDS, size=60)
    save_marian(
        path,
        vocab_size=size,
        decoder_vocab_size=size,
        pad_token_id=size - 1,
        decoder_start_token_id=size - 1,
        eos_token_id=0,
    )
    return path


@pytest.fixture
def config(model, tmp_path):
    config = translation_config(tmp_path)
    folder = tmp_path / "own"
    write_translations(folder)
    for path in folder.glob("*.json"):
        path.unlink()
    line = prepare_dataset("parallel_text", folder, parallel=parallel_text.Options(folder=model))
    assert line.startswith(f"parallel_text is ready in {folder}: 96 training, 24 validation and")
    config.dataset.data_dir = str(folder)
    config.dataset.max_length = 12
    return config


@pytest.mark.slow  # By default the parts are tested: loading, training from a folder, and exports.
def test_a_model_is_distilled_into_a_small_network(config, model, tmp_path):
    config.method, config.teacher.path = "kd", str(model)
    config.kd.update({"weight": 1.0, "temperature": 1.0})
    config.student.model = "recurrent:200,1x16"
    results = runs.run(config, tmp_path / "run")
    assert results["teacher"]["test"] is not None
    plan, models = runs.load(tmp_path / "run")
    assert plan.dataset.task.target.start == plan.dataset.task.target.pad
    # The imported teacher has the logits of transformers.
    batch = next(plan.batches("test").epoch())
    texts = plan.teachers["teacher"].preprocess(batch.inputs)
    expected = in_torch(transformers.MarianMTModel.from_pretrained(model).eval(), texts)
    actual = np.asarray(models["teacher"](batch.inputs).logits)
    mask = np.asarray(texts[TARGET].mask)
    np.testing.assert_allclose(actual[mask], expected[mask], atol=1e-4)


def test_a_model_with_another_vocabulary_is_refused(config, model, tmp_path):
    other = tmp_path / "other"
    size = save_tokenizers(other, WORDS[:100], WORDS[:100], size=60)
    config.student.model = f"huggingface:{other}"
    save_marian(
        other,
        vocab_size=size,
        decoder_vocab_size=size,
        pad_token_id=size - 1,
        decoder_start_token_id=size - 1,
    )
    message = error_of(runs.make_plan, config)
    assert message == (
        "config.student.model: expected the tokenizers of the data set parallel_text in"
        f" huggingface:{other}, got others; prepare the data set in a new folder with --tokenizers"
        " and the folder of the model"
    )
    with pytest.raises(InputError, match="expected no tokenizer or that of"):
        prepare_dataset(
            "parallel_text",
            tmp_path / "own",
            parallel=parallel_text.Options(folder=other),
        )


def test_tokenizers_of_a_folder_keep_their_key(config, model):
    loaded = huggingface.Folder(model).load_tokenizers()
    own = sequences.of_tokenizers(*loaded, names=["a", "b"])
    config.student.model = "transformer:200,1+1x16"
    plan = runs.make_plan(config)
    assert own.key == plan.vocabularies[0].key


@pytest.mark.slow  # By default, test_seq2seq.py reads a written folder with transformers.
def test_a_trained_model_is_written_for_transformers(config, model, tmp_path):
    config.method = "scratch"
    config.student.model = f"huggingface:{model}"
    config.student.epochs = 1
    runs.run(config, tmp_path / "run")
    output = tmp_path / "exported"
    export.export_network(tmp_path / "run", "safetensors", output)
    plan, models = runs.load(tmp_path / "run")
    batch = next(plan.batches("test").epoch())
    texts = plan.student.preprocess(batch.inputs)
    mask = np.asarray(texts[TARGET].mask)
    expected = np.asarray(models["student"](batch.inputs).logits)
    actual = in_torch(transformers.MarianMTModel.from_pretrained(output).eval(), texts)
    np.testing.assert_allclose(actual[mask], expected[mask], atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert transformers.MarianTokenizer.from_pretrained(output)("eins zwei")["input_ids"]
    assert error_of(export.export_network, tmp_path / "run", "safetensors", output).endswith(
        "expected a new or empty folder, got one with files; choose another"
    )


@pytest.mark.parametrize(
    "student",
    ["transformer:200,1+1x16", pytest.param("recurrent:200,1x16", marks=pytest.mark.slow)],
)
def test_an_exported_program_gives_the_logits_of_the_next_tokens(config, tmp_path, student):
    config.student.model = student
    config.student.epochs = 1
    runs.run(config, tmp_path / "run")
    export.export_network(tmp_path / "run", "stablehlo", tmp_path / "network")
    program = jax_export.deserialize((tmp_path / "network").read_bytes())
    plan, models = runs.load(tmp_path / "run")
    batch = next(plan.batches("test").epoch())
    texts = plan.student.preprocess(batch.inputs)
    arrays = [x for side in (SOURCE, TARGET) for x in (texts[side].ids, texts[side].lengths)]
    actual = np.asarray(program.call(*arrays))
    expected = np.asarray(models["student"](batch.inputs).logits)
    mask = np.asarray(texts[TARGET].mask)
    np.testing.assert_allclose(actual[mask], expected[mask], atol=1e-5)
