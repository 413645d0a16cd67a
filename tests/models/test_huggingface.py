import json
import pathlib
import pydoc
import random
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from akd_jax import models
from akd_jax.data.text import tokenise
from akd_jax.errors import InputError
from akd_jax.models import huggingface, tokenizer
from akd_jax.models.huggingface import Folder, Weights
from akd_jax.types import Task
from tests.support.encoders import (
    KINDS,
    MINILM,
    in_torch,
    load,
    random_tokens,
    save,
    save_tokenizer,
    start,
)

LABELS = ("a", "b", "c")


def sentences(count):
    """Real English, from the documentation of Python's own modules, among it rarer characters."""
    found = [
        " ".join(line.split())
        for module in (pathlib, random, json, re, pydoc)
        for line in pydoc.plain(pydoc.render_doc(module)).splitlines()
        if len(line.split()) > 4
    ]
    rare = ["naïve café, Ångström", "価格は 100円です。", "[SEP] in a text <mask>", "🙂 ok", "a\tb"]
    assert len(found) >= count
    return (rare + found)[:count]


def rewrite(folder, change):
    """Changes the tensors in a folder."""
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder, match, labels=LABELS, *, fine_tuned=True):
    module = models.build(f"huggingface:{folder}", len(labels) or 1)
    tokens = random_tokens(module.config, [3], 3)
    shapes = jax.eval_shape(module.init, jax.random.key(0), tokens)
    with pytest.raises(InputError, match=match) as error:
        Weights(Folder(folder), Task(labels), fine_tuned).match(shapes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [LABELS, ()], ids=["classes", "regression"])
def test_transformers_loads_what_is_written_with_the_same_logits(kind, labels, tmp_path):
    save(tmp_path / "in", kind, labels=labels or ("LABEL_0",))
    save_tokenizer(tmp_path / "in", kind, sentences(50))
    module, variables = load(tmp_path / "in", labels)
    variables = jax.tree.map(lambda leaf: leaf * 1.1, variables)  # As training would change them.
    huggingface.write(tmp_path / "out", Folder(tmp_path / "in"), module, variables, Task(labels))

    auto = transformers.AutoModelForSequenceClassification
    reference, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info  # Nothing missing, unexpected or of another shape.
    tokens = random_tokens(module.config, [12, 1, 7], 12)
    expected = in_torch(reference.eval(), tokens).logits.numpy()
    np.testing.assert_allclose(module.apply(variables, tokens).logits, expected, atol=1e-4)
    assert reference.config.problem_type == (
        "single_label_classification" if labels else "regression"
    )
    assert tuple(reference.config.id2label.values()) == (labels or ("LABEL_0",))

    again, restored = load(tmp_path / "out", labels)
    assert again == module
    jax.tree.map(np.testing.assert_array_equal, restored["params"], variables["params"])
    text = ["a small test, of words"]
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(text)["input_ids"]
    written = tokenizer.load(tmp_path / "out").encode(text[0]).ids
    assert [written] == ids


def test_a_folder_with_files_is_not_written_over(tmp_path):
    save(tmp_path, "bert")
    module, variables = load(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match="a new or empty folder, got one with files"):
        huggingface.write(tmp_path, Folder(tmp_path), module, variables, Task(LABELS))
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_matched_by_their_names(kind, tmp_path):
    reference = save(tmp_path, kind, labels=("Contradiction", "neutral", "ENTAILMENT"))
    module, variables = load(tmp_path, ("entailment", "neutral", "contradiction"))
    tokens = random_tokens(module.config, [5, 4], 5)
    expected = in_torch(reference, tokens).logits.numpy()[:, [2, 1, 0]]
    np.testing.assert_allclose(module.apply(variables, tokens).logits, expected, atol=1e-4)


