"""The one Python loop: a stage from its first epoch, or the last one saved, to its end."""

import contextlib
import dataclasses
import functools
import math
import operator
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from akd_jax import interrupts, metrics, parallel, processes, schedules
from akd_jax.checkpoint import Checkpoints
from akd_jax.data import Batches
from akd_jax.errors import DivergedError, StoppedError
from akd_jax.evaluation import Evaluator, finite_scores
from akd_jax.step import train_step, train_steps
from akd_jax.types import (
    Batch,
    LearningRate,
    Model,
    PackedMetrics,
    Stage,
    Task,
    Teacher,
    TrainState,
    Variables,
)
from akd_jax.writers import MetricWriter, ProgressBar


@dataclasses.dataclass
class Progress:
    """How far a stage has come; saved with each checkpoint.

    Attributes:
      epoch: epochs that are finished.
      step: steps of the next one that are taken, and looked at.
      sums: the totals of their metrics.
      best_epoch: the epoch of the best student.
      best_validation: its score; None while no epoch has a finite score.
      last_validation: the score of the last epoch; None if it is not finite.
      traces: how often the step was traced.
      seconds: of training and evaluation.
      rates: examples per second of each epoch, its evaluation counted in.
    """

    epoch: int = 0
    step: int = 0
    sums: metrics.Sums = dataclasses.field(default_factory=dict)
    best_epoch: int = 0
    best_validation: float | None = None
    last_validation: float | None = None
    traces: int = 0
    seconds: float = 0.0
    rates: list[float] = dataclasses.field(default_factory=list)


def checkpoint_number(progress: Progress, train: Batches) -> int:
    """The number of a stage's checkpoint: it rises with each step, and with each epoch's end,
    when the student is evaluated.
    """
    return progress.epoch * (len(train) + 1) + progress.step


@dataclasses.dataclass(frozen=True)
class StageResult:
    """What a stage leaves: the student where it was best on validation, and at the end."""

    best: Variables
    last: Variables
    progress: Progress


