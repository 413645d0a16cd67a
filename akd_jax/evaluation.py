"""Predictions and metrics of a model over a whole split."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np
from absl import logging

from akd_jax import interrupts, metrics, parallel, processes
from akd_jax.data import Batches
from akd_jax.types import Model, Task


class Predictor:
    """Logits of a model for all examples of a split; compiled once for each architecture."""

    def __init__(self, predict_step: parallel.CompiledStep):
        self._predict_step = predict_step

    def __call__(self, model: Model, batches: Batches, view: int = 0) -> np.ndarray:
        """Logits float32 [N, C] for one view of each example, in the order of their ids.

        Raises:
          StoppedError: somebody asked to stop.
        """
        return self.dispatch(model, batches, view)()

    def dispatch(self, model: Model, batches: Batches, view: int = 0) -> Callable[[], np.ndarray]:
        """As a call, whose last batches are waited for only when the result is asked for: the
        devices may be given more to do before.

        Raises:
          StoppedError: somebody asked to stop.
        """
        model = parallel.replicate_read_only(model)
        in_flight = parallel.DispatchQueue()
        found: list[np.ndarray] = []
        ids: list[np.ndarray] = []
        weights: list[np.ndarray] = []

        def fetch(logits: jax.Array) -> None:
            found.append(np.asarray(logits).reshape(-1, logits.shape[-1]))

        for batch in batches.epoch(view):
            interrupts.raise_if_stop_requested("a pass over a split")
            assert batch.ids is not None, "expected a batch that knows its examples"
            ids.append(np.asarray(batch.ids))
            weights.append(np.asarray(batch.weights))
            logits = self._predict_step(model, parallel.shard(batch))
            in_flight.add(functools.partial(fetch, logits))

        def finish() -> np.ndarray:
            in_flight.drain()
            # Of all processes; without the rows that fill up a batch.
            rows, order, real = (processes.gather(np.concatenate(x)) for x in (found, ids, weights))
            return rows[real > 0][np.argsort(order[real > 0])]

        return finish


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Metrics of a model over a whole split.

    Attributes:
      predictor: runs the model.
      task: names the metrics.
    """

    predictor: Predictor
    task: Task

    def __call__(self, model: Model, batches: Batches) -> dict[str, float]:
        """The task's metrics, each over the whole split."""
        return self.dispatch(model, batches)()

    def dispatch(self, model: Model, batches: Batches) -> Callable[[], dict[str, float]]:
        """As a call, whose last batches are waited for only when the result is asked for.

        Raises:
          StoppedError: somebody asked to stop.
        """
        logits = self.predictor.dispatch(model, batches)
        return lambda: metrics.scores(logits(), batches.examples.labels, self.task)


def finite_scores(scores: Mapping[str, float], label: str) -> dict[str, float | None]:
    """Replaces scores that are not finite by None, which JSON can hold, and logs a warning.

    Args:
      scores: metric name to score.
      label: the model and the split that were evaluated, for the warning.
    """
    for name, score in scores.items():
        if not math.isfinite(score):
            logging.warning("%s: %s is not finite; it is recorded as null", label, name)
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}
