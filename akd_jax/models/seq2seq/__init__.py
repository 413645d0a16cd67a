"""Networks that map a text to another one."""

from akd_jax.models.seq2seq.recurrent import RecurrentConfig, RecurrentSeq2Seq
from akd_jax.models.seq2seq.settings import Seq2SeqConfig
from akd_jax.models.seq2seq.transformer import Cache, Transformer

__all__ = ["Cache", "RecurrentConfig", "RecurrentSeq2Seq", "Seq2SeqConfig", "Transformer"]
