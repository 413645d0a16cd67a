r"""Two-stage textual distillation for speech understanding (Kim et al., ICASSP 2021).

A corpus of 31 intents in synthetic speech, on two CPU cores:

python -m experiments.prepare --dataset=spoken_intents --data_dir=DIR
python -m experiments.compare --config=configs/speech.py \
    --methods=scratch,base,pt_kd,ft_kd,ctc,augmentation --references=scratch,base --seeds=3 \
    --workdir=runs/speech --config.dataset.data_dir=DIR

Fluent Speech Commands, with the sizes of the paper (experiments.prepare --help says what the folder
holds; the paper's pretraining reads LibriSpeech, as pretrain_data.csv in the folder):

python -m experiments.train --config=configs/speech.py:augmentation,paper --workdir=runs/fsc \
    --config.dataset.data_dir=DIR --config.teacher.model=huggingface:models/roberta-base \
    --config.textual_kd.sentence.encoder=sentence:models/roberta-base

The argument is ROW, ROW,tenth or ROW,paper. Each row of the paper's tables adds a step to the row
before:

  base           pretraining on masked codes, then the labels
  pt_kd          + pretraining on the sentence vectors of a frozen text encoder
  ft_kd          + the logits of a text classifier in the fine-tuning
  ctc            + pretraining of the head on the letters of the transcripts
  augmentation   + masked spans of codes, of states and of channels in the fine-tuning

Two further rows have no pretrained encoder: `scratch` starts from random values, and `ft_kd_only`
adds the logits of the text classifier to it.

With `tenth`, the student learns the intents of a tenth of the training examples, in about two
thirds of the updates. The pretrainings read the transcripts of all.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from configs import default, movie_reviews


def _row(
    *,
    masked_codes: bool = True,
    sentence: bool = True,
    ctc: bool = False,
    logits: float = 0.0,
    augmentation: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> dict[str, Any]:
    """Returns the fields of `textual_kd` that differ between the rows."""
    switches = {"masked_codes": masked_codes, "sentence": sentence, "ctc": ctc}
    return {
        **{name: {"enabled": enabled} for name, enabled in switches.items()},
        "logits": {"weight": logits},
        "augmentation": dict(zip(("codes", "time", "channels"), augmentation, strict=True)),
        # A random encoder must be trained.
        **({} if masked_codes else {"freeze_encoder": False}),
    }


ROWS: dict[str, dict[str, Any]] = {
    "scratch": _row(masked_codes=False, sentence=False),
    "ft_kd_only": _row(masked_codes=False, sentence=False, logits=1.0),
    "base": _row(sentence=False),
    "pt_kd": _row(),
    "ft_kd": _row(logits=1.0),
    "ctc": _row(logits=1.0, ctc=True),
    "augmentation": _row(logits=1.0, ctc=True, augmentation=(0.2, 0.5, 0.4)),
}


def get_config(argument: str = "pt_kd") -> ConfigDict:
    """Returns the settings of a row; its variants are all rows.

    Args:
      argument: ROW, ROW,tenth or ROW,paper.
    """
    row, _, size = argument.partition(",")
    if row not in ROWS or size not in ("", "tenth", "paper"):
        raise ValueError(
            f"expected ROW, ROW,tenth or ROW,paper with a row among {', '.join(ROWS)}, got"
            f" {argument!r}"
        )
    config = default.get_config()
    config.method = "textual_kd"
    config.batch_size = 32
    config.dataset.validation_size = 0  # The data sets have a validation split.
    if size == "paper":
        _use_paper_sizes(config)
    else:
        _use_small_sizes(config, tenth=size == "tenth")
    # For the other methods, with the text classifier as their teacher.
    default.fit_annealing(config)
    frozen = config.textual_kd.freeze_encoder
    config.variants = {
        name: {"textual_kd": {"freeze_encoder": frozen, **fields}} for name, fields in ROWS.items()
    }
    config.textual_kd.update(ROWS[row])
    return config


def _use_small_sizes(config: ConfigDict, *, tenth: bool) -> None:
    """Sets networks and epochs for two CPU cores; a tenth of the labels gets more epochs."""
    minilm = movie_reviews.minilm_folder()
    config.dataset.name = "spoken_intents"
    config.dataset.max_length = 16
    config.dataset.max_codes = 128
    config.student.model = "speech:256,2x128,light:128"
    config.dataset.train_fraction = 0.1 if tenth else 1.0
    config.student.epochs = 40 if tenth else 6
    config.teacher.model = f"huggingface:{minilm}"
    config.teacher.epochs = 8 if tenth else 2
    config.teacher.views = 1  # The transcripts have no augmentation.
    config.textual_kd.sentence.encoder = f"sentence:{minilm}"
    for name, epochs in {"masked_codes": 6, "sentence": 10, "ctc": 6}.items():
        config.textual_kd[name].examples = "all"
        config.textual_kd[name].epochs = epochs
    # The codes are three times as long as the paper's, and the spans last as long as there.
    config.textual_kd.masked_codes.span = 7
    config.textual_kd.augmentation.codes_span = 2
    config.textual_kd.augmentation.time_span = 3
    config.textual_kd.freeze_encoder = False
    config.textual_kd.logits.class_reduction = "mean"
    default.set_optimizers(
        config,
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        clip_norm=1.0,
        schedule="cosine",
    )
    config.textual_kd.sentence.state = "mean"
    config.textual_kd.sentence.weight = 10.0  # With 1 the vectors are learned more slowly.
    config.textual_kd.masked_codes.optimizer.warmup_epochs = 1
    config.textual_kd.sentence.optimizer.warmup_epochs = 1
    config.teacher.optimizer.learning_rate = 2e-4


def _use_paper_sizes(config: ConfigDict) -> None:
    """Sets the networks and the training of the paper."""
    config.dataset.name = "speech_commands_csv"
    config.dataset.max_length = 64
    config.dataset.max_codes = 1024
    config.student.model = "speech:102400,12x768,deepspeech:768"
    config.student.epochs = 100
    config.teacher.model = "huggingface:models/roberta-base"
    config.teacher.epochs = 100
    config.teacher.views = 1
    config.textual_kd.sentence.encoder = "sentence:models/roberta-base"
    for name in ("masked_codes", "sentence", "ctc"):
        config.textual_kd[name].epochs = 100
    default.set_optimizers(
        config, name="adam", learning_rate=1e-4, weight_decay=0.01, schedule="linear"
    )
    config.teacher.optimizer.learning_rate = 1e-5
    config.textual_kd.ctc.optimizer.name = "sgd"
    config.textual_kd.ctc.optimizer.weight_decay = 1e-5
