import dataclasses
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
from akd_jax.host.errors import InputError
from akd_jax.models import huggingface, tokenizer
from akd_jax.models.huggingface import Folder, Weights
from akd_jax.types import Task
from tests.support.encoders import (
    DISTILBERT_FIELDS,
    KINDS,
    MINILM,
    in_torch,
    layers_in_torch,
    load,
    logits,
    random_tokens,
    save,
    save_tokenizer,
    start,
)

LABELS = ("a", "b", "c")


def sentences(count):
    """Returns English lines from Python's documentation and some lines with rare characters."""
    lines = [
        " ".join(line.split())
        for module in (pathlib, random, json, re, pydoc)
        for line in pydoc.plain(pydoc.render_doc(module)).splitlines()
        if len(line.split()) > 4
    ]
    rare = ["naïve café, Ångström", "価格は 100円です。", "[SEP] in a text <mask>", "🙂 ok", "a\tb"]
    assert len(lines) >= count
    return (rare + lines)[:count]


def rewrite(folder, change):
    """Applies a function to the tensors in a folder."""
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_rejected(folder, match, labels=LABELS, *, fine_tuned=True):
    module = models.build(f"huggingface:{folder}", len(labels) or 1)
    tokens = random_tokens(module.config, [3], 3)
    shapes = jax.eval_shape(module.init, jax.random.key(0), tokens)
    with pytest.raises(InputError, match=match) as error:
        Weights(Folder(folder), Task(labels), fine_tuned).match(shapes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("bert", LABELS), ("roberta", ()), ("xlm-roberta", ()), ("distilbert", LABELS)],
    ids=["bert", "roberta-regression", "xlm-roberta-regression", "distilbert"],
)
def test_transformers_loads_a_written_folder_with_the_same_logits(kind, labels, tmp_path):
    save(tmp_path / "in", kind, labels=labels or ("LABEL_0",))
    save_tokenizer(tmp_path / "in", kind, sentences(50))
    module, variables = load(tmp_path / "in", labels)
    variables = jax.tree.map(lambda leaf: leaf * 1.1, variables)  # Stands for training.
    huggingface.write_folder(
        tmp_path / "out", Folder(tmp_path / "in"), module, variables, Task(labels)
    )

    auto = transformers.AutoModelForSequenceClassification
    reference, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(reference) is KINDS[kind][1]
    assert not any(info.values()), info  # No missing, unexpected or mismatched tensors.
    tokens = random_tokens(module.config, [12, 1, 7], 12)
    expected = in_torch(reference.eval(), tokens).logits.numpy()
    np.testing.assert_allclose(logits(module, variables, tokens), expected, atol=1e-4)
    assert reference.config.problem_type == (
        "single_label_classification" if labels else "regression"
    )
    assert tuple(reference.config.id2label.values()) == (labels or ("LABEL_0",))

    loaded, restored = load(tmp_path / "out", labels)
    assert loaded == module
    jax.tree.map(np.testing.assert_array_equal, restored["params"], variables["params"])
    text = ["a small test, of words"]
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(text)["input_ids"]
    written = tokenizer.load(tmp_path / "out").encode(text[0]).ids
    assert [written] == ids


def test_folder_with_files_is_not_overwritten(tmp_path):
    save(tmp_path, "bert")
    module, variables = load(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match="a new or empty folder, got one with files"):
        huggingface.write_folder(tmp_path, Folder(tmp_path), module, variables, Task(LABELS))
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_matched_by_name(kind, tmp_path):
    reference = save(
        tmp_path, kind, num_hidden_layers=1, labels=("Contradiction", "neutral", "ENTAILMENT")
    )
    module, variables = load(tmp_path, ("entailment", "neutral", "contradiction"))
    tokens = random_tokens(module.config, [5, 4], 5)
    expected = in_torch(reference, tokens).logits.numpy()[:, [2, 1, 0]]
    np.testing.assert_allclose(logits(module, variables, tokens), expected, atol=1e-4)


