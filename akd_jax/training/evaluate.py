"""Outputs and metrics of a model on a whole split."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from akd_jax import metrics
from akd_jax.data import Batches
from akd_jax.host import interrupts, processes
from akd_jax.models.network import Model
from akd_jax.training import parallel
from akd_jax.training.stage import Evaluate
from akd_jax.training.state import Prepare, prepare_batch
from akd_jax.training.step import predict_step
from akd_jax.training.terms import evaluate_loss
from akd_jax.training.terms import sums as loss_sums
from akd_jax.types import Batch, Clock, Loss, Outputs, Task, Teacher, Variables


class OnSplit:
    """Evaluates a function of a model and a batch on all examples of a split.

    The function is compiled once per architecture.

    Args:
      step: maps a model and a batch to arrays [B, ...], or a tree of them; it has the keyword
        argument `axis_name`, see `akd_jax.training.parallel.CompiledStep`.
    """

    def __init__(self, step: Callable[..., Any]):
        self._step = parallel.compile_predict_step(step)

    def __call__(self, model: Model, batches: Batches, view: int = 0) -> Any:
        """Returns the results on one view of each example, on the host.

        Args:
          model: the model.
          batches: the examples.
          view: the number of the view.

        Returns:
          Arrays [N, ...] in the order of the ids.

        Raises:
          StoppedError: a stop was requested.
        """
        model = parallel.replicate_read_only(model)
        in_flight = parallel.DispatchQueue()
        fetched: list[list[np.ndarray]] = []
        ids: list[np.ndarray] = []
        weights: list[np.ndarray] = []

        def fetch(results: Any) -> None:
            fetched.append([parallel.merge_shards(leaf) for leaf in jax.tree.leaves(results)])

        for batch in batches.epoch(view):
            interrupts.raise_if_stop_requested("evaluation")
            assert batch.ids is not None, "expected a batch with the ids of its examples"
            ids.append(np.asarray(batch.ids))
            weights.append(np.asarray(batch.weights))
            results = self._step(model, parallel.shard(batch))
            in_flight.add(functools.partial(fetch, results))
        in_flight.drain()
        structure = jax.tree.structure(results)
        columns = [np.concatenate(column) for column in zip(*fetched, strict=True)]
        all_ids, all_weights, *arrays = (
            processes.gather(array)
            for array in (np.concatenate(ids), np.concatenate(weights), *columns)
        )
        is_real = all_weights > 0  # Other rows only fill up a batch.
        order = np.argsort(all_ids[is_real])
        return jax.tree.unflatten(structure, [array[is_real][order] for array in arrays])


class Predictor(OnSplit):
    """Computes the outputs of models on all examples of a split.

    Args:
      view: changes each batch before the model reads it; None to use it as it is.
      select: the part of the outputs to return; None for the logits.
    """

    def __init__(
        self,
        view: Callable[[Batch], Batch] | None = None,
        select: Callable[[Outputs], Outputs] | None = None,
    ):
        super().__init__(functools.partial(predict_step, view=view, select=select))


@dataclasses.dataclass(frozen=True)
class TaskMetrics:
    """The evaluation of a model by the metrics of a task on a split.

    Attributes:
      predictor: computes the logits.
      batches: the examples of the split, with labels.
      task: names the metrics.
    """

    predictor: Predictor
    batches: Batches
    task: Task

    def __call__(
        self, model: Model, loss_variables: Variables | None = None, /
    ) -> dict[str, float]:
        """Returns the metrics by name, each computed on the whole split.

        Raises:
          StoppedError: a stop was requested.
        """
        del loss_variables
        logits = self.predictor(model, self.batches).logits
        return metrics.scores(np.asarray(logits), self.batches.examples.labels, self.task)


class MeanLoss:
    """The evaluation of a model by the mean of a loss on a split.

    Args:
      loss: the loss; its schedules are evaluated at `clock`.
      teachers: the teachers that the loss reads, by name.
      batches: the examples of the split.
      clock: the time of the schedules; by default the beginning of a stage.
      prepare: changes each batch, with the same key in every evaluation; None to use it as it is.
    """

    def __init__(
        self,
        loss: Loss,
        teachers: Mapping[str, Teacher],
        batches: Batches,
        clock: Clock | None = None,
        prepare: Prepare | None = None,
    ):
        self.teachers, self.batches = dict(teachers), batches
        time = clock or Clock.at()

        def term_sums(
            model: Model,
            loss_variables: Variables,
            teachers: Mapping[str, Teacher],
            batch: Batch,
            *,
            axis_name: str | None,
        ) -> Any:
            key = jax.random.key(0)
            batch = prepare_batch(prepare, model, teachers, batch, time, key)
            outputs = {name: teacher(batch) for name, teacher in teachers.items()}
            student = model(batch.inputs)
            terms, _ = evaluate_loss(
                loss, loss_variables, student, outputs, batch, time, key=key, axis_name=axis_name
            )
            scales = {name: jax.numpy.float32(term.scale) for name, term in terms.items()}
            sums = loss_sums(terms)
            return (sums if axis_name is None else jax.lax.psum(sums, axis_name)), scales

        self._step = parallel.CompiledStep(term_sums, arguments=4, sharded=(3,))

    def __call__(
        self, model: Model, loss_variables: Variables | None = None, /
    ) -> dict[str, float]:
        """Returns 'loss', the sum of the scaled means, and the mean of each named term.

        Raises:
          StoppedError: a stop was requested.
        """
        model, variables, teachers = parallel.replicate_read_only(
            (model, loss_variables or {}, self.teachers)
        )
        totals: metrics.Sums = {}
        for batch in self.batches.epoch():
            interrupts.raise_if_stop_requested("evaluation")
            sums, scales = jax.device_get(
                self._step(model, variables, teachers, parallel.shard(batch))
            )
            metrics.add(totals, sums)
        means = metrics.means(totals)
        loss = sum(float(scales[name]) * mean for name, mean in means.items())
        return {"loss": loss, **{name: mean for name, mean in means.items() if name}}


@dataclasses.dataclass(frozen=True)
class SeveralTasks:
    """The evaluation of a model on several tasks.

    Attributes:
      tasks: maps the name of a task to its evaluation and the score that counts.
    """

    tasks: Mapping[str, tuple[Evaluate, str]]

    def __call__(
        self, model: Model, loss_variables: Variables | None = None, /
    ) -> dict[str, float]:
        """Returns 'mean', the mean of the scores that count, and NAME_SCORE of every task."""
        scores: dict[str, float] = {}
        for name, (evaluate, _) in self.tasks.items():
            results = evaluate(model, loss_variables or {})
            scores |= {f"{name}_{score}": value for score, value in results.items()}
        counted = [scores[f"{name}_{score}"] for name, (_, score) in self.tasks.items()]
        return {"mean": sum(counted) / len(counted), **scores}


def finite_scores(scores: Mapping[str, float], label: str) -> dict[str, float | None]:
    """Replaces scores that are not finite with None, which is valid in JSON, and logs a warning.

    Args:
      scores: the scores by metric name.
      label: the model and the split that were evaluated, for the warning.
    """
    for name, score in scores.items():
        if not math.isfinite(score):
            logging.warning("%s: %s is not finite; it is recorded as null", label, name)
    return {name: float(x) if math.isfinite(x) else None for name, x in scores.items()}
