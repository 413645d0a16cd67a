"""Networks that map a text to another one."""

from akd_jax.models.seq2seq.settings import Seq2SeqConfig
from akd_jax.models.seq2seq.transformer import Cache, Transformer

__all__ = ["Cache", "Seq2SeqConfig", "Transformer"]
