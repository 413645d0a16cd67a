r"""Translation: a Transformer teaches a small one, also on what the student writes itself.

Texts of LibreOffice, from German into English, on two CPU cores:

python -m experiments.prepare --dataset=libreoffice_de_en --data_dir=DIR --joint \
    --vocabulary_size=4000
python -m experiments.compare --config=configs/translation.py --references=vanilla,seq_kd \
    --methods=vanilla,word_kd,seq_kd,imitkd,imitkd_full,imitkd_star --seeds=2 \
    --workdir=runs/translation --config.dataset.data_dir=DIR

The argument is a row; or ROW,iwslt14 with the sizes of the paper for IWSLT14 German-English, in a
folder of parallel_text that was prepared with --vocabulary_size=12000. The rows are

  vanilla           the texts of the data
  word_kd           the teacher's probabilities of all words, on the texts of the data
  seq_kd            the texts that the teacher writes for the training sources, by 5 beams
  seq_kd_full       the teacher's probabilities of all words, on these texts
  seq_inter         seq_kd, and a last epoch with the beams that are closest to the data
  imitkd            more and more texts that the student writes, with the teacher's best next word
  imitkd_full       the same with the teacher's probabilities of all words
  imitkd_star       imitkd with the teacher's texts in place of those of the data
  imitkd_full_star  imitkd_full with the teacher's texts in place of those of the data
  gkd               the student writes a constant half of the texts; Jensen-Shannon divergence

All rows make the same number of updates on batches of the same sources.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from configs import default

_STAR = 0.1  # The share of the teacher's texts at the end, as the paper's of summaries.
_ROWS: dict[str, dict[str, Any]] = {
    "vanilla": {"method": "scratch"},
    "word_kd": {"method": "kd"},
    "seq_kd": {"method": "seq_kd"},
    "seq_kd_full": {"method": "seq_kd", "seq_kd": {"full": True}},
    "seq_inter": {"method": "seq_kd", "seq_kd": {"interpolation": {"epochs": 1}}},
    "imitkd": {"method": "imitkd"},
    "imitkd_full": {"method": "imitkd", "imitkd": {"full": True}},
    "imitkd_star": {
        "method": "imitkd",
        "imitkd": {"on_teacher_texts": True, "final_beta": _STAR},
    },
    "imitkd_full_star": {
        "method": "imitkd",
        "imitkd": {"full": True, "on_teacher_texts": True, "final_beta": _STAR},
    },
    "gkd": {"method": "gkd"},
}


def get_config(argument: str = "imitkd") -> ConfigDict:
    """Returns the settings of a row.

    Args:
      argument: ROW or ROW,iwslt14.
    """
    row, separator, size = argument.partition(",")
    if row not in _ROWS or (separator and size != "iwslt14"):
        raise ValueError(
            f"expected ROW or ROW,iwslt14 with a row among {', '.join(_ROWS)}, got {argument!r}"
        )
    config = default.get_config()
    config.dataset.validation_size = 0  # The data sets have a validation split.
    config.kd.update({"weight": 1.0, "temperature": 1.0})
    default.set_optimizers(
        config,
        name="adam",
        weight_decay=0.0,
        clip_norm=5.0,
        schedule="inverse_sqrt",
        warmup_epochs=1,
    )
    if size:
        _use_iwslt14(config)
    else:
        _use_libreoffice(config)
    config.update(_ROWS[row])
    # The last epoch starts from a finished student, so that its rate is small.
    small_rate = config.student.optimizer.learning_rate / 6
    config.seq_kd.interpolation.optimizer.update(
        {"schedule": "linear", "learning_rate": small_rate, "warmup_epochs": 0}
    )
    default.fit_annealing(config)
    config.variants = _ROWS
    return config


def _use_libreoffice(config: ConfigDict) -> None:
    """Sets networks and training for two CPU cores; the warm-up is one epoch of 537 updates."""
    config.dataset.name = "libreoffice_de_en"
    config.dataset.max_length = 48
    config.batch_size = 64
    config.checkpoint_every = 1
    config.teacher.model = "transformer:4000,2+2x256,joint"
    config.teacher.epochs = 8
    config.student.model = "transformer:4000,1+1x128,joint"
    config.student.epochs = 6
    default.set_optimizers(config, learning_rate=2e-3)
    config.teacher.optimizer.learning_rate = 1e-3


def _use_iwslt14(config: ConfigDict) -> None:
    """Sets the paper's networks and training for IWSLT14, in epochs of about 1,250 updates."""
    config.dataset.name = "parallel_text"
    config.dataset.max_length = 126
    config.batch_size = 128
    config.teacher.model = "transformer:12000,8+8x256,heads=4,inner=1024"
    config.teacher.epochs = 40
    config.teacher.optimizer.update({"learning_rate": 1e-3, "warmup_epochs": 8})
    config.student.model = "transformer:12000,2+2x256,heads=4,inner=768"
    config.student.epochs = 64
    config.student.optimizer.update({"learning_rate": 1.4e-3, "warmup_epochs": 4})