def test_outputs_without_names_are_used_in_order_with_a_warning(tmp_path, caplog):
    reference = save(
        tmp_path, "bert", num_hidden_layers=1, labels=("LABEL_0", "LABEL_1", "LABEL_2")
    )
    module, variables = load(tmp_path)
    assert "the outputs have no label names; assuming the order a, b, c" in caplog.text
    tokens = random_tokens(module.config, [5], 5)
    expected = in_torch(reference, tokens).logits.numpy()
    np.testing.assert_allclose(logits(module, variables, tokens), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize(
    ("option", "used"), [("every=2", slice(1, None, 2)), ("first=2", slice(2))]
)
def test_some_layers_are_read_and_written(kind, option, used, tmp_path):
    reference = save(tmp_path / "in", kind, num_hidden_layers=4)
    folder = Folder.parse(f"{tmp_path / 'in'},{option}")
    assert Folder.parse(folder.absolute()) == folder
    module = models.build(f"huggingface:{tmp_path / 'in'},{option}", 3)
    assert module.config.num_hidden_layers == 2
    tokens = random_tokens(module.config, [5, 4], 5)
    variables = start(module, Weights(folder, Task(LABELS), fine_tuned=True))
    # The head was trained on the fourth layer.
    layers, owner = layers_in_torch(reference)
    owner.layer = torch.nn.ModuleList(layers[used])
    reference.config.num_hidden_layers = 2
    expected = in_torch(reference, tokens).logits.numpy()
    np.testing.assert_allclose(logits(module, variables, tokens), expected, atol=1e-4)

    huggingface.write_folder(tmp_path / "out", folder, module, variables, Task(LABELS))
    written = KINDS[kind][1].from_pretrained(tmp_path / "out")
    assert len(layers_in_torch(written)[0]) == written.config.num_hidden_layers == 2
    np.testing.assert_allclose(in_torch(written.eval(), tokens).logits, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pretrained_encoder_gets_a_random_head(kind, tmp_path):
    base = {
        "bert": transformers.BertModel,
        "roberta": transformers.RobertaForMaskedLM,
        "xlm-roberta": transformers.XLMRobertaModel,
        "distilbert": transformers.DistilBertForMaskedLM,
    }[kind]
    reference = save(tmp_path / "head", kind, num_hidden_layers=1)
    base(reference.config).save_pretrained(tmp_path / "base")
    module = models.build(f"huggingface:{tmp_path / 'base'}", 2)
    tokens = random_tokens(module.config, [3], 3)
    initial = jax.jit(module.init)(jax.random.key(0), tokens)
    variables = start(module, Weights(Folder(tmp_path / "base"), Task(("x", "y"))))
    stored = safetensors.numpy.load_file(tmp_path / "base/model.safetensors")
    (name,) = (name for name in stored if name.endswith("word_embeddings.weight"))
    params, initial_params = variables["params"], initial["params"]
    np.testing.assert_array_equal(params["embeddings"]["word"]["embedding"], stored[name])
    np.testing.assert_array_equal(
        params["classifier"]["kernel"], initial_params["classifier"]["kernel"]
    )
    # BERT's pooler is pretrained; no layer of the other heads is.
    random_pooler = np.array_equal(params["pooler"]["kernel"], initial_params["pooler"]["kernel"])
    assert random_pooler == (kind != "bert")
    assert_rejected(tmp_path / "base", "expected a fine-tuned model with a head, got no classifier")


@pytest.mark.parametrize("kind", KINDS)
def test_settings_equal_those_of_transformers_if_config_lacks_them(kind, tmp_path):
    fields = DISTILBERT_FIELDS if kind == "distilbert" else {}
    sizes = {
        "vocab_size": 50,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 30,
    }
    content = {"model_type": kind, **{fields.get(name, name): n for name, n in sizes.items()}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    expected = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
    for name, value in dataclasses.asdict(Folder(tmp_path).encoder_config()).items():
        if kind != "distilbert" or name not in ("type_vocab_size", "layer_norm_eps"):
            assert value == expected[fields.get(name, name)], name
    for name in sizes:
        field = fields.get(name, name)
        edit_config(tmp_path, **{field: "many"})
        with pytest.raises(InputError, match=f": {field}: expected a valid integer, got 'many'"):
            Folder(tmp_path).encoder_config()
        rest = {key: value for key, value in content.items() if key != field}
        (tmp_path / "config.json").write_text(json.dumps(rest))
        with pytest.raises(InputError, match=f"config.json: expected {field}, got none; fetch"):
            Folder(tmp_path).encoder_config()
        (tmp_path / "config.json").write_text(json.dumps(content))


def test_student_does_not_start_from_the_head_of_another_task(tmp_path):
    save(tmp_path, "bert", num_hidden_layers=1, labels=("x", "y", "z"))
    module = models.build(f"huggingface:{tmp_path}", 3)
    initial = jax.jit(module.init)(jax.random.key(0), random_tokens(module.config, [3], 3))
    variables = start(module, Weights(Folder(tmp_path), Task(LABELS)))
    np.testing.assert_array_equal(
        variables["params"]["classifier"]["kernel"], initial["params"]["classifier"]["kernel"]
    )


def test_old_tensor_names_of_layer_norm_are_read(tmp_path):
    reference = save(tmp_path, "bert", num_hidden_layers=1)

    def rename(tensors):
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)

    rewrite(tmp_path, rename)
    module, variables = load(tmp_path)
    tokens = random_tokens(module.config, [5], 5)
    expected = in_torch(reference, tokens).logits.numpy()
    np.testing.assert_allclose(logits(module, variables, tokens), expected, atol=1e-4)


def test_half_precision_weights_are_read_as_float32(tmp_path):
    for dtype in (torch.float16, torch.bfloat16):
        folder = tmp_path / str(dtype)
        reference = save(folder, "bert", num_hidden_layers=1).to(dtype)
        reference.save_pretrained(folder)
        _, variables = load(folder)
        kernel = variables["params"]["layer_0"]["query"]["kernel"]
        expected = reference.bert.encoder.layer[0].attention.self.query.weight.float()
        assert kernel.dtype == np.float32
        np.testing.assert_array_equal(kernel, expected.detach().numpy().T)


def test_mismatched_tensors_are_reported(tmp_path):
    save(tmp_path, "bert")
    query = "bert.encoder.layer.1.attention.self.query.weight"
    rewrite(tmp_path, lambda tensors: tensors.pop(query))
    assert_rejected(tmp_path, rf"got missing tensors: {query}; take both files from the same model")
    rewrite(tmp_path, lambda tensors: tensors.update({query: np.zeros((32, 31), np.float32)}))
    assert_rejected(
        tmp_path, rf"of other shapes: {re.escape(query)} \[32, 31\] instead of \[32, 32\]"
    )
    rewrite(tmp_path, lambda tensors: tensors.update({query: np.zeros((32, 32), np.float32)}))
    extra = "bert.encoder.layer.3.output.dense.weight"
    rewrite(tmp_path, lambda tensors: tensors.update({extra: np.zeros((32, 48), np.float32)}))
    assert_rejected(tmp_path, f"got unknown tensors: {re.escape(extra)}")
    edit_config(tmp_path, num_hidden_layers=12)
    assert_rejected(tmp_path, r"got missing tensors: bert\.encoder\.layer\.10\..* and \d+ more")


def test_teachers_of_other_tasks_are_rejected(tmp_path):
    save(tmp_path / "regression", "bert", labels=("LABEL_0",))
    assert_rejected(
        tmp_path / "regression", "a head for the labels a, b, c, got one for a regression"
    )
    save(tmp_path / "classes", "roberta", labels=("x", "y", "z"))
    assert_rejected(tmp_path / "classes", "a head for the labels a, b, c, got x, y, z; .* id2label")
    assert_rejected(tmp_path / "classes", "a head for the labels a, b, got x, y, z", ("a", "b"))
    assert_rejected(tmp_path / "classes", "a head for a regression, got x, y, z", ())


def test_pickle_and_missing_or_damaged_weights_are_rejected(tmp_path):
    save(tmp_path, "bert")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert_rejected(
        tmp_path, r"got only pytorch_model\.bin, which can run any code .*\.save_pretrained"
    )
    (tmp_path / "pytorch_model.bin").unlink()
    assert_rejected(tmp_path, "expected the weights of the model, got no file")
    (tmp_path / "model.safetensors").write_bytes(b"truncated")
    assert_rejected(tmp_path, "expected a complete safetensors file, got: ")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"model_type": "albert"},
            "the model_type bert, roberta, xlm-roberta or distilbert, got 'albert'; use a",
        ),
        ({"model_type": ["bert"]}, r"xlm-roberta or distilbert, got \['bert'\]"),
        ({"hidden_act": "silu"}, "hidden_act: expected 'gelu', 'gelu_new' or 'relu', got 'silu'"),
        ({"num_attention_heads": 5}, "a width divisible by the 5 heads, got 32"),
        ({"num_attention_heads": 0}, "num_attention_heads: expected greater than or equal to 1"),
        ({"hidden_size": "32"}, "hidden_size: expected a valid integer, got '32'"),
        ({"vocab_size": None}, "vocab_size: expected a valid integer, got None"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps: expected a valid number, got '1e-12'"),
        ({"pad_token_id": None}, "pad_token_id: expected a valid integer, got None"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type absolute, got"),
    ],
)
def test_unsupported_encoders_are_rejected(change, match, tmp_path):
    save(tmp_path, "bert")
    edit_config(tmp_path, **change)
    with pytest.raises(InputError, match=match):
        models.build(f"huggingface:{tmp_path}", 3)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        (
            "",
            "expected huggingface:DIR, huggingface:DIR,every=N or huggingface:DIR,first=N, got ''",
        ),
        ("{},every=", "expected huggingface:DIR, huggingface:DIR,every=N"),
        ("{},first=2,every=2", "expected huggingface:DIR, huggingface:DIR,every=N"),
        ("{},first=4", "first=4: expected at most 3, the number of layers"),
        ("{},every=0", "expected huggingface:DIR, huggingface:DIR,every=N"),
        ("{},every=4", "every=4: expected at most 3, the number of layers"),
        ("{}/nowhere", "expected a Hugging Face folder with config.json, .* hf download"),
    ],
)
def test_malformed_arguments_are_rejected(argument, match, tmp_path):
    save(tmp_path, "bert")
    with pytest.raises(InputError, match=match):
        models.build("huggingface:" + argument.format(tmp_path), 3)


