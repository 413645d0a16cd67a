"""Bags of character n-grams: small and fast networks for short texts."""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.layers import batch_norm, classifier, classify
from akd_jax.types import Outputs, Tokens

LONGEST = 3  # The n-grams have one to three characters.

_SIZE = "([1-9][0-9]{0,8})"
_SPECIFICATION = re.compile(f"{_SIZE}x{_SIZE}(?:,{_SIZE})?")

# The offset basis and the prime of the hash function FNV-1a with 32 bits.
_BASIS, _PRIME = 2166136261, 16777619

_CHARACTERS = 0x110000  # Number of Unicode's code points.


class NGrams(nn.Module):
    """A classifier of the mean embedding of a text's character n-grams.

    The n-grams of one to three characters share the rows of one embedding table: a hash of the
    n-gram is its row. The mean over all n-grams of the text passes a batch norm, a dense layer
    with ReLU if `hidden` is not 0, and the dense layer to the logits.

    It is fastText's classifier (Joulin et al., Bag of Tricks for Efficient Text Classification,
    EACL 2017, https://arxiv.org/abs/1607.01759) with n-grams of characters instead of words.

    Attributes:
      buckets: number of rows of the embedding table.
      width: D, the width of an embedding.
      hidden: the width of the dense layer; 0 for none.
      num_classes: C; 1 for a regression.
      dtype: dtype of the embeddings and of the hidden layer; parameters, the mean, its batch norm
        and the logits are float32.
    """

    buckets: int
    width: int
    hidden: int
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, train: bool = False, axis_name: str | None = None
    ) -> Outputs:
        """Maps texts [B, L] to logits [B, C] and features.

        The features are 'embedding' [B, D], the mean of the embeddings; and 'pooled', the input of
        the last dense layer in float32, [B, D] or [B, hidden].

        Args:
          tokens: the characters of the texts, as `akd_jax.data.characters` returns them.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          axis_name: axis of devices over which these statistics are averaged.
        """
        hashes, is_real = hash_ngrams(tokens)
        rows = (hashes % jnp.uint32(self.buckets)).astype(jnp.int32)
        embeddings = nn.Embed(self.buckets, self.width, dtype=self.dtype, name="embedding")(rows)
        mask = is_real.astype(self.dtype)
        total = jnp.einsum("bn,bnd->bd", mask, embeddings, preferred_element_type=jnp.float32)
        count = is_real.sum(axis=1, keepdims=True, dtype=jnp.float32)
        mean = total / jnp.maximum(count, 1.0)  # A text without characters has the mean 0.
        x = batch_norm(jnp.float32, train=train, axis_name=axis_name)(mean)
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(x))
        pooled = x.astype(jnp.float32)
        logits, head = classify(classifier(self.num_classes, name="classifier"), pooled)
        features = {"embedding": mean, "pooled": pooled}
        return Outputs(logits, features, mask=tokens.mask, head=head)


def hash_ngrams(tokens: Tokens) -> tuple[jax.Array, jax.Array]:
    """Returns the hashes of all n-grams of texts.

    The hash is FNV-1a over the characters of the n-gram, followed by the last step of MurmurHash3,
    which makes every bit depend on all characters. The characters of the second text of a pair
    are not those of the first one.

    Args:
      tokens: the characters [B, L].

    Returns:
      The hashes, uint32 [B, N] with N = L * LONGEST, and whether they belong to n-grams within
      the text, bool [B, N].
    """
    length = tokens.ids.shape[1]
    ids = jnp.asarray(tokens.ids) + jnp.int32(_CHARACTERS) * tokens.token_type_ids
    characters = ids.astype(jnp.uint32)
    starts = jnp.arange(length)
    state = jnp.full_like(characters, _BASIS)
    hashes, is_real = [], []
    for size in range(1, LONGEST + 1):
        state = (state ^ characters) * jnp.uint32(_PRIME)
        hashes.append(_mix(state))
        is_real.append(starts + size <= jnp.asarray(tokens.lengths)[:, None])
        # The next character of each n-gram; those that begin in the last places have none.
        characters = jnp.pad(characters[:, 1:], ((0, 0), (0, 1)))
    return jnp.concatenate(hashes, axis=1), jnp.concatenate(is_real, axis=1)


def _mix(x: jax.Array) -> jax.Array:
    """Returns the last step of MurmurHash3 on uint32 numbers."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> jnp.uint32(16))


def build(argument: str, num_classes: int, dtype: Any) -> NGrams:
    """Builds a classifier of character n-grams.

    Args:
      argument: 'BUCKETSxWIDTH' or 'BUCKETSxWIDTH,HIDDEN', such as '4096x16' or '16384x64,64'.
      num_classes: C; 1 for a regression.
      dtype: dtype of the computation.

    Raises:
      InputError: the argument has another form.
    """
    match = _SPECIFICATION.fullmatch(argument)
    if match is None:
        raise InputError(
            f"expected ngrams:BUCKETSxWIDTH or ngrams:BUCKETSxWIDTH,HIDDEN with numbers from 1 to"
            f" 999999999, got 'ngrams:{argument}'; write it as in ngrams:4096x16"
        )
    buckets, width, hidden = (int(number or 0) for number in match.groups())
    return NGrams(buckets, width, hidden, num_classes, dtype)
