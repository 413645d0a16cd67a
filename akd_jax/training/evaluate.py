"""Predictions and metrics of a model on a whole split."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np
from absl import logging

from akd_jax import metrics
from akd_jax.data import Batches
from akd_jax.host import interrupts, processes
from akd_jax.models.network import Model
from akd_jax.training import parallel
from akd_jax.types import Task


class Predictor:
    """Computes the logits of models on all examples of a split.

    The prediction step is compiled once per architecture.
    """

    def __init__(self, predict_step: parallel.CompiledStep):
        self._predict_step = predict_step

    def __call__(self, model: Model, batches: Batches, view: int = 0) -> np.ndarray:
        """Returns the logits of one view of each example, float32 [N, C], in the order of the ids.

        Raises:
          StoppedError: a stop was requested.
        """
        return self.dispatch(model, batches, view)()

    def dispatch(self, model: Model, batches: Batches, view: int = 0) -> Callable[[], np.ndarray]:
        """Dispatches the computation and returns a function that waits for the logits.

        Other work can be dispatched to the devices before the result is fetched.

        Raises:
          StoppedError: a stop was requested.
        """
        model = parallel.replicate_read_only(model)
        in_flight = parallel.DispatchQueue()
        fetched: list[np.ndarray] = []
        ids: list[np.ndarray] = []
        weights: list[np.ndarray] = []

        def fetch(logits: jax.Array) -> None:
            fetched.append(np.asarray(logits).reshape(-1, logits.shape[-1]))

        for batch in batches.epoch(view):
            interrupts.raise_if_stop_requested("evaluation")
            assert batch.ids is not None, "expected a batch with the ids of its examples"
            ids.append(np.asarray(batch.ids))
            weights.append(np.asarray(batch.weights))
            logits = self._predict_step(model, parallel.shard(batch))
            in_flight.add(functools.partial(fetch, logits))

        def finish() -> np.ndarray:
            in_flight.drain()
            all_logits, all_ids, all_weights = (
                processes.gather(np.concatenate(parts)) for parts in (fetched, ids, weights)
            )
            is_real = all_weights > 0  # Other rows only fill up a batch.
            return all_logits[is_real][np.argsort(all_ids[is_real])]

        return finish


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Computes the metrics of models on a whole split.

    Attributes:
      predictor: computes the logits.
      task: names the metrics.
    """

    predictor: Predictor
    task: Task

    def __call__(self, model: Model, batches: Batches) -> dict[str, float]:
        """Returns the task's metrics by name, each computed on the whole split.

        Raises:
          StoppedError: a stop was requested.
        """
        return self.dispatch(model, batches)()

    def dispatch(self, model: Model, batches: Batches) -> Callable[[], dict[str, float]]:
        """Dispatches the computation and returns a function that waits for the metrics.

        Raises:
          StoppedError: a stop was requested.
        """
        logits = self.predictor.dispatch(model, batches)
        return lambda: metrics.scores(logits(), batches.examples.labels, self.task)


def finite_scores(scores: Mapping[str, float], label: str) -> dict[str, float | None]:
    """Replaces scores that are not finite with None, which is valid in JSON, and logs a warning.

    Args:
      scores: the scores by metric name.
      label: the model and the split that were evaluated, for the warning.
    """
    for name, score in scores.items():
        if not math.isfinite(score):
            logging.warning("%s: %s is not finite; it is recorded as null", label, name)
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}
