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


def choices(
    names: list[str],
    *,
    rates: dict[str, float],
    mixture: dict[str, float],
    logistic: dict[str, float],
) -> dict[str, dict[str, Any]]:
    """Returns the comparisons of RL-KD as rows: the fields of `rl_kd` that each one changes.

    Args:
      names: the names of the teachers.
      rates: the rate of each teacher that the policy has learned, for the rows 'random' and
        'fixed_rates'.
      mixture: the weights of the row 'mixture', from experiments.weigh_teachers.
      logistic: the weights of the row 'logistic', likewise.
    """
    rows: dict[str, dict[str, Any]] = {
        f"single_{name}": {
            "choice": "weighted",
            "weights": {other: float(other == name) for other in names},
        }
        for name in names
    }
    return {
        **rows,
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
