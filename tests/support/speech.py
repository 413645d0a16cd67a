"""Small spoken commands as codes, with a text encoder and a configuration, without recordings."""

import csv

import numpy as np

from configs import default
from tests.support.encoders import save, save_tokenizer

CODES = 12
_OBJECTS = {"lights": 0, "music": 1, "heat": 2}
_ACTIONS = {"activate": ("on", 3), "deactivate": ("no", 4)}
_COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")


def utterances(split, count, seed):
    """Random commands: rows of the CSV file, and the codes of each recording.

    Each word of an intent is a code that is repeated, between random codes. Most of the recordings
    have enough codes to spell their transcripts.
    """
    rng = np.random.default_rng(seed)
    rows, codes = [], {}
    for number in range(count):
        thing, action = str(rng.choice(list(_OBJECTS))), str(rng.choice(list(_ACTIONS)))
        phrase, first = _ACTIONS[action]
        noise = [rng.integers(5, CODES, rng.integers(1, 4)).tolist() for _ in range(3)]
        spoken = [first] * int(rng.integers(5, 7)), [_OBJECTS[thing]] * int(rng.integers(5, 7))
        path = f"wavs/{split}_{number}.wav"
        codes[path] = [*noise[0], *spoken[0], *noise[1], *spoken[1], *noise[2]]
        intent = ("", "", "") if split == "pretrain" else (action, thing, "none")
        rows.append((path, f"{split}_speaker", f"{phrase} {thing}", *intent))
    return rows, codes


def write_commands(folder, sizes):
    """Writes CSV files of the given sizes by the name of the split, and codes.tsv."""
    folder.mkdir(parents=True, exist_ok=True)
    all_codes = {}
    for seed, (split, count) in enumerate(sizes.items()):
        rows, codes = utterances(split, count, seed)
        all_codes |= codes
        with (folder / f"{split}_data.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])
    lines = [f"{path}\t{' '.join(map(str, codes))}" for path, codes in all_codes.items()]
    (folder / "codes.tsv").write_text("\n".join(["path\tcodes", *lines]) + "\n", encoding="utf-8")


def write_encoder(folder):
    """Writes a small text encoder without a head for the task."""
    words = [*(phrase for phrase, _ in _ACTIONS.values()), *_OBJECTS]
    vocabulary = save_tokenizer(folder, "bert", words, vocab_size=300)
    save(folder, "bert", labels=("x", "y"), vocab_size=len(vocabulary), num_hidden_layers=1)
    return folder


def speech_config(root):
    """Writes commands and an encoder to a folder, and returns a small configuration for them."""
    sizes = {"train": 96, "valid": 40, "test": 48, "test_far": 24, "pretrain": 64}
    write_commands(root / "commands", sizes)
    encoder = write_encoder(root / "encoder")
    config = default.get_config()
    config.method = "textual_kd"
    config.batch_size = 32
    config.checkpoint_every = 1
    config.dataset.name = "speech_commands_csv"
    config.dataset.data_dir = str(root / "commands")
    config.dataset.validation_size = 0
    config.dataset.max_length = 12
    config.dataset.max_codes = 24
    config.dataset.bucketing = False
    config.student.model = f"speech:{CODES},1x16,light:16"
    config.student.epochs = 6
    config.teacher.model = f"huggingface:{encoder}"
    config.teacher.epochs = 4
    config.teacher.views = 1
    config.textual_kd.sentence.encoder = f"sentence:{encoder}"
    for name in ("masked_codes", "sentence", "ctc"):
        config.textual_kd[name].epochs = 2
    config.textual_kd.masked_codes.span = 3
    config.textual_kd.augmentation.codes_span = 2
    default.set_optimizers(
        config, name="adamw", learning_rate=1e-2, weight_decay=0.01, schedule="constant"
    )
    return config