def test_damaged_config_is_rejected(tmp_path):
    save(tmp_path, "bert")
    for content, match in (("{", "expected a JSON object, got: "), ("[]", "got a list")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=match):
            models.build(f"huggingface:{tmp_path}", 3)


def test_digest_covers_the_files_that_are_read(tmp_path):
    save(tmp_path, "bert")
    before = Folder(tmp_path).digest()
    (tmp_path / "README.md").write_text("Not covered.")
    assert Folder(tmp_path).digest() == before
    assert Folder(tmp_path, every=3).digest() != before
    assert Folder(tmp_path, first=1).digest() != before
    rewrite(tmp_path, lambda tensors: tensors.update({"classifier.bias": np.ones(3, np.float32)}))
    assert Folder(tmp_path).digest() != before


def test_tokens_of_minilm_equal_those_of_transformers():
    texts = sentences(1000)
    expected = transformers.AutoTokenizer.from_pretrained(MINILM)(texts)["input_ids"]
    minilm = tokenizer.load(MINILM)
    minilm.no_truncation()
    minilm.no_padding()
    ids = [encoding.ids for encoding in minilm.encode_batch(texts)]
    assert ids == [row[:128] for row in expected]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_old_tokenizer_files_equal_those_of_transformers(kind, tmp_path):
    texts = sentences(1000)
    vocabulary = save_tokenizer(tmp_path, kind, texts, vocab_size=500)
    assert len(vocabulary) == 500
    assert not (tmp_path / "tokenizer.json").exists()
    cls = {
        "bert": transformers.BertTokenizer,
        "roberta": transformers.RobertaTokenizer,
        "xlm-roberta": transformers.XLMRobertaTokenizer,
        "distilbert": transformers.DistilBertTokenizer,
    }[kind]
    # The tokenizer.json of published RoBERTas has these settings of <mask>.
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True)
    reference = cls.from_pretrained(tmp_path, **({"mask_token": mask} if kind == "roberta" else {}))
    pairs = list(zip(texts[:500], texts[500:], strict=True))
    tokens, _ = tokenise(tokenizer.load(tmp_path), np.array(pairs, object), 64)
    first, second = zip(*pairs, strict=True)
    expected = reference(list(first), list(second), truncation=True, max_length=64)
    for row, length, ids in zip(tokens.ids, tokens.lengths, expected["input_ids"], strict=True):
        assert row[:length].tolist() == ids


