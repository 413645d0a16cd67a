"""Small Marian models of transformers with random weights, and their inputs."""

import jax
import numpy as np
import torch
import transformers
from flax import traverse_util

from akd_jax.models.huggingface import marian
from akd_jax.models.seq2seq import Transformer
from akd_jax.types import SOURCE, TARGET, Tokens

SIZE, PAD, END = 23, 22, 0


def save_marian(folder, **changes):
    """Saves a small random model, and returns it."""
    settings = {
        "vocab_size": SIZE,
        "decoder_vocab_size": SIZE,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": 32,
        "activation_function": "swish",
        "scale_embedding": True,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "forced_eos_token_id": None,
        "decoder_start_token_id": PAD,
        "init_std": 0.3,
        **changes,
    }
    torch.manual_seed(0)
    model = transformers.MarianMTModel(transformers.MarianConfig(**settings)).eval()
    with torch.no_grad():  # A new model has no bias of the logits.
        model.final_logits_bias.normal_()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    return model


def load(folder, dtype=None):
    """The network of a folder and its variables."""
    config = marian.read_config(folder)
    module = Transformer(config) if dtype is None else Transformer(config, dtype)
    shapes = jax.eval_shape(module.init, jax.random.key(0), texts([3], [2]))
    return module, traverse_util.unflatten_dict(marian.read_weights(folder, shapes))


def texts(source_lengths, target_lengths, seed=0, start=PAD, size=SIZE - 1):
    """Random sources that end with the end token, and contexts that start with the start token."""
    rng = np.random.default_rng(seed)

    def tokens(lengths, first=None, last=None):
        ids = np.full((len(lengths), max(lengths)), PAD, np.int32)
        for row, length in enumerate(lengths):
            ids[row, :length] = rng.integers(1, size, length)
            if last is not None:
                ids[row, length - 1] = last
        if first is not None:
            ids[:, 0] = first
        return Tokens(ids, np.zeros_like(ids), np.int32(lengths))

    return {SOURCE: tokens(source_lengths, last=END), TARGET: tokens(target_lengths, first=start)}


def in_torch(model, inputs):
    """The logits of a model of transformers, [B, T, V]."""
    source, target = inputs[SOURCE], inputs[TARGET]
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(np.int64(source.ids)),
            attention_mask=torch.tensor(np.int64(np.asarray(source.mask))),
            decoder_input_ids=torch.tensor(np.int64(target.ids)),
        ).logits.numpy()
