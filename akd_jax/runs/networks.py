"""The networks of a run: their specifications, vocabularies and pretrained weights."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from akd_jax import data, models
from akd_jax.data import Dataset, characters, codes, completions, pairs, sequences, text
from akd_jax.data.settings import DatasetConfig
from akd_jax.host.errors import InputError
from akd_jax.models import huggingface, speech
from akd_jax.models.network import Network, Preprocess
from akd_jax.types import SOURCE, TARGET

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer

_LEAST_TOKENS = 3  # Of a generated text: the start, a word and the end.
_INPUTS = {"text": "texts", "codes": "codes of speech"}
_NETWORKS = {
    "text": "huggingface:DIR or ngrams:BUCKETSxWIDTH, a network for the texts",
    "codes": "speech:CODES,LAYERSxWIDTH, a network for the recordings",
}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The description of a network in the configuration.

    Attributes:
      field: the field of the configuration, for error messages.
      spec: NAME:ARGUMENT, the specification that `models.build` reads.
      fine_tuned: whether the network is a fine-tuned teacher in a Hugging Face folder.
    """

    field: str
    spec: str
    fine_tuned: bool = False

    @property
    def folder(self) -> huggingface.Folder | None:
        """The Hugging Face folder of the pretrained weights, if there is one."""
        return models.folder(self.spec)


def build_network(
    model: ModelSpec, preprocess: Preprocess | None, dtype: str, name: str, dataset: Dataset
) -> tuple[Network, Any]:
    """Builds a network and checks that it accepts the inputs of the data set.

    Args:
      model: the specification.
      preprocess: the vocabulary or the normalisation of the inputs.
      dtype: the data type in which the network computes.
      name: the name of the data set, for messages.
      dataset: the data set.

    Returns:
      The network, and the shapes and types of its variables.

    Raises:
      InputError: the network or its weights do not fit the data set.
    """
    try:
        module = models.build(model.spec, dataset.task.outputs, dtype)
        kind = models.input_kind(model.spec)
        if kind != "images" and not dataset.texts:
            raise InputError(
                f"expected a network for the images of the data set {name}, got"
                f" {model.spec}, which reads {_INPUTS[kind]}; choose a network for images"
            )
        assert preprocess is not None, "expected a vocabulary or a normalisation"
        network = Network(module, preprocess)
        shapes = network.variable_shapes(dataset.example)
        if model.folder is not None:
            weights = huggingface.weights(model.folder, dataset.task, model.fine_tuned)
            weights.match(shapes)
            network = dataclasses.replace(network, pretrained=weights)
    except InputError as error:
        raise InputError(f"{model.field}: {error}") from None
    return network, shapes


def load_vocabularies(
    settings: DatasetConfig, dataset: Dataset, specs: Mapping[str, ModelSpec]
) -> dict[str, text.Vocabulary]:
    """Loads the vocabulary of each network and checks that it fits the texts of the data set.

    Raises:
      InputError: a vocabulary is missing, or does not fit the texts or the other networks.
    """
    if settings.crop_padding or settings.flip:
        raise InputError(
            f"config.dataset: expected crop_padding 0 and flip False for the texts of"
            f" {settings.name}, got {settings.crop_padding} and {settings.flip}; texts have no"
            " augmentation"
        )
    loaded = {name: _load_vocabulary(settings, dataset, model) for name, model in specs.items()}
    if dataset.task.target is not None:
        one, *others = specs.values()
        for other in others:
            if models.continues_texts(other.spec) != models.continues_texts(one.spec):
                raise InputError(
                    f"{other.field}: expected a network that reads texts like {one.field}, got"
                    f" {other.spec} and {one.spec}, of which one continues texts and one maps a"
                    " source to a target; choose two of the same kind"
                )
    return loaded


def _load_vocabulary(
    settings: DatasetConfig, dataset: Dataset, model: ModelSpec
) -> text.Vocabulary:
    """Loads the vocabulary of a network: that of its folder, or the characters."""
    kinds = dataset.kinds or ("text",) * dataset.example.shape[1]
    kind = models.input_kind(model.spec)
    is_pair = kinds.count("text") > 1
    side_size = models.side_vocabulary_size(model.spec)
    try:
        if dataset.task.target is not None:
            return _load_sequences(dataset, model, settings)
        if kind == "text" and models.generates(model.spec):
            raise InputError(
                f"expected a network that predicts the labels of the data set {settings.name}, got"
                f" {model.spec!r}, which generates texts; choose another network"
            )
        if kind not in kinds:
            networks = " or ".join(_NETWORKS[x] for x in dict.fromkeys(kinds))
            raise InputError(
                f"expected {networks} of the data set {settings.name}, got {model.spec!r}; choose"
                " one of these networks"
            )
        folder = model.folder
        positions: int | None
        if kind == "codes":
            vocabulary = codes.vocabulary(models.number_of_codes(model.spec))
            positions, special_tokens = speech.MAX_POSITIONS, 1
        elif side_size:
            if not dataset.tokenizers:
                raise InputError(
                    f"expected a data set of pairs with tokenizers, such as scored_pairs, for"
                    f" {model.spec}, got {settings.name}; choose another network"
                )
            vocabulary = pairs.vocabulary(dataset.tokenizers, (SOURCE, TARGET), side_size)
            positions, special_tokens = None, 0
        elif folder is None:
            vocabulary, positions = characters.VOCABULARY, None
            special_tokens = characters.special_tokens(is_pair)
        else:
            encoder, tokenizer = folder.encoder_config(), folder.load_tokenizer()
            if tokenizer.get_vocab_size() > encoder.vocab_size:
                raise InputError(
                    f"{folder.path}: expected a tokenizer of at most {encoder.vocab_size} tokens,"
                    f" the vocab_size of its config.json, got {tokenizer.get_vocab_size()} tokens;"
                    " take both from the same model"
                )
            vocabulary, positions = text.Vocabulary.of(tokenizer), encoder.max_length
            special_tokens = tokenizer.num_special_tokens_to_add(is_pair=is_pair)
    except InputError as error:
        raise InputError(f"{model.field}: {error}") from None
    field, length = "max_length", settings.max_length
    if kind == "codes":
        field, length = "max_codes", settings.max_codes
    if not special_tokens < length <= (positions or length):
        allowed = f"at least {special_tokens + 1}, more than the special tokens"
        if positions:
            allowed = (
                f"{special_tokens + 1} to {positions}, more than the special tokens and at most"
                " the positions"
            )
        raise InputError(
            f"config.dataset.{field}: expected {allowed} of {model.field} {model.spec}, got"
            f" {length}; choose a length in this range"
        )
    return vocabulary


