"""Encoders in Hugging Face folders: config.json, model.safetensors and the tokenizer's files.

Weights are read and written only as safetensors, because loading a pickle can run any code.
"""

from typing import Any

from akd_jax.host.errors import require
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.models.huggingface.export import write_folder
from akd_jax.models.huggingface.folder import CONFIG, WEIGHTS, Folder, is_folder
from akd_jax.models.huggingface.weights import Weights

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "Folder",
    "Weights",
    "build",
    "encoder_config",
    "is_folder",
    "write_folder",
]


def build(argument: str, num_classes: int, dtype: Any) -> Encoder:
    """Builds the encoder of a folder. `Weights` reads its weights.

    Args:
      argument: 'DIR'; 'DIR,every=N' for every N-th layer; or 'DIR,first=N' for the first N.
      num_classes: C; 1 for a regression.
      dtype: dtype of the computation.

    Raises:
      InputError: the folder does not contain a supported encoder, or a package is not installed.
    """
    return Encoder(encoder_config(argument), num_classes, dtype)


def encoder_config(argument: str, name: str = "huggingface") -> EncoderConfig:
    """Returns the configuration of the encoder of a folder.

    Args:
      argument: 'DIR'; 'DIR,every=N' for every N-th layer; or 'DIR,first=N' for the first N.
      name: the name in front of the argument, for messages.

    Raises:
      InputError: the folder does not contain a supported encoder, or a package is not installed.
    """
    for package in ("tokenizers", "safetensors"):  # Fail before the weights are needed.
        require(package, "text")
    return Folder.parse(argument, name).encoder_config()
