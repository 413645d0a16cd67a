"""Small texts and small networks for runs on texts."""

import numpy as np

from configs import default, glue
from tests.support.encoders import KINDS, save, save_tokenizer

GOOD = ("a fine film", "warm and witty", "great fun", "a true delight", "bright and moving")
BAD = ("a poor film", "cold and dull", "no fun", "a true bore", "dark and tedious")
FILLER = ("from the start", "in the end", "with old friends", "we saw it twice", "for two hours")


def texts(count, seed):
    """Random sentences of different lengths, with the label 1 (good) or 0 (bad)."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = int(rng.integers(2))
        parts = [rng.choice(GOOD if label else BAD), *rng.choice(FILLER, rng.integers(1, 5))]
        rows.append((" ".join(parts), label))
    return rows


def write(path, rows, header=("sentence", "label")):
    lines = ["\t".join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_folders(root):
    """Writes texts as TSV files, and an encoder of each kind with its own vocabulary."""
    for name, count, seed in (("train", 200, 0), ("dev", 61, 1), ("test", 75, 2)):
        write(root / f"{name}.tsv", texts(count, seed))
    words = [*GOOD, *BAD, *FILLER]
    for kind in KINDS:
        vocabulary = save_tokenizer(root / kind, kind, words, vocab_size=300)
        save(
            root / kind,
            kind,
            labels=("positive", "negative"),  # The task has the other order.
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )


def text_config(folders):
    """The configuration of a run on these texts that takes seconds."""
    config = glue.get_config("sst2,annealing_kd")
    config.dataset.name = "movie_reviews"
    config.dataset.data_dir = str(folders)
    config.dataset.validation_size = 0
    config.dataset.max_length = 24
    config.dataset.bucketing = False  # A single length, so that one program is compiled.
    config.teacher.path = str(folders / "bert")
    config.student.model = f"huggingface:{folders / 'bert'},every=2"
    config.takd.assistant.model = f"huggingface:{folders / 'bert'}"
    config.takd.assistant.epochs = 1
    config.student.epochs = 8
    config.annealing_kd.stage_1.epochs = 2
    config.annealing_kd.max_temperature = 2
    config.continuation_kd.max_temperature = 2
    config.continuation_kd.psi_until = 2
    config.checkpoint_every = 10
    default.set_optimizers(config, learning_rate=1e-2)
    return config
