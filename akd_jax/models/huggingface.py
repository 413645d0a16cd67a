"""Encoders in Hugging Face's folders: config.json, model.safetensors and a tokenizer's files.

Weights are read from and written to safetensors alone: a pickle can run any code.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
import pydantic
import safetensors
from absl import logging
from flax import traverse_util
from safetensors.numpy import save
from tokenizers import Tokenizer

from akd_jax.config import describe
from akd_jax.errors import InputError
from akd_jax.files import Path, absolute, as_path, local_copy, readable_path
from akd_jax.models import tokenizer
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.types import Task, Variables

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_PICKLE = "pytorch_model.bin"
_FILES = (CONFIG, WEIGHTS, f"{WEIGHTS}.index.json", *tokenizer.FILES)

# The encoder's modules here, and there.
_EMBEDDINGS = {
    "word": "word_embeddings",
    "position": "position_embeddings",
    "type": "token_type_embeddings",
    "norm": "LayerNorm",
}
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
# The tensors of an encoder; others are of heads for other uses.
_ENCODER = re.compile(r"(bert\.|roberta\.)?(encoder\.|embeddings\.(?!position_ids$))")
# The modules of a head that are of no use without the other, by the type of the model.
_HEAD = {"bert": ("classifier",), "roberta": ("pooler", "classifier")}

_Path = tuple[str, ...]  # Of a leaf in the tree of parameters.


def is_folder(path: Path) -> bool:
    """Whether a folder is one of Hugging Face."""
    return (path / CONFIG).is_file() and "model_type" in _read_json(path / CONFIG)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A Hugging Face folder, or every n-th layer of the encoder in it.

    Attributes:
      path: of the folder.
      every: keeps the layers of number n, 2n, ..., counted from 1; the last one is among them
        where n divides the layers.
    """

    path: Path
    every: int = 1

    @classmethod
    def parse(cls, argument: str) -> "Folder":
        """Reads 'DIR' or 'DIR,every=N'.

        Raises:
          InputError: it is neither, or there is no such folder.
        """
        path, given, option = argument.partition(",every=")
        if not path or (given and not re.fullmatch("[1-9][0-9]*", option)):
            raise InputError(
                f"expected huggingface:DIR or huggingface:DIR,every=N, got {argument!r}"
            )
        if not (readable_path("huggingface", path) / CONFIG).is_file():
            raise InputError(
                f"expected a Hugging Face folder with {CONFIG}, {WEIGHTS} and a tokenizer, got"
                f" {path!r} without {CONFIG}; fetch one by: hf download NAME --local-dir {path}"
            )
        return cls(as_path(path), int(option or 1))

    def absolute(self) -> str:
        """The argument that `parse` reads, which means the same in every current folder."""
        return f"{absolute(self.path)}" + (f",every={self.every}" if self.every > 1 else "")

    @property
    def local_path(self) -> Path:
        """The folder, or a copy of its files on this machine."""
        return local_copy(self.path, _FILES)

    @property
    def layers(self) -> range:
        """The layers that are kept, counted from 0."""
        return self.all_layers[self.every - 1 :: self.every]

    @property
    def all_layers(self) -> range:
        """The layers of the whole encoder, counted from 0."""
        return range(self._encoder_config().num_hidden_layers)

    def encoder_config(self) -> EncoderConfig:
        """The encoder with the layers that are kept.

        Raises:
          InputError: config.json is not that of a BERT or RoBERTa, or no layer is kept.
        """
        config = self._encoder_config()
        if not self.layers:
            raise InputError(
                f"every={self.every}: expected at most the {config.num_hidden_layers} layers of"
                f" {self.path}, got more"
            )
        return dataclasses.replace(config, num_hidden_layers=len(self.layers))

    def _encoder_config(self) -> EncoderConfig:
        """The whole encoder, from config.json."""
        found = self.read_config()
        if found.get("model_type") not in ("bert", "roberta"):
            raise InputError(
                f"{self.path / CONFIG}: expected a model_type of bert or roberta, got"
                f" {found.get('model_type')!r}; other encoders are not supported"
            )
        if found.get("position_embedding_type", "absolute") != "absolute":
            raise InputError(
                f"{self.path / CONFIG}: expected a position_embedding_type absolute, got"
                f" {found['position_embedding_type']!r}; other encoders are not supported"
            )
        known = {field.name for field in dataclasses.fields(EncoderConfig)}
        try:
            return EncoderConfig(**{k: v for k, v in found.items() if k in known})
        except pydantic.ValidationError as error:
            raise InputError(
                f"{self.path / CONFIG}: {describe(error.errors()[0])}; take it from the model's"
                " own folder"
            ) from None

    def read_config(self) -> dict[str, Any]:
        """What config.json holds; raises InputError where that is no JSON object."""
        return _read_json(self.path / CONFIG)

    def labels(self) -> tuple[str, ...]:
        """The names of the head's outputs, in their order; those of LABEL_0 and so on are none.

        Raises:
          InputError: config.json says no such names.
        """
        names = self.read_config().get("id2label") or {}
        if not isinstance(names, dict) or set(names) != {str(i) for i in range(len(names))}:
            raise InputError(
                f"{self.path / CONFIG}: expected an id2label of 0 to the number of labels less 1,"
                f" got {names!r}; correct it there"
            )
        ordered = tuple(str(names[str(number)]) for number in range(len(names)))
        return () if all(re.fullmatch("LABEL_[0-9]+", name) for name in ordered) else ordered

    def digest(self) -> str:
        """A digest of all that is read from it, and of the layers that are kept."""
        paths = (self.local_path / name for name in _FILES)
        found = {path.name: _file_digest(path) for path in paths if path.exists()}
        return hashlib.sha256(f"{found} {self.every}".encode()).hexdigest()[:16]

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer whose files are there."""
        return tokenizer.load(self.local_path)


def build(argument: str, num_classes: int, dtype: Any) -> Encoder:
    """The encoder of a folder, 'DIR' or 'DIR,every=N'; its weights are read by `Weights`."""
    return Encoder(Folder.parse(argument).encoder_config(), num_classes, dtype)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of a folder, which a network starts from, or which teach.

    A head's outputs are put into the order of the task's labels by their names.

    Attributes:
      folder: where they are.
      task: what the network is for.
      fine_tuned: whether the head must be there and fit the task. If not, one that is missing
        or of other labels is left random.
    """

    folder: Folder
    task: Task
    fine_tuned: bool = False

    def __call__(self, shapes: Variables) -> dict[_Path, np.ndarray]:
        """The variables that are in the folder, float32, by their paths; raises as `match`."""
        found = {}
        rows = _order(self.folder.labels(), self.task.labels) or list(range(self.task.outputs))
        tensors = self.match(shapes)
        self._say_what_is_assumed(("classifier", "kernel") in tensors)
        with _open(self.folder) as file:
            stored = _names(file)
            for path, name in tensors.items():
                value = file.get_tensor(stored[name]).astype(np.float32)
                value = value[rows] if path[0] == "classifier" else value
                found["params", *path] = np.ascontiguousarray(_transposed(path, value))
        return found

    def match(self, shapes: Variables) -> dict[_Path, str]:
        """The tensor of each parameter that is in the folder; their values are not read.

        Args:
          shapes: of the variables, or these themselves.

        Raises:
          InputError: tensors are missing, of other shapes, or of another network; or the head
            has to be the task's and is not.
        """
        kind = self.folder.encoder_config().model_type
        with _open(self.folder) as file:
            found = {
                name: tuple(file.get_slice(there).get_shape())
                for name, there in _names(file).items()
            }
        params = traverse_util.flatten_dict(dict(shapes["params"]))
        prefix = "" if "embeddings.word_embeddings.weight" in found else f"{kind}."
        every = _module_names(kind, self.folder.all_layers, prefix)
        known = {f"{name}.{leaf}" for name in every.values() for leaf in _LEAVES.values()}

        new = () if self._head_is_kept(found) else _HEAD[kind]
        modules = _module_names(kind, self.folder.layers, prefix)
        tensors = {path: _tensor_name(modules, path) for path in params if path[0] not in new}
        if not self.fine_tuned:  # Encoders for other uses come without BERT's pooler.
            tensors = {k: v for k, v in tensors.items() if k[0] != "pooler" or v in found}
        problems = {
            "missing": [name for name in tensors.values() if name not in found],
            "of other shapes": [
                f"{name} {list(found[name])} for {list(expected)}"
                for path, name in tensors.items()
                if name in found and found[name] != (expected := _there(path, params[path].shape))
            ],
            "unknown": [name for name in found if name not in known and _ENCODER.match(name)],
        }
        for kind_of_problem, names in problems.items():
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise InputError(
                    f"{self.folder.path / WEIGHTS}: expected the tensors that {CONFIG} says, got"
                    f" some {kind_of_problem}: {', '.join(names[:3])}{more}; take both files from"
                    " the same model"
                )
        return tensors

    def _say_what_is_assumed(self, head_is_kept: bool) -> None:
        path, labels = self.folder.path, self.task.labels
        if head_is_kept and labels and not self.folder.labels():
            logging.warning(
                "%s: its outputs have no names; they are taken to be %s, in this order",
                path,
                ", ".join(labels),
            )
        elif not head_is_kept:
            logging.info("%s: it has no head of this task; a new one is trained", path)

    def _head_is_kept(self, found: Mapping[str, Sequence[int]]) -> bool:
        """Whether the folder's head is there and of the task.

        Raises:
          InputError: it is not, and has to be.
        """
        kind, path, task = self.folder.encoder_config().model_type, self.folder.path, self.task
        name = _module_names(kind, (), "")["classifier",] + ".weight"
        if name not in found and self.fine_tuned:
            raise InputError(
                f"{path}: expected a fine-tuned model with a head, got no {name}; to fine-tune it"
                f" here, leave the path empty and set the model to huggingface:{path}"
            )
        if name not in found:
            return False
        outputs, labels = found[name][0], self.folder.labels()
        fits = outputs == task.outputs
        if fits and not task.regression:
            fits = _order(labels, task.labels) is not None or (self.fine_tuned and not labels)
        if not fits and self.fine_tuned:
            wanted = f"the labels {', '.join(task.labels)}" if task.labels else "a regression"
            got = "one of a regression" if outputs == 1 else f"{', '.join(labels) or outputs}"
            raise InputError(
                f"{path}: expected a head for {wanted}, got {got}; give a model that was"
                f" fine-tuned on this task, or correct the names in id2label of its {CONFIG}"
            )
        return fits


