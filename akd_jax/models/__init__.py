"""Network architectures, selected by a specification such as 'resnet:8'."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models import huggingface, ngrams, plain_cnn, resnet
from akd_jax.models.taps import tap

__all__ = ["MODELS", "TEXT_MODELS", "absolute", "build", "folder", "reads_texts", "tap"]

# Maps the name in NAME:ARGUMENT to a function that builds the module from the argument, the number
# of classes and the dtype.
MODELS: Mapping[str, Callable[[str, int, Any], nn.Module]] = {
    "huggingface": huggingface.build,
    "ngrams": ngrams.build,
    "plain_cnn": plain_cnn.build,
    "resnet": resnet.build,
}


# The models that read texts, as `Tokens`. One without a Hugging Face folder reads the characters
# of a text, and the others read images.
TEXT_MODELS = frozenset({"huggingface", "ngrams"})


def reads_texts(spec: str) -> bool:
    """Returns whether the model of a specification reads texts."""
    return spec.partition(":")[0] in TEXT_MODELS


def folder(spec: str) -> huggingface.Folder | None:
    """Returns the Hugging Face folder of a specification; None for other models.

    Raises:
      InputError: the folder does not exist.
    """
    name, _, argument = spec.partition(":")
    return huggingface.Folder.parse(argument) if name == "huggingface" else None


def absolute(spec: str) -> str:
    """Returns the specification with an absolute path, if it contains a path."""
    source = folder(spec)
    return spec if source is None else f"huggingface:{source.absolute()}"


def build(spec: str, num_classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """Builds the module of a specification NAME:ARGUMENT.

    Args:
      spec: one of
        'resnet:110', a CIFAR ResNet of this depth;
        'plain_cnn:10', the plain CNN of this depth in the Annealing-KD paper;
        'plain_cnn:16 M 16 M FC', a plain CNN with these layers;
        'huggingface:DIR', the encoder of a Hugging Face folder;
        'huggingface:DIR,every=3', every third layer of this encoder;
        'ngrams:4096x16', 4,096 buckets of character n-grams with embeddings of width 16;
        'ngrams:16384x64,64', the same with a hidden layer of 64 features.
      num_classes: C; 1 for a regression.
      dtype: dtype of the computation; parameters, statistics and logits are float32.

    Returns:
      A module that maps inputs [B, ...] or `Tokens` to `Outputs`, with the keyword arguments
      `train` and `axis_name`.

    Raises:
      InputError: the name is unknown, the model does not accept the argument, or a package that
        the model needs is not installed.
    """
    name, _, argument = spec.partition(":")
    if name not in MODELS:
        raise InputError(
            f"expected NAME:ARGUMENT with a name among {', '.join(MODELS)}, got {spec!r}"
        )
    return MODELS[name](argument, num_classes, dtype)