@dataclasses.dataclass
class StageRun:
    """The training of a stage, or of what is left of it.

    Steps are dispatched ahead of the devices, and their metrics looked at later. An epoch is
    evaluated and recorded while the first steps of the next one are under way, on a copy of its
    variables. Only checkpoints, and several processes, wait for it.

    Attributes:
      stage: its epochs, name and temperatures.
      state: at step 0; replaced by the newest checkpoint where there is one.
      teachers: those that the loss reads.
      train: batches of the training split.
      validation: batches of the split on which the best student is chosen; a tie goes to the
        later epoch, which has seen the sharper teacher.
      evaluate: gives the metrics of a model on batches.
      learning_rate: the optimizer's, for the records.
      checkpoints: of this stage.
      checkpoint_every: epochs between checkpoints; the last epoch is always saved.
      writer: for a record per epoch.
      label: what is trained, for the progress bar and for warnings.
      first_epoch: epochs of the stages before, so that no two epochs of a run have the same
        order, and records are numbered through.
      steps_per_loop: updates in one program, where the batches are of one shape.
    """

    stage: Stage
    state: TrainState
    teachers: Mapping[str, Teacher]
    _: dataclasses.KW_ONLY
    train: Batches
    validation: Batches
    evaluate: Evaluator
    learning_rate: LearningRate
    checkpoints: Checkpoints
    checkpoint_every: int
    writer: MetricWriter
    label: str
    first_epoch: int = 0
    steps_per_loop: int = 1

    def run(self) -> StageResult:
        """Trains it to its end.

        Raises:
          DivergedError: a loss or a gradient is not finite.
          StoppedError: somebody asked to stop; what was trained is saved.
        """
        self._restore()
        first_step = self._progress.step
        with contextlib.closing(self._bar):
            try:
                for epoch in range(self._progress.epoch, self.stage.epochs):
                    self._dispatch(epoch, first_step)
                    interrupts.raise_if_stop_requested(self.label)
                    last = epoch + 1 == self.stage.epochs
                    checkpoint = last or (epoch + 1) % self.checkpoint_every == 0
                    # What several processes gather must not meet the gradients of the next steps.
                    wait = checkpoint or processes.count() > 1
                    self._evaluate(epoch, len(self.train) - first_step, wait=wait)
                    first_step = 0
                    if checkpoint:
                        self._save()
                        self._since = time.monotonic()
            except StoppedError:
                self._in_flight.drain()
                self._progress.seconds += time.monotonic() - self._since
                self._save()
                raise
        last_validation = self._progress.last_validation
        _warn_if_constant(
            self.label, self.stage, last_validation, self.evaluate.task, self.validation
        )
        return StageResult(
            best=self._best,
            last=_host_copy(self.state.model.variables),
            progress=self._progress,
        )

    def _restore(self) -> None:
        """Takes over the newest checkpoint, and places what the steps read."""
        self.state, self.teachers = parallel.replicate((self.state, dict(self.teachers)))
        self._progress, self._best = Progress(), _host_copy(self.state.model.variables)
        restored = self.checkpoints.restore({"state": self.state, "best": self._best})
        if restored is not None:
            items, record = restored
            self.state, self._best = items["state"], items["best"]
            self._progress = Progress(**record)
        done, steps = self._progress, len(self.train)
        if done.epoch < self.stage.epochs:
            self.writer.rewind((self.first_epoch + done.epoch) * steps)

        self._schedules = EpochSchedules.of(self.stage, self.learning_rate, steps)
        annealed = self._schedules.temperature.tolist()
        self._temperatures = temperatures(self.stage, self.evaluate.task, annealed)
        # An array for each epoch, all placed at once: to place a single one takes 0.1 ms.
        self._temperature_steps = parallel.replicate(list(self._schedules.temperature_step))
        self._step = parallel.compile_train_step(train_step)
        self._steps = parallel.compile_train_step(train_steps)
        self._in_flight = parallel.DispatchQueue()
        self._bar = ProgressBar(
            self.label,
            total=self.stage.epochs * steps * self.train.batch_size,
            done=(done.epoch * steps + done.step) * self.train.batch_size,
        )
        self._since = time.monotonic()

    def _dispatch(self, epoch: int, first: int) -> None:
        """Dispatches the steps of an epoch from number `first` on, until somebody asks to stop.

        Their metrics are on the way to the host before they are asked for, some steps later or,
        of the last steps, with what follows in `_in_flight`.
        """
        temperature_step = self._temperature_steps[epoch]
        for step, share in self._shares(epoch, first):
            if interrupts.stop_requested():
                break
            self.state, packed = step(self.state, self.teachers, share, temperature_step)
            packed.sums.copy_to_host_async()
            self._in_flight.add(functools.partial(self._count_metrics, packed))

    def _shares(self, epoch: int, first: int) -> Iterator[tuple[parallel.CompiledStep, Batch]]:
        """Programs of an epoch, and the batches that each of them takes."""
        number, size = self.first_epoch + epoch, self.steps_per_loop
        if size == 1 or self.train.buckets:
            for batch in self.train.epoch(number, first):
                yield self._step, parallel.shard(batch)
            return
        for group in self.train.groups(size, number, first):
            if len(group.weights) == size:
                yield self._steps, parallel.shard_steps(group)
            else:
                for row in range(len(group.weights)):
                    batch = jax.tree.map(operator.itemgetter(row), group)
                    yield self._step, parallel.shard(batch)

    def _count_metrics(self, packed: PackedMetrics) -> None:
        """Counts the steps of a program."""
        progress = self._progress
        for found in packed.fetch():
            if found["nonfinite"].total and not self.state.skip_nonfinite:
                raise self._diverged(f"step {progress.step + 1}")
            metrics.add(progress.sums, found)
            progress.step += 1
            self._show(self.train.batch_size, functools.partial(metrics.add, {}, found))

    def _evaluate(self, epoch: int, steps: int, *, wait: bool) -> None:
        """Begins to evaluate an epoch, of which `steps` were taken by this process."""
        model = self.state.model
        if not wait:  # The next step takes over the state's memory.
            while self._progress.epoch < epoch:  # One copy is enough.
                self._in_flight.run_oldest()
            model = Model(parallel.copy_on_device(model.variables), model.apply_fn)
        scores_of = self.evaluate.dispatch(model, self.validation)
        self._in_flight.add(functools.partial(self._finish_epoch, steps, model, scores_of))
        if wait:
            self._in_flight.drain()

    def _finish_epoch(
        self, steps: int, model: Model, scores_of: Callable[[], dict[str, float]]
    ) -> None:
        progress, task = self._progress, self.evaluate.task
        sums, epoch = progress.sums, progress.epoch
        self._show(0, lambda: sums, final=True)  # Leaves the whole epoch's on the terminal.
        trained = metrics.means(sums)
        if math.isnan(trained["loss"]):
            raise self._diverged("every step")
        scores = finite_scores(scores_of(), f"{self.label}, epoch {epoch + 1}, validation")
        score, best = scores[task.metric], progress.best_validation
        if best is None or (score is not None and score >= best):
            self._best = _host_copy(model.variables)
            progress.best_epoch, progress.best_validation = epoch + 1, score
        progress.epoch, progress.step, progress.sums = epoch + 1, 0, {}
        progress.last_validation = score
        progress.traces = max(progress.traces, self._step.traces + self._steps.traces)
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        progress.seconds += seconds
        rate = steps * self.train.batch_size / seconds
        if steps:  # Else all of them were taken in an earlier process.
            progress.rates.append(rate)
        record = {
            "stage": self.stage.name,
            "epoch": epoch + 1,
            "step": (self.first_epoch + epoch + 1) * len(self.train),
            "temperature": self._temperatures[epoch],
            "phi": float(self._schedules.phi[epoch]),
            "learning_rate": float(self._schedules.learning_rate[epoch]),
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"validation_{name}": value for name, value in scores.items()},
            "examples_per_second": rate,
        }
        self.writer.write(record)

    def _show(
        self, examples: int, sums: Callable[[], metrics.Sums], *, final: bool = False
    ) -> None:
        """Moves the bar on by a number of examples, with the means of some metrics."""

        def words() -> str:
            epoch = self._progress.epoch
            phi = self._schedules.phi[epoch]
            means = metrics.means(sums())
            shown = {name: value for name, value in means.items() if value or name != "nonfinite"}
            texts = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in shown.items()]
            return " ".join([f"epoch {epoch + 1}/{self.stage.epochs} Phi {phi:.2f}", *texts])

        self._bar.update(examples, words, final=final)

    def _save(self) -> None:
        items = {"state": self.state, "best": self._best}
        number = checkpoint_number(self._progress, self.train)
        self.checkpoints.save(number, items, dataclasses.asdict(self._progress))

    def _diverged(self, where: str) -> DivergedError:
        epoch, optimizer = self._progress.epoch, self.stage.optimizer
        temperature = self._temperatures[epoch]
        at = "" if temperature is None else f", at temperature {temperature:g}"
        return DivergedError(
            f"{self.label}: expected a finite loss and gradients, got others in {where} of epoch"
            f" {epoch + 1}{at}; lower its"
            f" learning rate {optimizer.learning_rate}, set its clip_norm, or set"
            " config.skip_nonfinite, in a new workdir (what was saved before is kept)"
        )


