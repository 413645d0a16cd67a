"""Pairs of a source and a target to generate: tokenizers of both sides."""

import dataclasses

from akd_jax.data import sequences
from akd_jax.data.readers import parallel
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable, replace_text
from akd_jax.models import huggingface
from experiments.preparation import tokenizers

_SPLITS = {"train": "training", "dev": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Options:
    """The tokenizers of a data set.

    Attributes:
      vocabulary_size: the largest number of tokens of a tokenizer that is trained.
      joint: whether one tokenizer of the texts of both sides is trained.
      folder: a translation model of Marian, whose tokenizers are taken; None to train tokenizers.
    """

    vocabulary_size: int = tokenizers.VOCABULARY_SIZE
    joint: bool = False
    folder: Path | None = None


def prepare(data_dir: Path, columns: parallel.TextColumns, options: Options) -> str:
    """Writes the tokenizers of sources and targets; describes the data set in a line.

    Args:
      data_dir: the folder with train.tsv, and with dev.tsv and test.tsv or one of them.
      columns: the names of the columns.
      options: what the tokenizers are.

    Raises:
      InputError: a file of the data set or of the model is missing or malformed, a tokenizer cannot
        be written, or an existing one is damaged.
    """
    splits = parallel.load_splits(data_dir, parallel.column_names(columns))
    paths = parallel.tokenizer_paths(data_dir)
    if options.folder is None:
        pairs = splits["train"]
        texts = [pairs.ravel().tolist()] if options.joint else pairs.T.tolist()
        tokenizers.train_tokenizers(paths, texts, options.vocabulary_size, sequences.SPECIAL_TOKENS)
    elif options.joint:
        raise InputError(
            "--joint: expected no --tokenizers, which are not trained, got"
            f" {options.folder}; leave out one of them"
        )
    else:
        _copy_tokenizers(paths, options.folder)
    sizes = [f"{size:,}" for size in tokenizers.vocabulary_sizes(paths)]
    *counts, last = [f"{len(pairs):,} {_SPLITS[name]}" for name, pairs in splits.items()]
    return f"{', '.join(counts)} and {last} pairs; vocabularies of {' and '.join(sizes)} tokens"


def _copy_tokenizers(paths: tuple[Path, Path], folder: Path) -> None:
    """Writes the tokenizers of a translation model."""
    for path, tokenizer in zip(paths, huggingface.Folder(folder).load_tokenizers(), strict=True):
        content = tokenizer.to_str(pretty=True)
        if path.exists() and path.read_text(encoding="utf-8") != content:
            raise InputError(
                f"{path}: expected no tokenizer or that of {folder}, got another one; delete it, or"
                " prepare another folder"
            )
        try:
            replace_text(path, content)
        except OSError as error:
            raise not_writable(path.parent, error) from None
