"""Networks, by name."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from akd_jax.errors import InputError
from akd_jax.models import huggingface, plain_cnn, resnet

# Name to a builder that takes what follows the colon, the number of classes and the dtype.
MODELS: Mapping[str, Callable[[str, int, Any], nn.Module]] = {
    "huggingface": huggingface.build,
    "plain_cnn": plain_cnn.build,
    "resnet": resnet.build,
}


def folder(spec: str) -> huggingface.Folder | None:
    """The Hugging Face folder of a `name:argument`; None where it names another model.

    Raises:
      InputError: there is no such folder.
    """
    name, _, argument = spec.partition(":")
    return huggingface.Folder.parse(argument) if name == "huggingface" else None


def absolute(spec: str) -> str:
    """A `name:argument` that means the same in every current folder."""
    found = folder(spec)
    return spec if found is None else f"huggingface:{found.absolute()}"


def build(spec: str, num_classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """Makes the module of a `name:argument`.

    Args:
      spec: such as 'resnet:110'; 'plain_cnn:10', the paper's CNN-10; a plain CNN's layers,
        'plain_cnn:16 M 16 M FC'; 'huggingface:DIR', the encoder of a Hugging Face folder; or
        'huggingface:DIR,every=3', with every third of its layers.
      num_classes: C; 1 for a regression.
      dtype: what the network computes in; parameters, statistics and logits are float32.

    Returns:
      A module that maps inputs [B, ...], or `Tokens`, to `Outputs`, and takes `train` and
      `axis_name`.

    Raises:
      InputError: the name is unknown, or its argument is not what that model takes.
    """
    name, _, argument = spec.partition(":")
    if name not in MODELS:
        raise InputError(
            f"expected NAME:ARGUMENT with a name among {', '.join(MODELS)}, got {spec!r}"
        )
    return MODELS[name](argument, num_classes, dtype)
