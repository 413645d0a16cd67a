"""The files of a Hugging Face folder and the settings in its config.json."""

import dataclasses
import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pydantic

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path, absolute, as_path, local_copy, readable_path
from akd_jax.host.settings import problem_message
from akd_jax.models import tokenizer
from akd_jax.models.encoder import EncoderConfig
from akd_jax.models.huggingface.families import FAMILIES, Family

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = f"{WEIGHTS}.index.json"
_PICKLE = "pytorch_model.bin"
_FILES = (CONFIG, WEIGHTS, WEIGHTS_INDEX, *tokenizer.FILES)


def is_folder(path: Path) -> bool:
    """Returns whether a path is a Hugging Face folder."""
    return (path / CONFIG).is_file() and "model_type" in _read_json(path / CONFIG)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A Hugging Face folder; of an encoder, all layers or some are used.

    Attributes:
      path: path of the folder.
      every: n; the layers n, 2n, ... are used, counted from 1. The last layer is among them if n
        divides the number of layers.
      first: the number of layers that are used, from the lowest one on; 0 for all.
    """

    path: Path
    every: int = 1
    first: int = 0

    @classmethod
    def parse(cls, argument: str, name: str = "huggingface") -> "Folder":
        """Parses 'DIR', 'DIR,every=N' or 'DIR,first=N'; `name` is that of messages.

        Raises:
          InputError: the argument has another form, or there is no such folder.
        """
        path, separator, option = argument.partition(",")
        match = re.fullmatch("(every|first)=([1-9][0-9]*)", option)
        if not path or (separator and match is None):
            raise InputError(
                f"expected {name}:DIR, {name}:DIR,every=N or {name}:DIR,first=N, got {argument!r};"
                " correct it"
            )
        if not (readable_path(name, path) / CONFIG).is_file():
            raise InputError(
                f"expected a Hugging Face folder with {CONFIG}, {WEIGHTS} and a tokenizer, got"
                f" {path!r} without {CONFIG}; fetch one by: hf download NAME --local-dir {path}"
            )
        return cls(as_path(path), **({} if match is None else {match[1]: int(match[2])}))

    def absolute(self) -> str:
        """Returns the argument for `parse` with an absolute path."""
        return f"{absolute(self.path)}{self._option}"

    @property
    def local_path(self) -> Path:
        """The folder, or a local copy of its files if the folder is remote."""
        return local_copy(self.path, _FILES)

    @property
    def layers(self) -> range:
        """The indices of the layers that are used, counted from 0."""
        return self.all_layers[self.every - 1 :: self.every][: self.first or None]

    @property
    def all_layers(self) -> range:
        """The indices of all layers of the encoder, counted from 0."""
        return range(self._full_encoder_config().num_hidden_layers)

    def encoder_config(self) -> EncoderConfig:
        """Returns the configuration of the encoder with the layers that are used.

        Raises:
          InputError: config.json does not describe an encoder of FAMILIES, or no layer is used.
        """
        config = self._full_encoder_config()
        if max(self.every, self.first) > config.num_hidden_layers:
            raise InputError(
                f"{self._option[1:]}: expected at most {config.num_hidden_layers}, the number of"
                f" layers of {self.path}; use a smaller number"
            )
        return dataclasses.replace(config, num_hidden_layers=len(self.layers))

    @property
    def _option(self) -> str:
        """The option of the argument for `parse`; empty if all layers are used."""
        if self.first:
            return f",first={self.first}"
        return f",every={self.every}" if self.every > 1 else ""

    def _full_encoder_config(self) -> EncoderConfig:
        """Returns the configuration of the encoder with all layers."""
        settings, family = self.read_config(), self.family
        if settings.get("position_embedding_type", "absolute") != "absolute":
            raise InputError(
                f"{self.path / CONFIG}: expected the position_embedding_type absolute, got"
                f" {settings['position_embedding_type']!r}; use a supported model"
            )
        fields = {
            field.name: family.field(field.name) for field in dataclasses.fields(EncoderConfig)
        }
        given = {name: settings[field] for name, field in fields.items() if field in settings}
        try:
            return EncoderConfig(**{**family.defaults, **given, **family.constants})
        except pydantic.ValidationError as error:
            problem = error.errors()[0]
            message = problem_message(problem, family.field(".".join(map(str, problem["loc"]))))
            raise InputError(
                f"{self.path / CONFIG}: {message}; fetch the {CONFIG} of the model again"
            ) from None

    @property
    def family(self) -> Family:
        """The family of the encoder.

        Raises:
          InputError: config.json has none of the model types in FAMILIES.
        """
        model_type = self.read_config().get("model_type")
        if not isinstance(model_type, str) or model_type not in FAMILIES:
            *others, last = FAMILIES
            raise InputError(
                f"{self.path / CONFIG}: expected the model_type {', '.join(others)} or {last}, got"
                f" {model_type!r}; use a supported model"
            )
        return FAMILIES[model_type]

    def read_config(self) -> dict[str, Any]:
        """Returns the content of config.json; raises InputError if it is not a JSON object."""
        return _read_json(self.path / CONFIG)

    def labels(self) -> tuple[str, ...]:
        """Returns the names of the head's outputs in order; empty if they are LABEL_0, LABEL_1, ...

        Raises:
          InputError: config.json has a malformed id2label.
        """
        names = self.read_config().get("id2label") or {}
        if not isinstance(names, dict) or set(names) != {str(i) for i in range(len(names))}:
            raise InputError(
                f"{self.path / CONFIG}: expected an id2label with the keys 0 to C - 1 for C labels,"
                f" got {names!r}; correct it"
            )
        ordered = tuple(str(names[str(index)]) for index in range(len(names)))
        return () if all(re.fullmatch("LABEL_[0-9]+", name) for name in ordered) else ordered

    def digest(self) -> str:
        """Returns a digest of all files that are read and of the layers that are used."""
        paths = (self.local_path / name for name in _FILES)
        digests = {path.name: _file_digest(path) for path in paths if path.exists()}
        return hashlib.sha256(
            f"{digests} {self.every}{self._option if self.first else ''}".encode()
        ).hexdigest()[:16]

    def load_tokenizer(self) -> "Tokenizer":
        """Returns the tokenizer of the folder."""
        return tokenizer.load(self.local_path)

    def load_tokenizers(self) -> "tuple[Tokenizer, Tokenizer]":
        """Returns the tokenizers of sources and targets of a translation model."""
        return tokenizer.load_sides(self.local_path)


def open_weights(folder: Folder, class_name: str) -> Any:
    """Opens the weights of a folder, as a context.

    Args:
      folder: the folder.
      class_name: the class of transformers that reads the model, for messages.

    Raises:
      InputError: there is no complete safetensors file, or the package safetensors is missing.
    """
    safetensors = require("safetensors", "text")
    path, file = folder.path, folder.path / WEIGHTS
    if not file.exists() and (path / _PICKLE).exists():
        raise InputError(
            f"{file}: expected safetensors, got only {_PICKLE}, which can run any code and is not"
            f" read; if you trust it, convert it: {class_name}.from_pretrained({str(path)!r})"
            f".save_pretrained({str(path)!r})"
        )
    if (path / WEIGHTS_INDEX).exists():
        raise InputError(
            f"{file}: expected one file, got weights in several files; merge them with"
            f" transformers: {class_name}.from_pretrained({str(path)!r}).save_pretrained(FOLDER,"
            " max_shard_size='100GB')"
        )
    if not file.exists():
        raise InputError(f"{file}: expected the weights of the model, got no file; fetch it")
    try:
        return safetensors.safe_open(folder.local_path / WEIGHTS, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(
            f"{file}: expected a complete safetensors file, got: {error}; fetch it again"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a JSON object, got: {error}; fetch it again") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a JSON object, got a {type(content).__name__}; fetch it again"
        )
    return content


def _file_digest(path: Path) -> str:
    stat = path.stat()
    return _cached_file_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _cached_file_digest(path: Path, size: int, modified: int) -> str:
    del size, modified  # Only part of the cache key: a changed file is read again.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
