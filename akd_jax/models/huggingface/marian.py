"""Marian's translation models in Hugging Face folders, such as opus-mt."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from akd_jax.models.huggingface import generators
from akd_jax.models.huggingface.folder import CONFIG, WEIGHTS, Folder, open_weights
from akd_jax.models.huggingface.names import ParameterPath, convert_kernel, torch_shape
from akd_jax.models.seq2seq import Seq2SeqConfig
from akd_jax.types import Variables

MODEL_TYPE = "marian"
_CLASS = "MarianMTModel"

# Names of fields of config.json, by those of `Seq2SeqConfig`.
_FIELDS = {
    "source_size": "vocab_size",
    "width": "d_model",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "heads": "encoder_attention_heads",
    "inner_width": "encoder_ffn_dim",
    "activation": "activation_function",
    "max_length": "max_position_embeddings",
    "scale_embeddings": "scale_embedding",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "initializer_range": "init_std",
    "pad": "pad_token_id",
    "start": "decoder_start_token_id",
    "end": "eos_token_id",
}
# Fields of config.json with the only value that is supported. A field may be missing.
_FIXED = {
    "normalize_before": False,
    "add_final_layer_norm": False,
    "activation_dropout": 0.0,
    "tie_word_embeddings": True,
}
# Settings of all Marian models.
_MARIAN: Mapping[str, Any] = {
    "norm": "post",
    "positions": "sinusoidal",
    "output_bias": True,
    "layer_norm_eps": 1e-5,
}
# Pairs of fields that must be equal.
_EQUAL = (
    ("encoder_attention_heads", "decoder_attention_heads"),
    ("encoder_ffn_dim", "decoder_ffn_dim"),
)
_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
_FEED_FORWARD = {"inner": "fc1", "output": "fc2"}
_SHARED = "model.shared"
# Other names of the table of tied embeddings.
_ALIASES = (
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
)
_OUTPUT_BIAS = "final_logits_bias"


@dataclasses.dataclass(frozen=True)
class MarianWeights:
    """The weights of a folder, as the initial weights of a student or those of a teacher."""

    folder: Folder

    def __call__(self, shapes: Variables) -> dict[ParameterPath, np.ndarray]:
        """Reads the variables by path; see `read_weights`."""
        return read_weights(self.folder.path, shapes)

    def match(self, shapes: Variables) -> None:
        """Raises InputError if tensors are missing or have other shapes; reads no values."""
        with open_weights(self.folder, _CLASS) as file:
            _match(self.folder.path / WEIGHTS, file, shapes)


def read_config(folder: Path) -> Seq2SeqConfig:
    """Returns the sizes and settings in the config.json of a folder.

    Raises:
      InputError: the file is missing or damaged, or describes another model.
    """
    path = folder / CONFIG
    settings = generators.read_settings(folder, MODEL_TYPE)
    generators.check_settings(folder, settings, tuple(_FIELDS.values()), _FIXED)
    for one, other in _EQUAL:
        if settings.get(one) != settings.get(other):
            raise InputError(
                f"{path}: expected {one} and {other} to be equal, got {settings.get(one)!r} and"
                f" {settings.get(other)!r}; use a supported model"
            )
    given = {name: settings[field] for name, field in _FIELDS.items()}
    tied = settings.get("share_encoder_decoder_embeddings", True)
    size = "vocab_size" if tied else "decoder_vocab_size"
    if size in settings:
        given["target_size"] = settings[size]
    return generators.build_config(
        folder,
        Seq2SeqConfig,
        {**given, **_MARIAN, "tied": "all" if tied else "target"},
        {**_FIELDS, "target_size": size},
    )


def read_weights(folder: Path, shapes: Variables) -> dict[ParameterPath, np.ndarray]:
    """Reads the variables of a folder, as float32 arrays by path.

    Args:
      folder: the folder.
      shapes: the variables of the network, or their shapes.

    Raises:
      InputError: tensors are missing or have other shapes.
    """
    with open_weights(Folder(folder), _CLASS) as file:
        variables = {}
        for parameter, name in _match(folder / WEIGHTS, file, shapes).items():
            value = file.get_tensor(name).astype(np.float32)
            value = value.reshape(-1) if name == _OUTPUT_BIAS else value
            variables["params", *parameter] = np.ascontiguousarray(convert_kernel(parameter, value))
    return variables


def _match(path: Path, file: Any, shapes: Variables) -> dict[ParameterPath, str]:
    """Returns the name of each parameter's tensor; raises InputError if one does not fit."""
    params = traverse_util.flatten_dict(dict(shapes["params"]))
    tied = ("source_embedding", "embedding") not in params
    stored = set(file.keys())
    names = {}
    for parameter, leaf in params.items():
        name = _stored_name(tensor_name(parameter, tied), stored)
        if name is None:
            raise InputError(
                f"{path}: expected the tensor {tensor_name(parameter, tied)}, got none; fetch"
                " the files of one model"
            )
        shape = tuple(file.get_slice(name).get_shape())
        if name == _OUTPUT_BIAS:
            shape = shape[1:]  # Of [1, V].
        if shape != torch_shape(parameter, leaf.shape):
            raise InputError(
                f"{path}: expected the tensor {name} with the shape"
                f" {list(torch_shape(parameter, leaf.shape))}, got {list(shape)}; fetch the files"
                " of one model"
            )
        names[parameter] = name
    further = _layers(stored) - _layers(names.values())
    if further:
        raise InputError(
            f"{path}: expected the layers that {CONFIG} describes, got tensors of {min(further)}"
            " too; fetch the files of one model"
        )
    return names


