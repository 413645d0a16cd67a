"""Knowledge distillation in JAX and Flax, centred on Annealing-KD.

The names of `__all__` are the public interface. `losses` and `schedules` are functions of arrays
that compose with any training loop. `train_step` is one pure update that works under `jax.jit` and
`jax.pmap`. `run` trains a student from a configuration, with its teachers, checkpoints and records.
"""

from typing import TYPE_CHECKING, Any

from akd_jax import losses, schedules
from akd_jax.models.network import Model, Network
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Loss, Outputs

if TYPE_CHECKING:
    from akd_jax import methods
    from akd_jax.runs import evaluate, predict, run

__version__ = "0.2.0"

__all__ = [
    "Batch",
    "Loss",
    "Method",
    "Model",
    "Network",
    "Outputs",
    "Stage",
    "TrainState",
    "__version__",
    "evaluate",
    "losses",
    "methods",
    "predict",
    "run",
    "schedules",
    "train_step",
]

_FROM_RUNS = ("evaluate", "predict", "run")


def __getattr__(name: str) -> Any:
    """Imports `methods` and the functions of `runs` on first use: Orbax takes seconds to import."""
    import importlib

    if name in _FROM_RUNS:
        return getattr(importlib.import_module("akd_jax.runs"), name)
    if name == "methods":
        return importlib.import_module("akd_jax.methods")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the names that are imported on first use, too."""
    return sorted({*globals(), *__all__})
