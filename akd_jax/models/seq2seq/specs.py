"""Encoder-decoders from the arguments of specifications, such as '4000,2+2x256'."""

import re
from typing import Any

import pydantic

from akd_jax.host.errors import InputError
from akd_jax.host.settings import problem_message
from akd_jax.models.seq2seq.recurrent import RecurrentConfig, RecurrentSeq2Seq
from akd_jax.models.seq2seq.settings import Seq2SeqConfig
from akd_jax.models.seq2seq.transformer import Transformer

MAX_LENGTH = 512  # Tokens of a text.
_HEAD_SIZE = 64  # Channels of an attention head.
_NUMBER = "([1-9][0-9]{0,6})"
_TRANSFORMER = re.compile(rf"{_NUMBER},{_NUMBER}\+{_NUMBER}x{_NUMBER}")
_RECURRENT = re.compile(rf"{_NUMBER},{_NUMBER}x{_NUMBER}")
_OPTION = re.compile(rf"(\w+)={_NUMBER}")
_TRANSFORMER_FORM = "transformer:VOCABULARY,ENCODER+DECODERxWIDTH"
_RECURRENT_FORM = "recurrent:VOCABULARY,LAYERSxWIDTH"


def build_transformer(argument: str, num_classes: int, dtype: Any) -> Transformer:
    """Builds an encoder-decoder Transformer.

    The feed-forward blocks are four times as wide as the states, and there is an attention head
    for 64 channels, at least one. The target's embeddings are also the output layer.

    Args:
      argument: 'VOCABULARY,ENCODER+DECODERxWIDTH', such as '4000,2+2x256', with the largest number
        of tokens of a vocabulary and the numbers of layers. These can follow: ',joint' for one
        table of embeddings for both sides, ',pre' for layer norms before each block, ',learned'
        for learned positions, ',inner=N' and ',heads=N'.
      num_classes: the number of tokens of the target vocabulary.
      dtype: dtype of the computation.

    Raises:
      InputError: the argument has another form, or its sizes do not fit each other.
    """
    sizes, words, numbers = _parse(
        argument, _TRANSFORMER, _TRANSFORMER_FORM, ("joint", "pre", "learned"), ("inner", "heads")
    )
    vocabulary, encoder, decoder, width = sizes
    try:
        config = Seq2SeqConfig(
            source_size=num_classes if "joint" in words else vocabulary,
            target_size=num_classes,
            width=width,
            encoder_layers=encoder,
            decoder_layers=decoder,
            heads=numbers.get("heads", max(1, width // _HEAD_SIZE)),
            inner_width=numbers.get("inner", 4 * width),
            norm="pre" if "pre" in words else "post",
            max_length=MAX_LENGTH,
            positions="learned" if "learned" in words else "sinusoidal",
            tied="all" if "joint" in words else "target",
            initializer_range=width**-0.5,
        )
    except pydantic.ValidationError as error:
        raise _problem(f"transformer:{argument}", error) from None
    return Transformer(config, dtype)


def build_recurrent(argument: str, num_classes: int, dtype: Any) -> RecurrentSeq2Seq:
    """Builds a recurrent encoder-decoder with attention.

    Args:
      argument: 'VOCABULARY,LAYERSxWIDTH', such as '4000,2x512', with the largest number of tokens
        of a vocabulary, the layers of each side, and the width of the decoder's state. These can
        follow: ',joint' for one table of embeddings for both sides, ',lstm' in place of GRUs, and
        ',embedding=N', the width of embeddings, which is half of the state's without it.
      num_classes: the number of tokens of the target vocabulary.
      dtype: dtype of the computation.

    Raises:
      InputError: the argument has another form, or its sizes do not fit each other.
    """
    sizes, words, numbers = _parse(
        argument, _RECURRENT, _RECURRENT_FORM, ("joint", "lstm"), ("embedding",)
    )
    vocabulary, layers, width = sizes
    try:
        config = RecurrentConfig(
            source_size=num_classes if "joint" in words else vocabulary,
            target_size=num_classes,
            embedding=numbers.get("embedding", max(1, width // 2)),
            width=width,
            layers=layers,
            cell="lstm" if "lstm" in words else "gru",
            tied="all" if "joint" in words else "target",
        )
    except pydantic.ValidationError as error:
        raise _problem(f"recurrent:{argument}", error) from None
    return RecurrentSeq2Seq(config, dtype)


def vocabulary_size(argument: str) -> int:
    """Returns the largest number of tokens of a vocabulary, the first number of an argument."""
    number = argument.partition(",")[0]
    return int(number) if number.isdigit() else 0


def is_joint(argument: str) -> bool:
    """Returns whether an argument asks for one table of embeddings for both sides."""
    return "joint" in argument.split(",")


def _parse(
    argument: str,
    form: re.Pattern[str],
    form_name: str,
    words: tuple[str, ...],
    numbers: tuple[str, ...],
) -> tuple[list[int], set[str], dict[str, int]]:
    """Returns the sizes of an argument, its options that are words, and those with a number."""
    count = 2  # The sizes have one comma.
    parts = argument.split(",")
    match = form.fullmatch(",".join(parts[:count]))
    given_words: set[str] = set()
    given_numbers: dict[str, int] = {}
    for option in parts[count:]:
        number = _OPTION.fullmatch(option)
        if option in words:
            given_words.add(option)
        elif number is not None and number[1] in numbers:
            given_numbers[number[1]] = int(number[2])
        else:
            match = None
    if match is None:
        options = [*words, *(f"{name}=N" for name in numbers)]
        name = form_name.partition(":")[0]
        raise InputError(
            f"expected {form_name} with numbers from 1 to 9999999, and options among"
            f" {', '.join(options)}, got '{name}:{argument}'; write it in this form"
        )
    return [int(size) for size in match.groups()], given_words, given_numbers


def _problem(spec: str, error: pydantic.ValidationError) -> InputError:
    return InputError(f"{spec}: {problem_message(error.errors()[0])}; change it")
