"""Small translations with scores, and tokenizers and networks for them."""

import numpy as np
import tokenizers
from tokenizers import models as token_models
from tokenizers import pre_tokenizers, trainers

from akd_jax.data.readers.parallel import tokenizer_paths
from configs import default
from tests.support.encoders import save, save_tokenizer
from tests.support.texts import write

# A source word and its translation. A translation is worse the more of its words are wrong.
WORDS = {"red": "rojo", "house": "casa", "new": "nuevo", "file": "archivo", "open": "abrir"}
WRONG = "error"
HEADER = ("source", "target", "score")
LENGTH = 12  # Tokens of a text; both texts of a pair fit into it for the teacher.


def pairs(count, seed):
    """Random pairs with 100 times the share of right words as the score; no pair occurs twice."""
    rng = np.random.default_rng(seed)
    rows = {}
    while len(rows) < count:
        source = rng.choice(list(WORDS), int(rng.integers(2, 5)))
        right = rng.uniform(size=len(source)) < rng.uniform()
        target = np.where(right, [WORDS[word] for word in source], WRONG)
        rows[" ".join(source), " ".join(target)] = f"{100 * right.mean():.2f}"
    return [(*texts, score) for texts, score in rows.items()]


def write_pairs(folder, *, train=60, dev=30, test=30, unlabelled=50):
    """Writes pairs and the tokenizers of both sides; the splits have no pair in common."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = pairs(train + dev + test + unlabelled, seed=0)
    for name, size in (("train", train), ("dev", dev), ("test", test)):
        write(folder / f"{name}.tsv", rows[:size], HEADER)
        rows = rows[size:]
    write(folder / "unlabelled.tsv", [row[:2] for row in rows], HEADER[:2])
    for path, words in zip(
        tokenizer_paths(folder), (list(WORDS), [*WORDS.values(), WRONG]), strict=True
    ):
        save_word_tokenizer(path, words)


def save_word_tokenizer(path, words):
    """Saves a tokenizer of whole words."""
    tokenizer = tokenizers.Tokenizer(token_models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"])
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.save(str(path))


def write_encoder(folder):
    """Writes a small random encoder of pairs, without a head."""
    vocabulary = save_tokenizer(folder, "bert", [*WORDS, *WORDS.values(), WRONG], vocab_size=60)
    save(
        folder,
        "bert",
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return folder


def quality_config(root):
    """The configuration of a run on such pairs that takes seconds."""
    write_pairs(root / "pairs")
    config = default.get_config()
    config.method = "kd"
    config.batch_size = 20
    config.checkpoint_every = 1
    config.dataset.name = "scored_pairs"
    config.dataset.data_dir = str(root / "pairs")
    config.dataset.validation_size = 0
    config.dataset.max_length = LENGTH
    config.dataset.bucketing = False
    config.kd.weight = 1.0
    config.student.model = "birnn:20,8x8"
    config.student.epochs = 4
    config.teacher.model = f"huggingface:{write_encoder(root / 'encoder')}"
    config.teacher.epochs = 4
    config.teacher.views = 1
    config.annealing_kd.stage_1.epochs = 2
    config.annealing_kd.max_temperature = 2
    default.set_optimizers(config, name="adam", learning_rate=1e-2, schedule="constant")
    return config
