"""Suite 'selection': an update of RL-KD against one of KD from the mean of the same teachers."""

from typing import Any

from akd_jax.host.errors import InputError
from experiments import options
from experiments.benchmarks import timing, workload
from experiments.benchmarks.stages import last_stage
from experiments.grid import changed

_BATCHES = 30
_UNIFORM = "mean of the teachers"
_ROWS: dict[str, dict[str, Any]] = {
    _UNIFORM: {"choice": "weighted"},
    "RL-KD, r2 before the update": {"choice": "reinforced", "before_update": True},
    "RL-KD, r2": {"choice": "reinforced", "reward": "r2"},
    "RL-KD, r3": {"choice": "reinforced", "reward": "r3", "baseline": "running"},
}


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of 30 updates of a student with stored teachers.

    The networks and the data are those of --config, such as configs/reviews.py. The stored outputs
    are zeros, since the time of an update does not depend on their values.

    Raises:
      InputError: --config is missing.
    """
    config = options.config_flag().value
    if config is None:
        raise InputError(
            "--config: expected a configuration of rl_kd, got none; add --config=configs/reviews.py"
            " --config.dataset.data_dir=DIR"
        )
    config.dataset.train_size = _BATCHES * config.batch_size
    epochs = {
        name: workload.epoch(last_stage(changed(config, rl_kd=row))) for name, row in _ROWS.items()
    }
    seconds = timing.median_times(epochs, repeats)
    others = [name for name in _ROWS if name != _UNIFORM]
    return {
        "seconds": seconds,
        "ratios": {f"{name} / {_UNIFORM}": seconds[name] / seconds[_UNIFORM] for name in others},
    }
