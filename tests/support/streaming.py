"""A small stream of tasks on words, and runs that learn it."""

import json

import numpy as np

from akd_jax.data.readers import streams
from configs import default
from experiments.preparation import streams as preparation
from tests.support.texts import write

LENGTH = 16
TASKS = {
    "copy": ("again?", lambda word: word),
    "reverse": ("backwards?", lambda word: word[::-1]),
    "first": ("which first?", lambda word: word[0]),
}


def write_stream(folder, *, train=24, dev=8, test=8):
    """Writes three tasks and their tokenizer, whose tokens are characters and questions."""
    for number, (name, (question, answer)) in enumerate(TASKS.items()):
        rng = np.random.default_rng(number)
        words = list(dict.fromkeys("".join(rng.choice(list("abcd"), 4)) for _ in range(400)))
        rows = [(word, question, answer(word)) for word in words]
        for split, size in (("train", train), ("dev", dev), ("test", test)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            write(folder / name / f"{split}.tsv", rows[:size], streams.COLUMNS)
            rows = rows[size:]
    metric = json.dumps({"metric": "phoneme_accuracy"})
    (folder / "reverse" / streams.METRIC).write_text(metric)
    preparation.prepare(folder, preparation.Options(characters=True))
    return folder


def stream_config(folder):
    """The configuration of a stream that takes seconds."""
    config = default.get_config()
    config.method = "l2kd"
    config.batch_size = 16
    config.checkpoint_every = 1
    config.dataset.name = "stream"
    config.dataset.data_dir = str(folder)
    config.dataset.tasks = "copy,reverse"
    config.dataset.validation_size = 0
    config.dataset.max_length = LENGTH
    config.student.model = config.teacher.model = "decoder:1x16,heads=2"
    config.student.epochs = 2
    config.teacher.epochs = 2
    default.set_optimizers(config, name="adam", learning_rate=1e-2, schedule="constant")
    return config
