"""Vocabularies in files of SentencePiece, which are serialised protocol buffers.

Kudo and Richardson, "SentencePiece", EMNLP 2018, https://arxiv.org/abs/1808.06226.
"""

import dataclasses
import functools
from typing import Any

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path

_FIRST_PIECES = ["<unk>", "<s>", "</s>"]
_UNIGRAM, _ORDINARY = 1, 1  # Values of model_type and of a piece's type; both are the defaults.

# The messages and fields that are read, out of SentencePiece's sentencepiece_model.proto.
_SCHEMA = """
name: "akd_jax/unigram.proto"
message_type {
  name: "Piece"
  field { name: "piece" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "score" number: 2 label: LABEL_OPTIONAL type: TYPE_FLOAT }
  field { name: "type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
}
message_type {
  name: "Trainer"
  field { name: "model_type" number: 3 label: LABEL_OPTIONAL type: TYPE_INT32 default_value: "1" }
}
message_type {
  name: "Normalizer"
  field { name: "precompiled_charsmap" number: 2 label: LABEL_OPTIONAL type: TYPE_BYTES }
}
message_type {
  name: "Model"
  field {
    name: "pieces" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "Piece"
  }
  field {
    name: "trainer" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Trainer"
  }
  field {
    name: "normalizer" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Normalizer"
  }
}
"""


@dataclasses.dataclass(frozen=True)
class Unigram:
    """A unigram vocabulary.

    Attributes:
      pieces: the ordinary pieces in their order, with their log-probabilities. The special pieces
        <unk>, <s> and </s>, which come first in the file, are left out.
      charsmap: the compiled rules that normalise the characters of a text; empty for none.
    """

    pieces: tuple[tuple[str, float], ...]
    charsmap: bytes


def read(path: Path) -> Unigram:
    """Reads the unigram vocabulary in a file of SentencePiece.

    Raises:
      InputError: the file is damaged, or holds another kind of vocabulary; or the package protobuf
        is not installed.
    """
    errors = require("google.protobuf.message", "text")
    try:
        model = _message_class().FromString(path.read_bytes())
    except (OSError, errors.DecodeError) as error:
        raise InputError(
            f"{path}: expected a file of SentencePiece, got a damaged one: {error}; fetch it again"
        ) from None
    # The parts have this order in a file, so that one of them is missing if the file ends early.
    if not (model.pieces and model.HasField("trainer") and model.HasField("normalizer")):
        raise InputError(
            f"{path}: expected a file of SentencePiece with pieces, the settings of the training"
            " and those of the normalisation, got an incomplete file; fetch it again"
        )
    first = [piece.piece for piece in model.pieces[: len(_FIRST_PIECES)]]
    ordinary = model.pieces[len(_FIRST_PIECES) :]
    others = [piece.piece for piece in ordinary if piece.type != _ORDINARY]
    problem = ""
    if model.trainer.model_type != _UNIGRAM:
        problem = f"a vocabulary of the model_type {model.trainer.model_type}"
    elif first != _FIRST_PIECES:
        problem = f"{', '.join(first)} first"
    elif others:
        problem = f"other pieces, such as {others[0]}"
    if problem:
        raise InputError(
            f"{path}: expected a unigram vocabulary with the pieces {', '.join(_FIRST_PIECES)} and"
            f" then only ordinary pieces, as that of XLM-RoBERTa, got {problem}; use a folder with"
            " tokenizer.json"
        )
    return Unigram(
        tuple((piece.piece, piece.score) for piece in ordinary),
        model.normalizer.precompiled_charsmap,
    )


@functools.cache
def _message_class() -> Any:
    """Returns the class of the message 'Model' in the schema."""
    pb2, pool, factory, text_format = (
        require(f"google.protobuf.{name}", "text")
        for name in ("descriptor_pb2", "descriptor_pool", "message_factory", "text_format")
    )
    file = text_format.Parse(_SCHEMA, pb2.FileDescriptorProto())
    schema = pool.DescriptorPool()  # Not the default one, which sentencepiece's own files use.
    schema.AddSerializedFile(file.SerializeToString())
    return factory.GetMessageClass(schema.FindMessageTypeByName("Model"))
