"""Pairs of a source and its translation, with scores: tokenizers for a small student."""

import numpy as np

from akd_jax.data import Source
from experiments.preparation import tokenizers


def prepare(source: Source, vocabulary_size: int) -> str:
    """Trains a tokenizer of the sources and one of the translations; describes the data set.

    Their texts are those of the training split and of the pairs without scores.

    Args:
      source: the data set, from `akd_jax.data.readers.quality`.
      vocabulary_size: the largest number of tokens of each tokenizer.

    Raises:
      InputError: the tokenizers cannot be written, or an existing one is damaged.
    """
    splits = [source.train, *([source.unlabelled] if source.unlabelled else [])]
    texts = np.concatenate([split.inputs for split in splits])
    tokenizers.train_tokenizers(source.tokenizers, texts.T.tolist(), vocabulary_size)
    return _describe(source)


def _describe(source: Source) -> str:
    """Returns the sizes of splits and vocabularies, and mean and deviation of the scores."""
    splits = {
        "training": source.train,
        "validation": source.validation,
        "test": source.test,
        "unlabelled": source.unlabelled,
    }
    counts = [f"{len(split) if split else 0:,} {name}" for name, split in splits.items()]
    scored = [split for split in (source.train, source.validation, source.test) if split]
    scores = source.task.unscale(np.concatenate([split.labels for split in scored]))
    sizes = [f"{size:,}" for size in tokenizers.vocabulary_sizes(source.tokenizers)]
    return (
        f"{', '.join(counts[:-1])} and {counts[-1]} pairs; scores with mean {scores.mean():.3f} and"
        f" standard deviation {scores.std():.3f}; vocabularies of {' and '.join(sizes)} tokens"
    )
