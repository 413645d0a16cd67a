"""The tokenizer of a stream of tasks."""

import dataclasses

from akd_jax.data import completions, sequences
from akd_jax.data.readers import domains, streams
from akd_jax.data.text import load_tokenizer
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.models import huggingface
from akd_jax.models.tokenizer import END_OF_TEXT
from experiments.preparation import tokenizers

_MOST_QUESTIONS = 100  # That have a separate token.


@dataclasses.dataclass(frozen=True)
class Options:
    """The tokenizer of a stream.

    Attributes:
      vocabulary_size: the largest number of tokens of a tokenizer that is trained on texts.
      characters: whether each character is a token, and each question if there are at most 100.
      folder: a Hugging Face folder of GPT-2, whose tokenizer is extended by the special tokens;
        None to train a tokenizer.
    """

    vocabulary_size: int = tokenizers.VOCABULARY_SIZE
    characters: bool = False
    folder: Path | None = None


def prepare(data_dir: Path, options: Options) -> str:
    """Writes the tokenizer of a stream; describes the stream in a line.

    Args:
      data_dir: the folder, with a subfolder for each task.
      options: what the tokenizer is.

    Raises:
      InputError: a file of the stream or of the model is missing or malformed, or the tokenizer
        cannot be written.
    """
    names = streams.task_names(data_dir, streams.StreamOptions())
    tables = [domains.read_domain(data_dir, streams.COLUMNS, name)["train"] for name in names]
    rows = [row for table in tables for row in table.rows.values()]
    texts = [" ".join(filter(None, row)) for row in rows]
    special = (
        sequences.PAD,
        sequences.END,
        sequences.ANSWER,
        *map(sequences.task_token, names),
    )
    if options.folder is not None:
        if options.characters:
            raise InputError(
                "--characters: expected no --tokenizers, which are not trained, got"
                f" {options.folder}; leave out one of them"
            )
        tokenizer = huggingface.Folder(options.folder).load_tokenizer()
        if tokenizer.token_to_id(END_OF_TEXT) is not None:
            special = tuple(token for token in special if token != sequences.END)
        tokenizer.add_special_tokens(list(special))
    elif options.characters:
        questions = sorted({row[1] for row in rows})
        phrases = questions if len(questions) <= _MOST_QUESTIONS else []
        tokenizer = tokenizers.train_on_characters(texts, phrases, special)
    else:
        tokenizer = tokenizers.train(texts, options.vocabulary_size, special)
    path = data_dir / streams.TOKENIZER
    tokenizers.save(path, tokenizer)
    tokenizer = load_tokenizer(path, 0)  # An existing one is kept.
    source = streams.load(data_dir)
    # With the tokens of the task and of the answer.
    lengths = sorted(2 + len(ids) for ids in completions.encode(tokenizer, texts))
    return (
        f"{len(source.train):,} training and {len(source.test):,} test examples of the tasks"
        f" {', '.join(names)}; a vocabulary of {tokenizer.get_vocab_size():,} tokens; texts of up"
        f" to {lengths[-1]:,} tokens, and half of them of up to {lengths[len(lengths) // 2]:,}"
    )
