"""GPT-2 in Hugging Face folders."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from akd_jax.models.decoder import DecoderConfig
from akd_jax.models.huggingface import generators
from akd_jax.models.huggingface.folder import CONFIG, WEIGHTS, Folder, open_weights
from akd_jax.models.huggingface.names import ParameterPath
from akd_jax.types import TargetVocabulary, Variables

MODEL_TYPE = "gpt2"
_CLASS = "GPT2LMHeadModel"

# Names of fields of config.json, by those of `DecoderConfig`.
_FIELDS = {
    "vocabulary": "vocab_size",
    "max_length": "n_positions",
    "width": "n_embd",
    "layers": "n_layer",
    "heads": "n_head",
    "activation": "activation_function",
    "dropout": "resid_pdrop",
    "embedding_dropout": "embd_pdrop",
    "attention_dropout": "attn_pdrop",
    "layer_norm_eps": "layer_norm_epsilon",
    "initializer_range": "initializer_range",
}
_INNER = "n_inner"  # null for four times the width.
# Fields of config.json with the only value that is supported. A field may be missing.
_FIXED = {
    "add_cross_attention": False,
    "reorder_and_upcast_attn": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}
_EMBEDDINGS = {"tokens": "wte", "positions": "wpe"}
_BLOCKS = {
    ("attention_norm",): "ln_1",
    ("attention", "output"): "attn.c_proj",
    ("feed_forward_norm",): "ln_2",
    ("feed_forward", "inner"): "mlp.c_fc",
    ("feed_forward", "output"): "mlp.c_proj",
}
_PARTS = ("query", "key", "value")  # One tensor has the kernels of all three, side by side.
_JOINED = "attn.c_attn"
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
_PREFIX = "transformer."


@dataclasses.dataclass(frozen=True)
class Gpt2Weights:
    """The weights of a folder, as the initial weights of a student or those of a teacher.

    A network can have more tokens than the folder. Their embeddings are the mean of all others. Of
    a folder with more tokens, such as one whose table was padded, the first ones are used.
    """

    folder: Folder

    def __call__(self, shapes: Variables) -> dict[ParameterPath, np.ndarray]:
        """Reads the variables that the folder contains, as float32 arrays by path.

        Raises:
          InputError: see `match`.
        """
        path = self.folder.path
        with open_weights(self.folder, _CLASS) as file:
            tensors = _match(path / WEIGHTS, file, shapes, read_config(path).vocabulary)
            variables = {}
            for parameter, name in tensors.items():
                value = file.get_tensor(name).astype(np.float32)
                if parameter[-2] in _PARTS:
                    value = np.split(value, 3, axis=-1)[_PARTS.index(parameter[-2])]
                if parameter[0] == "tokens":
                    size = _leaf(shapes, parameter).shape[0]
                    more = np.tile(value.mean(axis=0), (max(0, size - len(value)), 1))
                    value = np.concatenate([value, more])[:size]
                variables["params", *parameter] = np.ascontiguousarray(value)
        return variables

    def match(self, shapes: Variables) -> None:
        """Raises InputError if tensors are missing or have other shapes; reads no values."""
        path = self.folder.path
        with open_weights(self.folder, _CLASS) as file:
            _match(path / WEIGHTS, file, shapes, read_config(path).vocabulary)


def read_config(folder: Path) -> DecoderConfig:
    """Returns the sizes and settings in the config.json of a folder.

    Raises:
      InputError: the file is missing or damaged, or describes another model.
    """
    settings = generators.read_settings(folder, MODEL_TYPE)
    generators.check_settings(folder, settings, tuple(_FIELDS.values()), _FIXED)
    values = {name: settings[field] for name, field in _FIELDS.items()}
    inner = settings.get(_INNER)
    if inner is None and isinstance(values["width"], int):
        inner = 4 * values["width"]
    values |= {"inner_width": inner, "norm": "pre"}
    return generators.build_config(
        folder, DecoderConfig, values, {**_FIELDS, "inner_width": _INNER}
    )


def write_folder(
    output: Path, config: DecoderConfig, variables: Variables, target: TargetVocabulary
) -> None:
    """Writes config.json and the weights of a network, which GPT2LMHeadModel of transformers loads.

    Args:
      output: the folder, which exists.
      config: the sizes and settings of the network.
      variables: its variables.
      target: the tokens of the texts that it generates.
    """
    safetensors = require("safetensors.numpy", "text")
    settings = {
        "model_type": MODEL_TYPE,
        "architectures": [_CLASS],
        **{field: getattr(config, name) for name, field in _FIELDS.items()},
        _INNER: config.inner_width,
        **_FIXED,
        "bos_token_id": target.start,
        "eos_token_id": target.end,
        "pad_token_id": target.pad,
    }
    params = traverse_util.flatten_dict(dict(variables["params"]))
    tensors: dict[str, np.ndarray] = {}
    for parameter, leaf in params.items():
        name = f"{_PREFIX}{tensor_name(parameter)}"
        if parameter[-2] in _PARTS and name not in tensors:
            parts = [params[(*parameter[:-2], part, parameter[-1])] for part in _PARTS]
            tensors[name] = np.concatenate([np.asarray(x, np.float32) for x in parts], axis=-1)
        elif parameter[-2] not in _PARTS:
            tensors[name] = np.ascontiguousarray(np.asarray(leaf, np.float32))
    (output / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (output / WEIGHTS).write_bytes(safetensors.save(tensors, metadata={"format": "pt"}))


def tensor_name(parameter: ParameterPath) -> str:
    """Returns the name of a parameter's tensor, without the prefix 'transformer.'.

    Args:
      parameter: the path of the parameter, such as ('layer_0', 'attention', 'key', 'kernel').
    """
    module, *inner, leaf = parameter
    suffix = _LEAVES[leaf]
    if module in _EMBEDDINGS:
        return f"{_EMBEDDINGS[module]}.{suffix}"
    if module == "norm":
        return f"ln_f.{suffix}"
    block = _JOINED if inner[-1] in _PARTS else _BLOCKS[tuple(inner)]
    return f"h.{module.removeprefix('layer_')}.{block}.{suffix}"


def _leaf(shapes: Variables, parameter: ParameterPath) -> Any:
    return traverse_util.flatten_dict(dict(shapes["params"]))[parameter]


def _match(path: Path, file: Any, shapes: Variables, vocabulary: int) -> dict[ParameterPath, str]:
    """Returns the name of each parameter's tensor; raises InputError if one does not fit."""
    stored = set(file.keys())
    prefix = _PREFIX if f"{_PREFIX}wte.weight" in stored else ""
    names = {}
    params: Mapping[ParameterPath, Any] = traverse_util.flatten_dict(dict(shapes["params"]))
    for parameter, leaf in params.items():
        name, shape = f"{prefix}{tensor_name(parameter)}", list(leaf.shape)
        if name not in stored:
            raise InputError(
                f"{path}: expected the tensor {name}, got none; fetch the files of one model"
            )
        actual = list(file.get_slice(name).get_shape())
        if parameter[-2] in _PARTS:
            shape[-1] *= len(_PARTS)
        if parameter[0] == "tokens":  # The network may have more or fewer.
            shape[0] = vocabulary
        if actual != shape:
            raise InputError(
                f"{path}: expected the tensor {name} with the shape {shape}, got {actual}; fetch"
                " the files of one model"
            )
        names[parameter] = name
    layers = {
        f"h.{number}." for number in range(sum(x[-2:] == ("query", "kernel") for x in params))
    }
    further = [
        name
        for name in stored
        if name.removeprefix(prefix).startswith("h.")
        and not any(name.removeprefix(prefix).startswith(layer) for layer in layers)
    ]
    if further:
        raise InputError(
            f"{path}: expected the tensors of {len(layers)} layers, as in {CONFIG}, got"
            f" {min(further)}; fetch the files of one model"
        )
    return names