def test_labels_without_names_are_taken_in_order_with_a_warning(tmp_path, caplog):
    reference = save(tmp_path, "bert", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    module, variables = load(tmp_path)
    assert "its outputs have no names; they are taken to be a, b, c" in caplog.text
    tokens = random_tokens(module.config, [5], 5)
    expected = in_torch(reference, tokens).logits.numpy()
    np.testing.assert_allclose(module.apply(variables, tokens).logits, expected, atol=1e-4)


def test_every_second_layer(tmp_path):
    reference = save(tmp_path, "bert", num_hidden_layers=4)
    folder = Folder.parse(f"{tmp_path},every=2")
    module = models.build(f"huggingface:{tmp_path},every=2", 3)
    assert module.config.num_hidden_layers == 2
    tokens = random_tokens(module.config, [5, 4], 5)
    variables = start(module, Weights(folder, Task(LABELS), fine_tuned=True))
    # The second and the fourth, the layer that the head was trained on.
    reference.bert.encoder.layer = torch.nn.ModuleList(reference.bert.encoder.layer[1::2])
    reference.config.num_hidden_layers = 2
    expected = in_torch(reference, tokens).logits.numpy()
    np.testing.assert_allclose(module.apply(variables, tokens).logits, expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pretrained_encoder_gets_a_new_head(kind, tmp_path):
    base = {"bert": transformers.BertModel, "roberta": transformers.RobertaForMaskedLM}[kind]
    reference = save(tmp_path / "head", kind)
    base(reference.config).save_pretrained(tmp_path / "base")
    module = models.build(f"huggingface:{tmp_path / 'base'}", 2)
    tokens = random_tokens(module.config, [3], 3)
    initial = jax.jit(module.init)(jax.random.key(0), tokens)
    variables = start(module, Weights(Folder(tmp_path / "base"), Task(("x", "y"))))
    stored = safetensors.numpy.load_file(tmp_path / "base/model.safetensors")
    (name,) = (name for name in stored if name.endswith("word_embeddings.weight"))
    found = variables["params"]
    np.testing.assert_array_equal(found["embeddings"]["word"]["embedding"], stored[name])
    fresh = initial["params"]["classifier"]["kernel"]
    np.testing.assert_array_equal(found["classifier"]["kernel"], fresh)
    # BERT's pooler is pretrained; RoBERTa's head has nothing that is.
    same = np.array_equal(found["pooler"]["kernel"], initial["params"]["pooler"]["kernel"])
    assert same == (kind == "roberta")
    refused(tmp_path / "base", "expected a fine-tuned model with a head, got no classifier")


def test_a_head_of_another_task_is_not_what_a_student_starts_from(tmp_path):
    save(tmp_path, "bert", labels=("x", "y", "z"))
    module = models.build(f"huggingface:{tmp_path}", 3)
    initial = jax.jit(module.init)(jax.random.key(0), random_tokens(module.config, [3], 3))
    found = start(module, Weights(Folder(tmp_path), Task(LABELS)))
    fresh = initial["params"]["classifier"]["kernel"]
    np.testing.assert_array_equal(found["params"]["classifier"]["kernel"], fresh)


def test_old_names_of_layer_norm_are_read(tmp_path):
    reference = save(tmp_path, "bert")

    def rename(tensors):
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)

    rewrite(tmp_path, rename)
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [5], 5)
    expected = in_torch(reference, tokens).logits.numpy()
    np.testing.assert_allclose(module.apply(variables, tokens).logits, expected, atol=1e-4)


