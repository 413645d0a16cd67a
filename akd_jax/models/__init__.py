"""Network architectures, selected by a specification such as 'resnet:8'."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models import (
    birnn,
    decoder,
    huggingface,
    mobilenetv2,
    ngrams,
    plain_cnn,
    resnet,
    resnet50,
    sentence,
    seq2seq,
    shufflenet,
    simkd,
    speech,
    vgg,
    wide_resnet,
)
from akd_jax.models.taps import tap

__all__ = [
    "MODELS",
    "absolute",
    "build",
    "continues_texts",
    "folder",
    "generates",
    "input_kind",
    "number_of_codes",
    "positions",
    "shares_vocabulary",
    "side_vocabulary_size",
    "tap",
]


def _without_argument(
    name: str, kind: Callable[..., nn.Module]
) -> Callable[[str, int, Any], nn.Module]:
    """Returns the function that builds a network whose specification is only its name."""

    def build(argument: str, num_classes: int, dtype: Any) -> nn.Module:
        if argument:
            raise InputError(
                f"expected {name} without an argument, got '{name}:{argument}'; leave it out"
            )
        return kind(num_classes=num_classes, dtype=dtype)

    return build


def _build_simkd(argument: str, num_classes: int, dtype: Any) -> nn.Module:
    """Builds the student of SimKD, which contains another network."""
    return simkd.build(argument, num_classes, dtype, build)


# Maps the name in NAME:ARGUMENT to a function that builds the module from the argument, the number
# of classes and the dtype. The argument is empty in a specification that is only a NAME.
MODELS: dict[str, Callable[[str, int, Any], nn.Module]] = {
    "birnn": birnn.build,
    "decoder": decoder.build,
    "huggingface": huggingface.build,
    "mobilenetv2": mobilenetv2.build,
    "ngrams": ngrams.build,
    "plain_cnn": plain_cnn.build,
    "recurrent": seq2seq.build_recurrent,
    "resnet": resnet.build,
    "resnet50": _without_argument("resnet50", resnet50.ResNet50),
    "sentence": sentence.build,
    "shufflenet_v1": _without_argument("shufflenet_v1", shufflenet.ShuffleNetV1),
    "shufflenet_v2": _without_argument("shufflenet_v2", shufflenet.ShuffleNetV2),
    "simkd": _build_simkd,
    "speech": speech.build,
    "transformer": seq2seq.build_transformer,
    "vgg": vgg.build,
    "wrn": wide_resnet.build,
}


# The models that generate texts: those with a side for the source, and those without.
_SEQ2SEQ, _DECODERS = ("recurrent", "transformer"), ("decoder",)

# The models in Hugging Face folders.
_OF_FOLDERS = ("huggingface", "sentence")

# What the models read, as `Tokens`; the others read images. A model of texts without a Hugging Face
# folder reads their characters.
_KINDS = {
    "birnn": "text",
    "decoder": "text",
    "huggingface": "text",
    "ngrams": "text",
    "recurrent": "text",
    "sentence": "text",
    "speech": "codes",
    "transformer": "text",
}


def input_kind(spec: str) -> str:
    """Returns what the model of a specification reads: 'images', 'text' or 'codes' of speech."""
    return _KINDS.get(spec.partition(":")[0], "images")


def folder(spec: str) -> huggingface.Folder | None:
    """Returns the Hugging Face folder of a specification; None for other models.

    Raises:
      InputError: the folder does not exist.
    """
    name, _, argument = spec.partition(":")
    return huggingface.Folder.parse(argument, name) if name in _OF_FOLDERS else None


def absolute(spec: str) -> str:
    """Returns the specification with an absolute path, if it contains a path."""
    source = folder(spec)
    return spec if source is None else f"{spec.partition(':')[0]}:{source.absolute()}"


def number_of_codes(spec: str) -> int:
    """Returns the number of codes that a network of speech reads.

    Raises:
      InputError: the specification is not one of such a network.
    """
    name, _, argument = spec.partition(":")
    if name != "speech":
        raise InputError(f"expected speech:CODES,LAYERSxWIDTH, got {spec!r}; correct the network")
    return speech.build(argument, 1, jnp.float32).codes


def generates(spec: str) -> bool:
    """Returns whether the network of a specification generates texts.

    Raises:
      InputError: the specification names a folder that does not exist.
    """
    source = folder(spec)
    name = spec.partition(":")[0]
    named = name in (*_SEQ2SEQ, *_DECODERS)
    return named or (source is not None and huggingface.generates(source))


def continues_texts(spec: str) -> bool:
    """Returns whether a network is a decoder, which reads source and target as one text.

    Raises:
      InputError: the specification names a folder that does not exist.
    """
    source = folder(spec)
    named = spec.partition(":")[0] in _DECODERS
    return named or (source is not None and huggingface.continues_texts(source))


def shares_vocabulary(spec: str) -> bool:
    """Returns whether a network has one table of embeddings for sources and targets."""
    name, _, argument = spec.partition(":")
    return (name in _SEQ2SEQ and seq2seq.is_joint(argument)) or continues_texts(spec)


def positions(spec: str) -> int:
    """Returns the largest number of tokens of a text of a network that generates texts.

    Raises:
      InputError: the specification names a folder that does not exist, or is damaged.
    """
    source = folder(spec)
    if source is not None:
        return huggingface.generator_config(source).max_length
    return decoder.MAX_LENGTH if continues_texts(spec) else seq2seq.MAX_LENGTH


def side_vocabulary_size(spec: str) -> int:
    """Returns the largest vocabulary of a network that reads each text of a pair by itself.

    It is 0 for all other networks.
    """
    name, _, argument = spec.partition(":")
    if name in _SEQ2SEQ:
        return seq2seq.vocabulary_size(argument)
    return birnn.build(argument, 1, jnp.float32).vocabulary_size if name == "birnn" else 0


def build(spec: str, num_classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """Builds the module of a specification NAME:ARGUMENT, or NAME if there is no argument.

    Args:
      spec: one of
        'resnet:110', a CIFAR ResNet of this depth;
        'resnet:8x4', a CIFAR ResNet of depth 8 with more channels;
        'resnet50', 'shufflenet_v1' and 'shufflenet_v2', for small images;
        'wrn:40-2', a wide ResNet of depth 40 and width 2;
        'vgg:13', a VGG with batch norm of this depth;
        'mobilenetv2:0.5', a MobileNetV2 with half of the channels;
        'plain_cnn:10', the plain CNN of this depth in the Annealing-KD paper;
        'plain_cnn:16 M 16 M FC', a plain CNN with these layers;
        'simkd:64,resnet:8', a student of the method simkd: a network whose last map is transferred
        to the 64 channels of a teacher's;
        'huggingface:DIR', the encoder, the translation model of Marian or the GPT-2 of a Hugging
        Face folder;
        'huggingface:DIR,every=3', every third layer of an encoder;
        'huggingface:DIR,first=2', its first two layers;
        'decoder:2x64', a decoder like GPT-2 with 2 layers of width 64;
        'transformer:4000,2+2x256', an encoder-decoder with 2 layers of width 256 on each side, for
        vocabularies of up to 4,000 tokens;
        'recurrent:4000,2x512', one with 2 layers of GRUs of width 512 on each side;
        'ngrams:4096x16', 4,096 buckets of character n-grams with embeddings of width 16;
        'ngrams:16384x64,64', the same with a hidden layer of 64 features;
        'sentence:DIR', the encoder of a Hugging Face folder that returns a vector, and no logits;
        'birnn:8000,50x50', two GRUs for a pair of texts in vocabularies of up to 8,000 tokens,
        with embeddings and states of width 50;
        'speech:256,3x128', an encoder of 256 codes of speech with 3 layers of width 128;
        'speech:256,3x128,deepspeech:64', the same with the head of DeepSpeech 2, of width 64.
      num_classes: C; 1 for a regression.
      dtype: dtype of the computation; parameters, statistics and logits are float32.

    Returns:
      A module that maps inputs [B, ...], `Tokens` or a mapping of them to `Outputs`, with the
      keyword arguments `train` and `axis_name`.

    Raises:
      InputError: the name is unknown, the model does not accept the argument, or a package that
        the model needs is not installed.
    """
    name, _, argument = spec.partition(":")
    if name not in MODELS:
        raise InputError(
            f"expected NAME:ARGUMENT with a name among {', '.join(MODELS)}, got {spec!r}; correct"
            " the name"
        )
    return MODELS[name](argument, num_classes, dtype)
