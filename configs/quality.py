r"""Translation quality estimation: a large encoder teaches a small recurrent network.

Translations of apertium, labelled by chrF against a human reference, on two CPU cores:

python -m experiments.prepare --dataset=mt_quality --data_dir=DIR
python -m experiments.compare --config=configs/quality.py:catalogs --references=gold --seeds=3 \
    --methods=gold,kd,kd_6000,kd_12000,kd_24000,kd_42000,mixed,annealing_kd,annealing_kd_24000 \
    --workdir=runs/quality --config.dataset.data_dir=DIR

Human judgements, with a folder of MLQE-PE:

python -m experiments.prepare --dataset=mlqe_pe --language_pair=ro-en --data_dir=DIR
python -m experiments.train --config=configs/quality.py:mlqe,ro-en --workdir=runs/ro_en \
    --config.dataset.data_dir=DIR

The argument is `catalogs`; or `mlqe,PAIR`; or `mlqe,PAIR,LABELLED` with the number of training
pairs that keep their scores, while the others become unlabelled; or `mlqe,PAIR,paper` with the
sizes and the optimizers of the paper. The rows of a comparison are

  gold          the scores of the data set
  kd            only the teacher's scores, on the same pairs
  kd_N          the same with N unlabelled pairs, which the teacher scores too
  mixed         the mean of both losses; mixed_N with N unlabelled pairs, on which only kd counts
  annealing_kd  the teacher's scores, annealed, and then the scores of the data set;
                annealing_kd_N with N unlabelled pairs in its first stage

All rows make about the same number of updates: those with more pairs have fewer epochs.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from configs import default, movie_reviews

_MLQE_TRAIN = 7000  # Training pairs of each pair of languages.
_CATALOGS_TRAIN = 6000
_CATALOGS_UNLABELLED = (6000, 12000, 24000, 42000)
_ARGUMENTS = "catalogs, mlqe,PAIR, mlqe,PAIR,LABELLED or mlqe,PAIR,paper"


def get_config(argument: str = "catalogs") -> ConfigDict:
    """Returns the settings for a data set; the method is kd, without the scores of the data set.

    Args:
      argument: catalogs, mlqe,PAIR, mlqe,PAIR,LABELLED or mlqe,PAIR,paper.
    """
    name, *options = argument.split(",")
    labelled = options[1] if len(options) == 2 else ""
    known = (name == "catalogs" and not options) or (
        name == "mlqe"
        and len(options) in (1, 2)
        and (labelled.isdigit() or labelled in ("", "paper"))
    )
    if not known:
        raise ValueError(f"expected {_ARGUMENTS}, got {argument!r}")
    config = default.get_config()
    config.method = "kd"
    config.batch_size = 32
    config.dataset.validation_size = 0  # The data sets have a validation split.
    config.student.model = "birnn:8000,50x50"
    config.teacher.views = 1  # The texts have no augmentation.
    config.kd.weight = 1.0
    if name == "catalogs":
        config.dataset.name = "mt_quality"
        size, unlabelled = _CATALOGS_TRAIN, list(_CATALOGS_UNLABELLED)
    else:
        config.dataset.name = "mlqe_pe"
        config.dataset.language_pair = options[0]
        config.dataset.train_size = int(labelled) if labelled.isdigit() else 0
        size = config.dataset.train_size or _MLQE_TRAIN
        unlabelled = [_MLQE_TRAIN - size] if size < _MLQE_TRAIN else []
    if labelled == "paper":
        _use_paper_sizes(config)
    else:
        _use_small_sizes(config)
    set_rows(config, size, unlabelled)
    return config


def _use_small_sizes(config: ConfigDict) -> None:
    """Sets the networks and their training for two CPU cores."""
    config.dataset.max_length = 96
    config.teacher.model = f"huggingface:{movie_reviews.minilm_folder()}"
    config.teacher.epochs = 4
    config.student.epochs = 24
    config.checkpoint_every = 4
    default.set_optimizers(config, name="adam", learning_rate=2e-3, schedule="linear")
    config.teacher.optimizer.name = "adamw"
    config.teacher.optimizer.learning_rate = 5e-5
    config.teacher.optimizer.weight_decay = 0.01
    config.teacher.optimizer.clip_norm = 1.0


def _use_paper_sizes(config: ConfigDict) -> None:
    """Sets the networks and their training as in the paper."""
    config.dataset.max_length = 160
    config.teacher.model = "huggingface:models/xlm-roberta-large"
    config.teacher.epochs = 3
    config.student.epochs = 50
    default.set_optimizers(config, name="adagrad", learning_rate=1e-3, weight_decay=0.0)
    config.teacher.optimizer.name = "adamw"
    config.teacher.optimizer.learning_rate = 2e-5
    config.teacher.optimizer.schedule = "linear"
    config.teacher.optimizer.clip_norm = 1.0


def set_rows(config: ConfigDict, labelled: int, unlabelled: list[int]) -> None:
    """Sets the variants, and the stages of the annealing methods.

    Args:
      config: the configuration.
      labelled: the number of labelled training pairs.
      unlabelled: the numbers of unlabelled pairs of the rows that have some.
    """
    epochs = config.student.epochs
    default.fit_annealing(config)
    updates = epochs * _batches(config, labelled)
    rows: dict[str, dict[str, Any]] = {
        "gold": {"method": "scratch"},
        "kd": {"method": "kd"},
        "mixed": {"method": "kd", "kd": {"weight": 0.5}},
    }
    for size in unlabelled:
        row = {
            "dataset": {"unlabelled_size": size},
            "student": {"epochs": max(1, round(updates / _batches(config, labelled + size)))},
        }
        rows[f"kd_{size}"] = {"method": "kd", **row}
        rows[f"mixed_{size}"] = {"method": "kd", "kd": {"weight": 0.5}, **row}
        # Two thirds of the updates are stage I, which reads the unlabelled pairs too.
        first = max(1, round(2 / 3 * updates / _batches(config, labelled + size)))
        rows[f"annealing_kd_{size}"] = {
            "method": "annealing_kd",
            "annealing_kd": {"stage_1": {"epochs": first}, "max_temperature": min(10, first)},
            "dataset": {"unlabelled_size": size},
            "student": {"epochs": first + round(epochs / 3)},
        }
    config.variants = rows


def _batches(config: ConfigDict, examples: int) -> int:
    """Returns the number of batches of an epoch."""
    return -(-examples // config.batch_size)