@dataclasses.dataclass(frozen=True)
class EpochSchedules:
    """What is scheduled for each epoch of a stage, [epochs].

    Attributes:
      temperature_step: k, an integer.
      temperature: tau_max - k.
      phi: the annealing factor.
      learning_rate: of the epoch's last update.
    """

    temperature_step: np.ndarray
    temperature: np.ndarray
    phi: np.ndarray
    learning_rate: np.ndarray

    @classmethod
    def of(cls, stage: Stage, learning_rate: LearningRate, steps_per_epoch: int) -> Self:
        """All epochs at once, since the functions take a millisecond for a single one."""

        def of_epoch(epoch: jax.Array) -> tuple[Any, ...]:
            step = schedules.temperature_step(epoch, stage.epochs, stage.max_temperature)
            return (
                step,
                schedules.temperature(step, stage.max_temperature),
                schedules.annealing_factor(step, stage.max_temperature),
                jnp.float32(learning_rate((epoch + 1) * steps_per_epoch - 1)),
            )

        with jax.numpy_dtype_promotion("standard"):  # Optax multiplies integers with floats.
            found = jax.jit(jax.vmap(of_epoch))(jnp.arange(stage.epochs))
        return cls(*jax.device_get(found))


def temperatures(stage: Stage, task: Task, annealed: Sequence[int]) -> list[float | None]:
    """The temperature that a stage's loss uses, for each entry of its annealing schedule.

    A loss without a teacher has no temperature. Neither has a loss with a constant temperature
    in a regression, because a regression has no distribution to soften.

    Args:
      stage: the stage.
      task: what is predicted.
      annealed: the temperatures of a loss that anneals.
    """
    if not stage.teachers or (stage.temperature is not None and task.regression):
        return [None] * len(annealed)
    if stage.temperature is not None:
        return [stage.temperature] * len(annealed)
    return list(annealed)


def summary(stage: Stage, task: Task, progress: Progress, train: Batches) -> dict[str, Any]:
    """A stage's entry in results.json; for texts with the share of padding among the tokens."""
    used = temperatures(stage, task, range(stage.max_temperature, 0, -1))
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "steps": stage.epochs * len(train),
        "temperatures": [temperature for temperature in used if temperature is not None],
        "best_epoch": progress.best_epoch,
        "best_validation": progress.best_validation,
        "traces": progress.traces,
        "seconds": round(progress.seconds, 3),
        "examples_per_second": round(statistics.median(progress.rates or [0.0]), 1),
        **({"padding": round(train.padding(), 4)} if train.buckets else {}),
    }


def _host_copy(variables: Variables) -> Variables:
    """A copy on the host. Not `jax.device_get`: on CPU that may be a view of memory which the
    next step, to which the state is donated, overwrites.
    """
    return jax.tree.map(np.array, variables)


def _warn_if_constant(
    label: str, stage: Stage, score: float | None, task: Task, validation: Batches
) -> None:
    """Warns where the stage ends no better than a model that does not look at its inputs."""
    chance = metrics.constant_predictor_score(task.metric, validation.examples.labels)
    if score is not None and score <= chance:
        logging.warning(
            "%s ends at chance: validation %s %.3f, and up to %.3f can be had without a look at"
            " the inputs; try a learning rate under %g",
            label,
            task.metric,
            score,
            chance,
            stage.optimizer.learning_rate,
        )
