"""Networks that map a text to another one."""

from akd_jax.models.seq2seq.recurrent import RecurrentConfig, RecurrentSeq2Seq
from akd_jax.models.seq2seq.settings import Seq2SeqConfig
from akd_jax.models.seq2seq.specs import (
    MAX_LENGTH,
    build_recurrent,
    build_transformer,
    is_joint,
    vocabulary_size,
)
from akd_jax.models.seq2seq.transformer import Cache, Transformer

__all__ = [
    "MAX_LENGTH",
    "Cache",
    "RecurrentConfig",
    "RecurrentSeq2Seq",
    "Seq2SeqConfig",
    "Transformer",
    "build_recurrent",
    "build_transformer",
    "is_joint",
    "vocabulary_size",
]