def _layers(tensors: Iterable[str]) -> set[str]:
    """Returns the layers whose tensors are among those of these names."""
    pattern = r"(model\.(?:encoder|decoder)\.layers\.\d+)\."
    return {match[1] for name in tensors if (match := re.match(pattern, name))}


def write_folder(output: Path, source: Path, config: Seq2SeqConfig, variables: Variables) -> None:
    """Writes config.json and the weights of a network, which MarianMTModel of transformers loads.

    Args:
      output: the folder; it is created if necessary.
      source: a folder of a model with the same vocabulary, for the other settings.
      config: the sizes and settings of the network.
      variables: its variables.

    Raises:
      InputError: the network is no Marian model, such as one with learned positions.
    """
    for name, expected in _MARIAN.items():
        if getattr(config, name) != expected:
            raise InputError(
                f"{output}: expected a network with {name} {expected!r}, as Marian models have, got"
                f" {getattr(config, name)!r}; change it"
            )
    if config.tied == "none":
        raise InputError(
            f"{output}: expected a network whose output layer is tied to the embeddings of the"
            " target, got one with tied 'none'; change it"
        )
    safetensors = require("safetensors.numpy", "text")
    settings = generators.read_settings(source, MODEL_TYPE)
    settings |= {field: getattr(config, name) for name, field in _FIELDS.items()}
    settings |= {other: settings[one] for one, other in _EQUAL}
    settings["num_hidden_layers"] = config.encoder_layers
    settings["decoder_vocab_size"] = config.target_size
    settings["share_encoder_decoder_embeddings"] = config.tied == "all"
    settings["architectures"] = [_CLASS]
    for field in ("_name_or_path", "torch_dtype", "dtype"):
        settings.pop(field, None)
    params = traverse_util.flatten_dict(dict(variables["params"]))
    tied = config.tied == "all"
    tensors = {}
    for parameter, leaf in params.items():
        value = np.ascontiguousarray(convert_kernel(parameter, np.asarray(leaf, np.float32)))
        name = tensor_name(parameter, tied)
        tensors[name] = value[None] if name == _OUTPUT_BIAS else value
    output.mkdir(parents=True, exist_ok=True)
    (output / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (output / WEIGHTS).write_bytes(safetensors.save(tensors, metadata={"format": "pt"}))


def tensor_name(parameter: ParameterPath, tied: bool) -> str:
    """Returns the name of a parameter's tensor.

    Args:
      parameter: the path of the parameter, such as ('encoder_0', 'attention', 'key', 'kernel').
      tied: whether one table has the embeddings of sources and targets.
    """
    module, *rest = parameter
    if module == "output_bias":
        return _OUTPUT_BIAS
    if module == "target_embedding":
        return f"{_SHARED}.weight" if tied else "model.decoder.embed_tokens.weight"
    if module == "source_embedding":
        return "model.encoder.embed_tokens.weight"
    side, _, number = module.partition("_")
    block, *inner, leaf = rest
    suffix = {"kernel": "weight", "scale": "weight", "bias": "bias"}[leaf]
    prefix = f"model.{side}.layers.{number}"
    if block == "feed_forward":
        return f"{prefix}.{_FEED_FORWARD[inner[0]]}.{suffix}"
    if block == "feed_forward_norm":
        return f"{prefix}.final_layer_norm.{suffix}"
    attention = "encoder_attn" if block.startswith("cross") else "self_attn"
    if block.endswith("norm"):
        return f"{prefix}.{attention}_layer_norm.{suffix}"
    return f"{prefix}.{attention}.{_ATTENTION[inner[0]]}.{suffix}"


def _stored_name(name: str, stored: set[str]) -> str | None:
    """Returns the name under which a tensor is stored; a tied one has several names."""
    if name in stored:
        return name
    aliases = _ALIASES if name == f"{_SHARED}.weight" else ()
    return next((alias for alias in aliases if alias in stored), None)
