"""Settings of the named teachers of multi_teacher and rl_kd."""

from typing import Any

from ml_collections.config_dict import ConfigDict

from akd_jax.methods.named_teachers import NamedTeacher


def teacher(model: str, **settings: Any) -> dict[str, Any]:
    """Returns all fields of a named teacher.

    Args:
      model: its network.
      **settings: fields that differ from their defaults, such as group, epochs and seed; and those
        of `optimizer` as a dictionary.
    """
    section = ConfigDict(NamedTeacher().model_dump())
    section.update({"model": model, **settings})
    return section.to_dict()


def set_rows(
    config: ConfigDict,
    *,
    rates: dict[str, float],
    mixture: dict[str, float],
    logistic: dict[str, float],
) -> None:
    """Sets the comparisons of RL-KD as rows, and `labels`, a student without a teacher.

    Args:
      config: the configuration, with its teachers.
      rates: the rate of each teacher that the policy has learned, for the rows 'random' and
        'fixed_rates'.
      mixture: the weights of the row 'mixture', from experiments.weigh_teachers.
      logistic: the weights of the row 'logistic', likewise.
    """
    names = list(config.rl_kd.teachers)
    config.rl_kd.weights = ConfigDict(dict.fromkeys(names, 1.0))
    rows: dict[str, dict[str, Any]] = {
        f"single_{name}": {
            "choice": "weighted",
            "weights": {other: float(other == name) for other in names},
        }
        for name in names
    }
    rows |= {
        "uniform": {"choice": "weighted"},
        "random_teacher": {"choice": "random_teacher"},
        "lowest_error": {"choice": "lowest_error"},
        "random": {"choice": "random", "weights": rates},
        "fixed_rates": {"choice": "weighted", "weights": rates},
        "mixture": {"choice": "weighted", "weights": mixture},
        "logistic": {"choice": "weighted", "weights": logistic},
        "rl_r1": {"reward": "r1"},
        "rl_r2": {"reward": "r2"},
        "rl_r3": {"reward": "r3", "baseline": "running"},
        "rl_no_labels": {"label_errors": False},
    }
    choices = {name: {"method": "rl_kd", "rl_kd": fields} for name, fields in rows.items()}
    config.variants = ConfigDict({"labels": {"method": "scratch"}, **choices})