def test_half_precision_weights_are_read_as_float32(tmp_path):
    for kind in (torch.float16, torch.bfloat16):
        reference = save(tmp_path / str(kind), "bert").to(kind)
        reference.save_pretrained(tmp_path / str(kind))
        _, variables = load(tmp_path / str(kind))
        found = variables["params"]["layer_0"]["query"]["kernel"]
        expected = reference.bert.encoder.layer[0].attention.self.query.weight.float()
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected.detach().numpy().T)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    save(tmp_path, "bert")
    query = "bert.encoder.layer.1.attention.self.query.weight"
    rewrite(tmp_path, lambda tensors: tensors.pop(query))
    refused(tmp_path, rf"got some missing: {query}; take both files from the same model")
    rewrite(tmp_path, lambda tensors: tensors.update({query: np.zeros((32, 31), np.float32)}))
    refused(tmp_path, rf"of other shapes: {re.escape(query)} \[32, 31\] for \[32, 32\]")
    rewrite(tmp_path, lambda tensors: tensors.update({query: np.zeros((32, 32), np.float32)}))
    extra = "bert.encoder.layer.3.output.dense.weight"
    rewrite(tmp_path, lambda tensors: tensors.update({extra: np.zeros((32, 48), np.float32)}))
    refused(tmp_path, f"got some unknown: {re.escape(extra)}")
    edit_config(tmp_path, num_hidden_layers=12)
    refused(tmp_path, r"got some missing: bert\.encoder\.layer\.10\..* and \d+ more")


def test_teachers_of_other_tasks_are_refused(tmp_path):
    save(tmp_path / "regression", "bert", labels=("LABEL_0",))
    refused(tmp_path / "regression", "a head for the labels a, b, c, got one of a regression")
    save(tmp_path / "classes", "roberta", labels=("x", "y", "z"))
    refused(tmp_path / "classes", "a head for the labels a, b, c, got x, y, z; .* id2label")
    refused(tmp_path / "classes", "a head for the labels a, b, got x, y, z", ("a", "b"))
    refused(tmp_path / "classes", "a head for a regression, got x, y, z", ())


def test_a_pickle_is_refused_with_the_remedy(tmp_path):
    save(tmp_path, "bert")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    refused(tmp_path, r"got only pytorch_model\.bin, which can run any code .*\.save_pretrained")
    (tmp_path / "pytorch_model.bin").unlink()
    refused(tmp_path, "expected the model's weights, got no such file")
    (tmp_path / "model.safetensors").write_bytes(b"half of it")
    refused(tmp_path, "expected whole safetensors, got: ")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "distilbert"}, "a model_type of bert or roberta, got 'distilbert'"),
        ({"hidden_act": "silu"}, "hidden_act: expected 'gelu', 'gelu_new' or 'relu', got 'silu'"),
        ({"num_attention_heads": 5}, "a hidden_size that the 5 heads divide, got 32"),
        ({"num_attention_heads": 0}, "num_attention_heads: expected greater than or equal to 1"),
        ({"hidden_size": "32"}, "hidden_size: expected a valid integer, got '32'"),
        ({"vocab_size": None}, "vocab_size: expected a valid integer, got None"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps: expected a valid number, got '1e-12'"),
        ({"pad_token_id": None}, "pad_token_id: expected a valid integer, got None"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type absolute, got"),
    ],
)
def test_other_encoders_are_refused(change, match, tmp_path):
    save(tmp_path, "bert")
    edit_config(tmp_path, **change)
    with pytest.raises(InputError, match=match):
        models.build(f"huggingface:{tmp_path}", 3)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("", "expected huggingface:DIR or huggingface:DIR,every=N, got ''"),
        ("{},every=", "expected huggingface:DIR or huggingface:DIR,every=N"),
        ("{},every=0", "expected huggingface:DIR or huggingface:DIR,every=N"),
        ("{},every=4", "every=4: expected at most the 3 layers"),
        ("{}/nowhere", "expected a Hugging Face folder with config.json, .* hf download"),
    ],
)
def test_wrong_arguments(argument, match, tmp_path):
    save(tmp_path, "bert")
    with pytest.raises(InputError, match=match):
        models.build("huggingface:" + argument.format(tmp_path), 3)


def test_a_damaged_config_is_named(tmp_path):
    save(tmp_path, "bert")
    for content, match in (("{", "expected a JSON object, got: "), ("[]", "got something else")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=match):
            models.build(f"huggingface:{tmp_path}", 3)


