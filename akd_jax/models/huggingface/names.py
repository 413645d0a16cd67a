"""The mapping between the parameters of `Encoder` and the tensors of Hugging Face's models.

A parameter is identified by its path in Flax's tree of parameters, such as
('layer_0', 'query', 'kernel'), and a tensor by its name, such as
'bert.encoder.layer.0.attention.self.query.weight'.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from akd_jax.models.huggingface.families import FAMILIES, Family

ParameterPath = tuple[str, ...]

_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}

# Matches the tensors of an encoder. Other tensors belong to heads for other tasks.
_ENCODER_TENSOR = re.compile(
    r"({})?(encoder\.|transformer\.|embeddings\.(?!position_ids$))".format(
        "|".join(re.escape(family.prefix) for family in FAMILIES.values())
    )
)


def module_names(family: Family, layers: Sequence[int], prefix: str) -> dict[ParameterPath, str]:
    """Returns Hugging Face's name of each module, by the path of the Flax module.

    Args:
      family: the family of the encoder.
      layers: the indices of the used layers in the folder. In Flax they are numbered 0, 1, ...
      prefix: prefix of the encoder's tensors, such as 'bert.'.
    """
    modules: dict[ParameterPath, str] = {
        ("embeddings", flax_name): f"{prefix}embeddings.{torch_name}"
        for flax_name, torch_name in family.embeddings.items()
    }
    for index, layer in enumerate(layers):
        for flax_name, torch_name in family.layer.items():
            modules[f"layer_{index}", flax_name] = f"{prefix}{family.layers}.{layer}.{torch_name}"
    pooler = f"{prefix}{family.pooler}" if family.pretrained_pooler else family.pooler
    return modules | {("pooler",): pooler, ("classifier",): family.classifier}


def tensor_name(modules: Mapping[ParameterPath, str], path: ParameterPath) -> str:
    """Returns the name of a parameter's tensor."""
    return f"{modules[path[:-1]]}.{_LEAVES[path[-1]]}"


def unknown_tensors(names: Sequence[str], modules: Mapping[ParameterPath, str]) -> list[str]:
    """Returns the names of encoder tensors that belong to none of the modules."""
    known = {f"{name}.{leaf}" for name in modules.values() for leaf in _LEAVES.values()}
    return [name for name in names if name not in known and _ENCODER_TENSOR.match(name)]


def convert_kernel(path: ParameterPath, value: np.ndarray) -> np.ndarray:
    """Converts between Flax's (in, out) and PyTorch's (out, in) layout of kernels, both ways."""
    return value.T if path[-1] == "kernel" else value


def torch_shape(path: ParameterPath, shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of a parameter's tensor in PyTorch's layout."""
    return tuple(reversed(shape)) if path[-1] == "kernel" else tuple(shape)


def current_name(name: str) -> str:
    """Returns the current name of a tensor; old files use gamma and beta in layer norms."""
    name = re.sub(r"(?<=LayerNorm\.)gamma$", "weight", name)
    return re.sub(r"(?<=LayerNorm\.)beta$", "bias", name)