def _load_sequences(dataset: Dataset, model: ModelSpec, settings: DatasetConfig) -> text.Vocabulary:
    """Loads the vocabulary of a network that generates texts: that of the data set.

    Raises:
      InputError: the network generates no texts, its folder has another vocabulary, or the texts
        are longer than it can read.
    """
    if models.input_kind(model.spec) != "text" or not models.generates(model.spec):
        raise InputError(
            f"expected a network that generates texts, such as transformer:4000,2+2x256, for the"
            f" data set {settings.name}, got {model.spec!r}; choose another network"
        )
    target = dataset.task.target
    assert target is not None, "expected a task of generating texts"
    keys = target.key.split("-")  # Those of both tokenizers.
    if models.shares_vocabulary(model.spec) and len(set(keys)) > 1:
        raise InputError(
            f"expected one tokenizer for both sides of {settings.name}, since {model.spec} has one"
            " table, got two; prepare the data set in a new folder with --joint, or choose a"
            " network with two tables"
        )
    positions = models.positions(model.spec)
    if not _LEAST_TOKENS <= settings.max_length <= positions:
        raise InputError(
            f"expected config.dataset.max_length from {_LEAST_TOKENS} to {positions}, the positions"
            f" of {model.spec}, got {settings.max_length}; choose a length in this range"
        )
    if models.continues_texts(model.spec):
        tokenizer = text.load_tokenizer(dataset.tokenizers[-1], 0)
        if model.folder is not None:
            _check_extended(model, tokenizer, settings.name)
        return completions.vocabulary(tokenizer, target)
    vocabulary = sequences.vocabulary(dataset.tokenizers, models.side_vocabulary_size(model.spec))
    if model.folder is not None:
        own = sequences.of_tokenizers(*model.folder.load_tokenizers(), names=[model.spec] * 2)
        if own.key != vocabulary.key:
            raise InputError(
                f"expected the tokenizers of the data set {settings.name} in {model.spec}, got"
                " others; prepare the data set in a new folder with --tokenizers and the folder of"
                " the model"
            )
    return vocabulary


def _check_extended(model: ModelSpec, tokenizer: "Tokenizer", name: str) -> None:
    """Raises InputError unless a tokenizer is that of a folder, with or without further tokens."""
    assert model.folder is not None, "expected a folder"
    own, extended = (json.loads(x.to_str()) for x in (model.folder.load_tokenizer(), tokenizer))
    tokens = {token["content"]: token["id"] for token in extended["added_tokens"]}
    parts = ("model", "normalizer", "pre_tokenizer")
    if any(own[part] != extended[part] for part in parts) or any(
        tokens.get(token["content"]) != token["id"] for token in own["added_tokens"]
    ):
        raise InputError(
            f"expected the tokenizer of the data set {name} to be that of {model.spec}, possibly"
            " with more tokens, got another one; prepare the data set in a new folder with"
            " --tokenizers and the folder of the model"
        )


def tokenise_dataset(
    settings: DatasetConfig, dataset: Dataset, vocabularies: Sequence[text.Vocabulary]
) -> Dataset:
    """Returns a data set of texts with the token ids of each vocabulary as inputs."""
    kinds = {vocabulary.kind for vocabulary in vocabularies}
    buckets = text.bucket_lengths(max(settings.max_lengths[kind] for kind in kinds))
    splits = text.TokenisedSplits(
        dataset.splits,
        dict.fromkeys(vocabularies),
        functools.partial(_tokenise_split, settings),
        functools.partial(_label_split, settings),
    )
    example, _ = text.read(vocabularies, dataset.example, dataset.kinds, settings.max_lengths)
    return dataclasses.replace(
        dataset,
        splits=splits,
        example=example,
        buckets=buckets if settings.bucketing else buckets[-1:],
        label_shape=(settings.max_length,) if dataset.task.target else (),
    )


@functools.lru_cache(maxsize=64)  # Enough for the splits of two data sets in two vocabularies.
def _tokenise_split(
    settings: DatasetConfig, split: str, vocabulary: text.Vocabulary
) -> tuple[Any, np.ndarray]:
    """Returns the tokens of a split, and a mask of its truncated texts."""
    dataset = data.load(settings)
    return vocabulary.read(dataset.splits[split].inputs, dataset.kinds, settings.max_lengths)


@functools.lru_cache(maxsize=64)
def _label_split(
    settings: DatasetConfig, split: str, vocabulary: text.Vocabulary
) -> np.ndarray | None:
    """Returns the tokens to predict of a split; None if the task is not to generate texts."""
    if vocabulary.label is None:
        return None
    return vocabulary.label(data.load(settings).splits[split].inputs, settings.max_length)
