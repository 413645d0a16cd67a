"""Networks in Hugging Face folders: config.json, model.safetensors and the tokenizer's files.

Weights are read and written only as safetensors, because loading a pickle can run any code.
"""

import dataclasses
from typing import Any

from akd_jax.host.errors import InputError, require
from akd_jax.models.decoder import Decoder, DecoderConfig
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.models.huggingface import gpt2, marian
from akd_jax.models.huggingface.export import (
    write_decoder_folder,
    write_folder,
    write_translation_folder,
)
from akd_jax.models.huggingface.folder import CONFIG, WEIGHTS, Folder, is_folder
from akd_jax.models.huggingface.gpt2 import Gpt2Weights
from akd_jax.models.huggingface.marian import MarianWeights
from akd_jax.models.huggingface.weights import Weights
from akd_jax.models.seq2seq import Seq2SeqConfig, Transformer
from akd_jax.types import Task

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "Folder",
    "Gpt2Weights",
    "MarianWeights",
    "Weights",
    "build",
    "continues_texts",
    "encoder_config",
    "generates",
    "generator_config",
    "is_folder",
    "weights",
    "write_decoder_folder",
    "write_folder",
    "write_translation_folder",
]

_GENERATORS = (marian.MODEL_TYPE, gpt2.MODEL_TYPE)


def build(argument: str, num_classes: int, dtype: Any) -> Encoder | Transformer | Decoder:
    """Builds the network of a folder: an encoder, or one that generates texts.

    `weights` reads its weights.

    Args:
      argument: 'DIR'; of an encoder also 'DIR,every=N' for every N-th layer, or 'DIR,first=N' for
        the first N.
      num_classes: C; 1 for a regression; the number of tokens of the target vocabulary.
      dtype: dtype of the computation.

    Raises:
      InputError: the folder does not contain a supported network, or a package is not installed.
    """
    _require_packages()
    folder = Folder.parse(argument)
    if not generates(folder):
        return Encoder(folder.encoder_config(), num_classes, dtype)
    if "," in argument:
        raise InputError(
            f"huggingface:{argument}: expected a network that generates texts with all its layers,"
            " got an option; leave out the part from the comma on"
        )
    config = generator_config(folder)
    if isinstance(config, DecoderConfig):
        return Decoder(dataclasses.replace(config, vocabulary=num_classes), dtype)
    if config.target_size != num_classes:
        raise InputError(
            f"huggingface:{argument}: expected a data set with the target vocabulary of the model,"
            f" of {config.target_size} tokens, got one of {num_classes} tokens; prepare the data"
            " set with --tokenizers and the folder of the model"
        )
    return Transformer(config, dtype)


def generates(folder: Folder) -> bool:
    """Returns whether a folder contains a network that generates texts."""
    return folder.read_config().get("model_type") in _GENERATORS


def continues_texts(folder: Folder) -> bool:
    """Returns whether a folder contains a decoder, which continues texts, such as GPT-2."""
    return folder.read_config().get("model_type") == gpt2.MODEL_TYPE


def generator_config(folder: Folder) -> Seq2SeqConfig | DecoderConfig:
    """Returns the configuration of the network of a folder that generates texts."""
    read = gpt2.read_config if continues_texts(folder) else marian.read_config
    return read(folder.path)


def weights(
    folder: Folder, task: Task, fine_tuned: bool = False
) -> Weights | MarianWeights | Gpt2Weights:
    """Returns the weights of a folder; see `Weights` for the arguments."""
    if continues_texts(folder):
        return Gpt2Weights(folder)
    return MarianWeights(folder) if generates(folder) else Weights(folder, task, fine_tuned)


def encoder_config(argument: str, name: str = "huggingface") -> EncoderConfig:
    """Returns the configuration of the encoder of a folder.

    Args:
      argument: 'DIR'; 'DIR,every=N' for every N-th layer; or 'DIR,first=N' for the first N.
      name: the name in front of the argument, for messages.

    Raises:
      InputError: the folder does not contain a supported encoder, or a package is not installed.
    """
    _require_packages()
    return Folder.parse(argument, name).encoder_config()


def _require_packages() -> None:
    for package in ("tokenizers", "safetensors"):  # Fail before the weights are needed.
        require(package, "text")