def write(
    output: Path, source: Folder, module: nn.Module, variables: Variables, task: Task
) -> None:
    """Writes a folder that Hugging Face's AutoModelForSequenceClassification loads.

    Args:
      output: made where it does not exist.
      source: the folder that the network came from, for its tokenizer and settings.
      module: the encoder.
      variables: its weights.
      task: names the outputs.

    Raises:
      InputError: the output holds something already, or cannot be written.
    """
    assert isinstance(module, Encoder), "expected an encoder"
    config = source.read_config()
    kind = config["model_type"]
    names = task.labels or ("LABEL_0",)
    config |= {
        "architectures": [f"{'Bert' if kind == 'bert' else 'Roberta'}ForSequenceClassification"],
        "num_hidden_layers": module.config.num_hidden_layers,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "regression" if task.regression else "single_label_classification",
    }
    for field in ("_name_or_path", "torch_dtype", "dtype"):
        config.pop(field, None)
    params = traverse_util.flatten_dict(dict(variables["params"]))
    modules = _module_names(kind, range(module.config.num_hidden_layers), f"{kind}.")
    tensors = {
        _tensor_name(modules, path): np.ascontiguousarray(
            _transposed(path, np.asarray(value, np.float32))
        )
        for path, value in params.items()
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise InputError(f"{output}: expected a new or empty folder, got one with files in it")
        for name in tokenizer.FILES:
            if (source.local_path / name).exists():
                (output / name).write_bytes((source.local_path / name).read_bytes())
        (output / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (output / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{output}: expected a folder to write into, got: {error}") from None


def _module_names(kind: str, layers: Sequence[int], prefix: str) -> dict[_Path, str]:
    """The modules here and their names there.

    Args:
      kind: 'bert' or 'roberta'.
      layers: the numbers of the layers there; here they are counted from 0.
      prefix: of the encoder's tensors.
    """
    modules: dict[_Path, str] = {
        ("embeddings", here): f"{prefix}embeddings.{there}" for here, there in _EMBEDDINGS.items()
    }
    for number, layer in enumerate(layers):
        for here, there in _LAYER.items():
            modules[f"layer_{number}", here] = f"{prefix}encoder.layer.{layer}.{there}"
    if kind == "bert":
        return modules | {("pooler",): f"{prefix}pooler.dense", ("classifier",): "classifier"}
    return modules | {("pooler",): "classifier.dense", ("classifier",): "classifier.out_proj"}


def _tensor_name(modules: Mapping[_Path, str], path: _Path) -> str:
    """The name of a parameter's tensor."""
    return f"{modules[path[:-1]]}.{_LEAVES[path[-1]]}"


def _transposed(path: _Path, value: np.ndarray) -> np.ndarray:
    """A parameter as it is there, or a tensor as it is here."""
    return value.T if path[-1] == "kernel" else value


def _there(path: _Path, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a parameter's tensor."""
    return tuple(reversed(shape)) if path[-1] == "kernel" else tuple(shape)


def _order(found: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Where each wanted label is among those found, whatever their case; None: not all are."""
    if not found or len(found) != len(wanted):
        return None
    for same in (str, str.lower):  # Names that differ in their case alone stay apart.
        names = [same(name) for name in found]
        if {same(name) for name in wanted} == set(names) and len(set(names)) == len(names):
            return [names.index(same(name)) for name in wanted]
    return None


def _open(folder: Folder) -> Any:
    """The open file of weights in a folder."""
    path, file = folder.path, folder.path / WEIGHTS
    if not file.exists() and (path / _PICKLE).exists():
        raise InputError(
            f"{file}: expected safetensors, got only {_PICKLE}, which can run any code and is not"
            " read; convert it where you trust it: AutoModelForSequenceClassification"
            f".from_pretrained({str(path)!r}).save_pretrained({str(path)!r})"
        )
    if (path / f"{WEIGHTS}.index.json").exists():
        raise InputError(
            f"{file}: expected one file, got weights in several; save them as one where"
            f" transformers is: AutoModel.from_pretrained({str(path)!r}).save_pretrained(FOLDER,"
            " max_shard_size='100GB')"
        )
    if not file.exists():
        raise InputError(f"{file}: expected the model's weights, got no such file; fetch it")
    try:
        return safetensors.safe_open(folder.local_path / WEIGHTS, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{file}: expected whole safetensors, got: {error}; fetch it again"
        ) from None


def _names(file: Any) -> dict[str, str]:
    """The tensors' names as they are today to those in the file.

    Old checkpoints say gamma and beta for LayerNorm's weight and bias.
    """
    return {
        re.sub(
            r"(?<=LayerNorm\.)beta$", "bias", re.sub(r"(?<=LayerNorm\.)gamma$", "weight", name)
        ): name
        for name in list(file.keys())
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a JSON object, got: {error}; fetch it again") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, got something else; fetch it again")
    return found


@functools.lru_cache(maxsize=64)
def _file_digest_of(path: Path, size: int, changed: int) -> str:
    del size, changed  # A file that was changed is another one.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_digest(path: Path) -> str:
    stat = path.stat()
    return _file_digest_of(path, stat.st_size, stat.st_mtime_ns)
