"""Encoders that return a vector for a text, against transformers."""

import jax
import numpy as np
import pytest
import torch
import transformers

from akd_jax import models
from akd_jax.host.errors import InputError
from akd_jax.models import huggingface
from akd_jax.runs.resume import model_key
from akd_jax.teachers.selection import Selection
from akd_jax.teachers.stored import Fingerprint, load_or_build
from akd_jax.types import Task
from tests.support.encoders import KINDS, MINILM, in_torch, random_tokens, save, start

LENGTHS = [12, 1, 7, 30, 3]
BARE = {
    "bert": transformers.BertModel,
    "roberta": transformers.RobertaModel,
    "xlm-roberta": transformers.XLMRobertaModel,
    "distilbert": transformers.DistilBertModel,
}


def load(folder):
    """The module of a folder and its variables; the labels of the task do not matter."""
    spec = f"sentence:{folder}"
    module = models.build(spec, 5)
    return module, start(module, huggingface.Weights(models.folder(spec), Task(("x", "y"))))


def mean_vectors(reference, tokens):
    """The means of the last hidden states over the real tokens, scaled to a mean square of 1."""
    states = in_torch(reference, tokens).last_hidden_state
    means = torch.stack([x[:n].mean(dim=0) for x, n in zip(states, tokens.lengths, strict=True)])
    return (means / means.square().mean(dim=1, keepdim=True).sqrt()).numpy()


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_equal_those_of_transformers(kind, with_head, tmp_path):
    save(tmp_path, kind)
    reference = BARE[kind].from_pretrained(tmp_path).eval()
    if not with_head:
        reference.save_pretrained(tmp_path)
    module, variables = load(tmp_path)
    assert {name.partition("_")[0] for name in variables["params"]} == {"embeddings", "layer"}
    tokens = random_tokens(module.config, LENGTHS, 30)
    outputs = jax.jit(module.apply)(variables, tokens)
    vectors, expected = outputs.features["sentence"], mean_vectors(reference, tokens)
    assert np.ptp(expected, axis=0).min() > 0.1  # The vectors depend on the text.
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    np.testing.assert_allclose(np.square(vectors).mean(axis=1), 1, rtol=1e-5)
    assert outputs.logits.shape == (5, 0)
    assert {"hidden_0", "hidden_3", "last_hidden_state"} <= outputs.features.keys()


def test_minilm_gives_the_vectors_of_transformers():
    module, variables = load(MINILM)
    tokens = random_tokens(module.config, [9, 5], 9)
    reference = transformers.AutoModel.from_pretrained(MINILM).eval()
    vectors = jax.jit(module.apply)(variables, tokens).features["sentence"]
    np.testing.assert_allclose(vectors, mean_vectors(reference, tokens), atol=1e-4)


def test_vectors_are_stored_without_logits(tmp_path):
    save(tmp_path / "bert", "bert", num_hidden_layers=1)
    module, variables = load(tmp_path / "bert")
    outputs = jax.jit(module.apply)(variables, random_tokens(module.config, LENGTHS, 30))
    selected = Selection(("sentence",))(outputs)
    fingerprint = Fingerprint("t", "d", "", 0, "float32", "sentence")
    for _ in range(2):  # Computed, and read from the disk.
        stored = load_or_build(tmp_path, "teacher", fingerprint, 1, lambda view: selected)
        np.testing.assert_array_equal(
            stored.views[0].features["sentence"], outputs.features["sentence"]
        )
        assert stored.views[0].logits.shape == (5, 0)


def test_specifications_with_a_folder_keep_their_name(tmp_path, monkeypatch):
    save(tmp_path / "bert", "bert")
    monkeypatch.chdir(tmp_path)
    spec = "sentence:bert,every=3"
    folder = models.folder(spec)
    assert models.build(spec, 3).config.num_hidden_layers == 1
    assert models.absolute(spec) == f"sentence:{tmp_path / 'bert'},every=3"
    assert model_key(spec) == f"sentence:{folder.digest()}"
    assert models.input_kind(spec) == "text"
    message = (
        "expected sentence:DIR, sentence:DIR,every=N or sentence:DIR,first=N, got 'bert,every=0'"
    )
    with pytest.raises(InputError, match=message):
        models.build("sentence:bert,every=0", 3)
