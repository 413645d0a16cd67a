"""Networks in Hugging Face folders: config.json, model.safetensors and the tokenizer's files.

Weights are read and written only as safetensors, because loading a pickle can run any code.
"""

from typing import Any

from akd_jax.host.errors import InputError, require
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.models.huggingface import marian
from akd_jax.models.huggingface.export import write_folder, write_translation_folder
from akd_jax.models.huggingface.folder import CONFIG, WEIGHTS, Folder, is_folder
from akd_jax.models.huggingface.marian import MarianWeights
from akd_jax.models.huggingface.weights import Weights
from akd_jax.models.seq2seq import Seq2SeqConfig, Transformer
from akd_jax.types import Task

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "Folder",
    "MarianWeights",
    "Weights",
    "build",
    "encoder_config",
    "generates",
    "is_folder",
    "translation_config",
    "weights",
    "write_folder",
    "write_translation_folder",
]


def build(argument: str, num_classes: int, dtype: Any) -> Encoder | Transformer:
    """Builds the encoder of a folder, or its translation model. `weights` reads its weights.

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
    config = translation_config(folder)
    if "," in argument or config.target_size != num_classes:
        got = "an option" if "," in argument else f"one of {num_classes} tokens"
        raise InputError(
            f"huggingface:{argument}: expected a translation model with all its layers, and a data"
            f" set with its target vocabulary of {config.target_size} tokens, got {got}; prepare"
            " the data set with --tokenizers and the folder of the model"
        )
    return Transformer(config, dtype)


def generates(folder: Folder) -> bool:
    """Returns whether a folder contains a network that generates texts."""
    return folder.read_config().get("model_type") == marian.MODEL_TYPE


def translation_config(folder: Folder) -> Seq2SeqConfig:
    """Returns the configuration of the translation model of a folder."""
    return marian.read_config(folder.path)


def weights(folder: Folder, task: Task, fine_tuned: bool = False) -> Weights | MarianWeights:
    """Returns the weights of a folder; see `Weights` for the arguments."""
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