def test_the_digest_is_of_what_is_read(tmp_path):
    save(tmp_path, "bert")
    before = Folder(tmp_path).digest()
    (tmp_path / "README.md").write_text("Not read.")
    assert Folder(tmp_path).digest() == before
    assert Folder(tmp_path, every=3).digest() != before
    rewrite(tmp_path, lambda tensors: tensors.update({"classifier.bias": np.ones(3, np.float32)}))
    assert Folder(tmp_path).digest() != before


def ids(found):
    return [encoding.ids for encoding in found]


def test_minilms_tokens_are_those_of_transformers():
    texts = sentences(1000)
    expected = transformers.AutoTokenizer.from_pretrained(MINILM)(texts)["input_ids"]
    found = tokenizer.load(MINILM)
    found.no_truncation()
    found.no_padding()
    assert ids(found.encode_batch(texts)) == [row[:128] for row in expected]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_the_older_files_are_those_of_transformers(kind, tmp_path):
    texts = sentences(1000)
    vocabulary = save_tokenizer(tmp_path, kind, texts, vocab_size=500)
    assert len(vocabulary) == 500
    assert not (tmp_path / "tokenizer.json").exists()
    cls = {"bert": transformers.BertTokenizer, "roberta": transformers.RobertaTokenizer}[kind]
    # As in the tokenizer.json of published RoBERTas; BERT's has nothing of the kind.
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True)
    reference = cls.from_pretrained(tmp_path, **({"mask_token": mask} if kind == "roberta" else {}))
    pairs = list(zip(texts[:500], texts[500:], strict=True))
    found, _ = tokenise(tokenizer.load(tmp_path), np.array(pairs, object), 64)
    first, second = zip(*pairs, strict=True)
    expected = reference(list(first), list(second), truncation=True, max_length=64)
    for row, length, wanted in zip(found.ids, found.lengths, expected["input_ids"], strict=True):
        assert row[:length].tolist() == wanted


def test_the_options_of_a_cased_vocabulary_are_kept(tmp_path):
    save_tokenizer(tmp_path, "bert", sentences(100), vocab_size=200)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    text = "UPPER and lower"
    expected = transformers.BertTokenizer.from_pretrained(tmp_path, do_lower_case=False)(text)
    assert tokenizer.load(tmp_path).encode(text).ids == expected["input_ids"]
    (tmp_path / "tokenizer_config.json").unlink()
    assert tokenizer.load(tmp_path).encode(text).ids != expected["input_ids"]


def test_no_tokenizer_or_a_damaged_one_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"expected tokenizer\.json, or vocab\.txt, or vocab\.json"
    ):
        tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="expected a tokenizer, got a damaged one"):
        tokenizer.load(tmp_path)


def test_labels_that_differ_in_their_case_alone_stay_apart(tmp_path):
    reference = save(tmp_path, "bert", labels=("US", "us", "x"))
    module, variables = load(tmp_path, ("us", "US", "x"))
    tokens = random_tokens(module.config, [5], 5)
    expected = in_torch(reference, tokens).logits.numpy()[:, [1, 0, 2]]
    np.testing.assert_allclose(module.apply(variables, tokens).logits, expected, atol=1e-4)


@pytest.mark.parametrize("names", [["a", "b", "c"], {"a": "0"}, {"0": "a", "2": "b"}])
def test_labels_of_another_form_are_refused(names, tmp_path):
    save(tmp_path, "bert")
    edit_config(tmp_path, id2label=names)
    with pytest.raises(InputError, match="expected an id2label of 0 to the number of labels"):
        Folder(tmp_path).labels()


def test_weights_in_several_files_are_refused_with_the_remedy(tmp_path):
    save(tmp_path, "bert").save_pretrained(tmp_path / "several", max_shard_size="20kB")
    refused(tmp_path / "several", r"expected one file, got weights in several; .* max_shard_size")


def test_heads_for_other_uses_are_no_matter(tmp_path):
    save(tmp_path, "bert")
    rewrite(tmp_path, lambda tensors: tensors.update({"qa_outputs.bias": np.zeros(2, np.float32)}))
    load(tmp_path)