def test_case_option_of_the_tokenizer_is_respected(tmp_path):
    save_tokenizer(tmp_path, "bert", sentences(100), vocab_size=200)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    text = "UPPER and lower"
    expected = transformers.BertTokenizer.from_pretrained(tmp_path, do_lower_case=False)(text)
    assert tokenizer.load(tmp_path).encode(text).ids == expected["input_ids"]
    (tmp_path / "tokenizer_config.json").unlink()
    assert tokenizer.load(tmp_path).encode(text).ids != expected["input_ids"]


def test_missing_or_damaged_tokenizer_is_rejected(tmp_path):
    with pytest.raises(
        InputError, match=r"expected tokenizer\.json, or vocab\.txt, or vocab\.json"
    ):
        tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="expected a tokenizer, got a damaged one"):
        tokenizer.load(tmp_path)


def test_labels_that_differ_only_in_case_are_distinguished(tmp_path):
    reference = save(tmp_path, "bert", num_hidden_layers=1, labels=("US", "us", "x"))
    module, variables = load(tmp_path, ("us", "US", "x"))
    tokens = random_tokens(module.config, [5], 5)
    expected = in_torch(reference, tokens).logits.numpy()[:, [1, 0, 2]]
    np.testing.assert_allclose(logits(module, variables, tokens), expected, atol=1e-4)


@pytest.mark.parametrize("names", [["a", "b", "c"], {"a": "0"}, {"0": "a", "2": "b"}])
def test_malformed_id2label_is_rejected(names, tmp_path):
    save(tmp_path, "bert")
    edit_config(tmp_path, id2label=names)
    with pytest.raises(InputError, match="expected an id2label with the keys 0 to C - 1"):
        Folder(tmp_path).labels()


def test_weights_in_several_files_are_rejected(tmp_path):
    save(tmp_path, "bert").save_pretrained(tmp_path / "several", max_shard_size="20kB")
    assert_rejected(
        tmp_path / "several", r"expected one file, got weights in several files; .* max_shard_size"
    )


def test_heads_for_other_tasks_are_ignored(tmp_path):
    save(tmp_path, "bert", num_hidden_layers=1)
    _, expected = load(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.update({"qa_outputs.bias": np.zeros(2, np.float32)}))
    _, variables = load(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
