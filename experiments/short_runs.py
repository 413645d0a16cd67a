"""Configurations whose students train for a share of their epochs, for a search."""

from typing import Any

from flax import traverse_util
from ml_collections.config_dict import ConfigDict

from experiments.grid import changed


def shortened(config: ConfigDict, divisor: int) -> ConfigDict:
    """Returns a configuration whose students train for fewer epochs.

    All numbers of epochs are divided and rounded, to 1 at least. Those of teachers and other
    networks with a path stay as they are, since these are trained once for all students. tau_max
    and stage I are reduced where fewer epochs do not suffice for all temperatures and stage II.

    Args:
      config: the configuration of a run.
      divisor: at least 1.
    """
    if divisor == 1:
        return config
    fields = traverse_util.flatten_dict(config.to_dict(), sep=".")
    sections = {field.rpartition(".")[0] for field in fields if field.endswith(".path")}
    shared = tuple(f"{section}." for section in sections if f"{section}.epochs" in fields)

    def is_divided(field: str, value: Any) -> bool:
        counts_epochs = field.endswith("epochs") or field.endswith("psi_until")
        return counts_epochs and bool(value) and not field.startswith(shared)

    config = changed(config)
    config.update_from_flattened_dict(
        {
            field: max(1, round(value / divisor))
            for field, value in fields.items()
            if is_divided(field, value)
        }
    )
    _fit_annealing(config)
    return config


def _fit_annealing(config: ConfigDict) -> None:
    """Reduces the temperatures and the first stages to what the student's epochs allow."""
    epochs = config.student.epochs
    annealing, continuation = config.annealing_kd, config.continuation_kd
    stage_1 = annealing.stage_1
    stage_1.epochs = min(stage_1.epochs, max(1, epochs - 1))
    annealing.max_temperature = min(annealing.max_temperature, stage_1.epochs)
    continuation.max_temperature = min(continuation.max_temperature, epochs)
    continuation.psi_until = min(continuation.psi_until, max(1, epochs - 1))
