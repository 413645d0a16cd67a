"""Export of a trained network to a Hugging Face folder."""

import json

import flax.linen as nn
import numpy as np
from flax import traverse_util

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path, not_writable
from akd_jax.models import tokenizer
from akd_jax.models.decoder import Decoder
from akd_jax.models.encoder import Encoder
from akd_jax.models.huggingface import gpt2, marian, names
from akd_jax.models.huggingface.folder import CONFIG, WEIGHTS, Folder
from akd_jax.models.seq2seq import Transformer
from akd_jax.types import TargetVocabulary, Task, Variables


def write_folder(
    output: Path, source: Folder, module: nn.Module, variables: Variables, task: Task
) -> None:
    """Writes a folder that AutoModelForSequenceClassification of transformers loads.

    Args:
      output: the new folder; it is created if necessary.
      source: the folder that the network started from, for its tokenizer and its settings.
      module: the encoder.
      variables: the variables of the encoder.
      task: the task, whose labels name the outputs.

    Raises:
      InputError: the output folder is not empty or cannot be written.
    """
    assert isinstance(module, Encoder), "expected an encoder"
    safetensors = require("safetensors.numpy", "text")
    config = source.read_config()
    family = source.family
    labels = task.labels or ("LABEL_0",)
    config |= {
        "architectures": [f"{family.class_prefix}ForSequenceClassification"],
        family.field("num_hidden_layers"): module.config.num_hidden_layers,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "regression" if task.regression else "single_label_classification",
    }
    for field in ("_name_or_path", "torch_dtype", "dtype"):
        config.pop(field, None)
    params = traverse_util.flatten_dict(dict(variables["params"]))
    modules = names.module_names(family, range(module.config.num_hidden_layers), family.prefix)
    tensors = {
        names.tensor_name(modules, path): np.ascontiguousarray(
            names.convert_kernel(path, np.asarray(value, np.float32))
        )
        for path, value in params.items()
    }
    weights = safetensors.save(tensors, metadata={"format": "pt"})
    _create(output)
    _copy_tokenizers(output, source)
    try:
        (output / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (output / WEIGHTS).write_bytes(weights)
    except OSError as error:
        raise not_writable(output, error) from None


def write_translation_folder(
    output: Path, source: Folder, module: nn.Module, variables: Variables
) -> None:
    """Writes a folder that MarianMTModel and MarianTokenizer of transformers load.

    Args:
      output: the new folder; it is created if necessary.
      source: the folder that the network started from, for its tokenizers and its settings.
      module: the network, a `Transformer`.
      variables: its variables.

    Raises:
      InputError: the output folder is not empty or cannot be written.
    """
    assert isinstance(module, Transformer), "expected an encoder-decoder"
    _create(output)
    _copy_tokenizers(output, source)
    try:
        marian.write_folder(output, source.local_path, module.config, variables)
    except OSError as error:
        raise not_writable(output, error) from None


def write_decoder_folder(
    output: Path,
    tokenizer_file: Path,
    module: nn.Module,
    variables: Variables,
    target: TargetVocabulary,
) -> None:
    """Writes a folder that GPT2LMHeadModel and AutoTokenizer of transformers load.

    Args:
      output: the new folder; it is created if necessary.
      tokenizer_file: the file of the tokenizer.
      module: the network, a `Decoder`.
      variables: its variables.
      target: the tokens of the texts that it generates.

    Raises:
      InputError: the output folder is not empty or cannot be written.
    """
    assert isinstance(module, Decoder), "expected a decoder"
    _create(output)
    content = tokenizer_file.read_text(encoding="utf-8")
    own = json.loads(content)
    names_by_id = {token["id"]: token["content"] for token in own["added_tokens"]}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names_by_id[target.start],
        "eos_token": names_by_id[target.end],
        "pad_token": names_by_id[target.pad],
    }
    try:
        gpt2.write_folder(output, module.config, variables, target)
        (output / "tokenizer.json").write_text(content, encoding="utf-8")
        (output / "tokenizer_config.json").write_text(
            json.dumps(settings, indent=2) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise not_writable(output, error) from None


def _create(output: Path) -> None:
    """Creates a folder; raises InputError if it has files."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise InputError(
                f"{output}: expected a new or empty folder, got one with files; choose another"
            )
    except OSError as error:
        raise not_writable(output, error) from None


def _copy_tokenizers(output: Path, source: Folder) -> None:
    """Copies the files of the tokenizers of a folder into another one."""
    try:
        for name in tokenizer.FILES:
            if (source.local_path / name).exists():
                (output / name).write_bytes((source.local_path / name).read_bytes())
    except OSError as error:
        raise not_writable(output, error) from None
