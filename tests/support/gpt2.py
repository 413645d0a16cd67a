"""Small GPT-2 models of transformers with random weights, and their inputs."""

import jax
import numpy as np
import torch
import transformers
from flax import traverse_util

from akd_jax.models.decoder import Decoder
from akd_jax.models.huggingface import Folder, Gpt2Weights, gpt2
from akd_jax.types import COMPLETION, PROMPT, Tokens

SIZE = 23


def save_gpt2(folder, **changes):
    """Saves a small random model, and returns it."""
    settings = {
        "vocab_size": SIZE,
        "n_positions": 32,
        "n_embd": 16,
        "n_layer": 3,
        "n_head": 4,
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 0,
        **changes,
    }
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    return model


def load(folder, size=None):
    """The network of a folder, possibly with more tokens, and its variables."""
    config = gpt2.read_config(folder)
    if size is not None:
        config = type(config)(**{**vars(config), "vocabulary": size})
    module = Decoder(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), texts([2], [2]))
    return module, traverse_util.unflatten_dict(Gpt2Weights(Folder(folder))(shapes))


def texts(prompts, completions, seed=0, size=SIZE, length=None):
    """Random prompts and completions with given numbers of tokens, in rows of a common length."""
    rng = np.random.default_rng(seed)
    lengths = np.int32(prompts) + np.int32(completions)
    shape = (len(lengths), length or lengths.max())
    columns = np.arange(shape[1])
    ids = np.where(columns < lengths[:, None], rng.integers(1, size, shape), 0)
    types = np.where(columns < np.int32(prompts)[:, None], PROMPT, COMPLETION)
    return Tokens(ids.astype(np.int32), types.astype(np.int32), lengths)


def in_torch(model, inputs):
    """The logits of a model of transformers, [B, L, V]."""
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(np.int64(inputs.ids)),
            attention_mask=torch.tensor(np.int64(np.asarray(inputs.mask))),
        ).logits.numpy()
