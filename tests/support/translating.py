"""A small language whose words translate one by one, and runs that learn it."""

import numpy as np
import tokenizers
from tokenizers import decoders, pre_tokenizers
from tokenizers import models as token_models

from akd_jax.data.readers.parallel import tokenizer_paths
from akd_jax.data.sequences import SPECIAL_TOKENS
from configs import default
from tests.support.texts import write

WORDS = dict(
    zip(
        ["eins", "zwei", "drei", "vier", "fünf", "sechs"],
        ["one", "two", "three", "four", "five", "six"],
        strict=True,
    )
)
HEADER = ("source", "target")
LENGTH = 8  # Tokens of a text, with the start or the end token.


def pairs(count, seed, longest=4):
    """Random pairs without repetition; a translation has the words in the reverse order."""
    rng = np.random.default_rng(seed)
    rows = {}
    while len(rows) < count:
        source = rng.choice(list(WORDS), int(rng.integers(1, longest + 1)))
        rows[" ".join(source)] = " ".join(WORDS[word] for word in source[::-1])
    return list(rows.items())


def word_tokenizer(words):
    """A tokenizer of whole words."""
    ids = {word: number for number, word in enumerate([*SPECIAL_TOKENS, "<unk>", *words])}
    tokenizer = tokenizers.Tokenizer(token_models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def write_translations(folder, *, train=96, dev=24, test=24):
    """Writes pairs and the tokenizers of both sides; the splits have no pair in common."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = pairs(train + dev + test, seed=0)
    for name, size in (("train", train), ("dev", dev), ("test", test)):
        write(folder / f"{name}.tsv", rows[:size], HEADER)
        rows = rows[size:]
    for path, words in zip(tokenizer_paths(folder), (WORDS, WORDS.values()), strict=True):
        word_tokenizer(words).save(str(path))
    return folder


def translation_config(root):
    """The configuration of a run on such pairs that takes seconds."""
    config = default.get_config()
    config.method = "scratch"
    config.batch_size = 16
    config.checkpoint_every = 1
    config.dataset.name = "parallel_text"
    config.dataset.data_dir = str(write_translations(root / "translations"))
    config.dataset.validation_size = 0
    config.dataset.max_length = LENGTH
    config.student.model = "transformer:10,1+1x16"
    config.student.epochs = 2
    config.teacher.model = "recurrent:10,1x16"
    config.teacher.epochs = 2
    default.set_optimizers(config, name="adam", learning_rate=1e-2, schedule="constant")
    return config
