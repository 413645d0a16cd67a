"""Training loop of one stage; resumes from the latest checkpoint."""

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

from akd_jax import metrics, schedules
from akd_jax.data import Batches
from akd_jax.host import interrupts, processes
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.errors import DivergedError, StoppedError
from akd_jax.host.writers import MetricWriter, ProgressBar
from akd_jax.models.network import Model
from akd_jax.training import parallel
from akd_jax.training.evaluate import Evaluator, finite_scores
from akd_jax.training.parallel import PackedMetrics
from akd_jax.training.stage import Stage
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step, train_steps
from akd_jax.types import Batch, LearningRate, Task, Teacher, Variables


@dataclasses.dataclass
class Progress:
    """The progress of a stage; every checkpoint contains it.

    Attributes:
      epoch: number of finished epochs.
      step: number of finished steps of the current epoch, with their metrics collected.
      sums: the summed metrics of these steps.
      best_epoch: the epoch of the best student.
      best_validation: its validation score; None while no epoch has a finite score.
      last_validation: the validation score of the last epoch; None if it is not finite.
      traces: how often JAX traced the training step.
      seconds: duration of training and evaluation so far.
      rates: examples per second of each epoch, including its evaluation.
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
    """Returns the number of the checkpoint that a stage saves at this progress.

    The number increases with every step, and once more when an epoch has been evaluated.
    """
    return progress.epoch * (len(train) + 1) + progress.step


@dataclasses.dataclass(frozen=True)
class StageResult:
    """The result of a stage.

    Attributes:
      best: the student's variables after the epoch with the best validation score.
      last: the student's variables after the last epoch.
      progress: the progress at the end of the stage.
    """

    best: Variables
    last: Variables
    progress: Progress


@dataclasses.dataclass
class StageRun:
    """The training of one stage.

    The host dispatches steps ahead of the devices and reads their metrics later. The validation
    pass of an epoch overlaps with the first steps of the next epoch. It evaluates a copy of the
    variables, because the next step overwrites them. The host waits for the validation pass only
    before a checkpoint, or if there are several processes.

    Attributes:
      stage: the stage to train.
      state: the state before the first step; replaced by the latest checkpoint, if there is one.
      teachers: the teachers that the loss reads, by name.
      train: batches of the training split.
      validation: batches of the split that selects the best student. If two epochs have the same
        score, the later one is the best, because its teacher was less smoothed.
      evaluate: computes the metrics of a model.
      learning_rate: the schedule of the optimizer, for the records.
      checkpoints: the checkpoints of this stage.
      checkpoint_every: epochs between checkpoints; the last epoch is always saved.
      writer: writes one record per epoch.
      label: the name of the training for the progress bar, warnings and errors.
      first_epoch: number of epochs in the previous stages. It makes the order of the examples
        unique to each epoch of a run, and continues the numbering of the records.
      steps_per_loop: updates per compiled program, if all batches have one shape.
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
        """Trains the stage to its end.

        Raises:
          DivergedError: the loss or a gradient is not finite.
          StoppedError: a stop was requested; the finished steps are saved.
        """
        self._restore_checkpoint()
        self._prepare()
        first_step = self._progress.step
        with contextlib.closing(self._progress_bar):
            try:
                for epoch in range(self._progress.epoch, self.stage.epochs):
                    self._dispatch_steps(epoch, first_step)
                    interrupts.raise_if_stop_requested(self.label)
                    is_last = epoch + 1 == self.stage.epochs
                    save = is_last or (epoch + 1) % self.checkpoint_every == 0
                    # Several processes wait, because the gather in the evaluation and the
                    # gradient sums of the next steps must run in the same order everywhere.
                    wait = save or processes.count() > 1
                    self._dispatch_evaluation(epoch, len(self.train) - first_step, wait=wait)
                    first_step = 0
                    if save:
                        self._save_checkpoint()
                        self._timer_start = time.monotonic()  # Do not measure the save.
            except StoppedError:
                self._queue.drain()
                self._progress.seconds += time.monotonic() - self._timer_start
                self._save_checkpoint()
                raise
        self._warn_if_no_better_than_constant()
        return StageResult(
            best=self._best_variables,
            last=_copy_to_host(self.state.model.variables),
            progress=self._progress,
        )

    def _restore_checkpoint(self) -> None:
        """Puts the state on the devices, from the latest checkpoint if there is one."""
        self.state, self.teachers = parallel.replicate((self.state, dict(self.teachers)))
        self._progress = Progress()
        self._best_variables = _copy_to_host(self.state.model.variables)
        restored = self.checkpoints.restore({"state": self.state, "best": self._best_variables})
        if restored is not None:
            items, progress = restored
            self.state, self._best_variables = items["state"], items["best"]
            self._progress = Progress(**progress)

    def _prepare(self) -> None:
        """Prepares the schedules, the compiled steps and the outputs."""
        progress, steps_per_epoch = self._progress, len(self.train)
        if progress.epoch < self.stage.epochs:
            self.writer.rewind((self.first_epoch + progress.epoch) * steps_per_epoch)
        self._schedules = EpochSchedules.of(self.stage, self.learning_rate, steps_per_epoch)
        self._temperatures = temperatures(
            self.stage, self.evaluate.task, self._schedules.temperature.tolist()
        )
        # Place the temperature steps of all epochs at once: each transfer takes 0.1 ms.
        self._temperature_steps = parallel.replicate(list(self._schedules.temperature_step))
        self._one_step = parallel.compile_train_step(train_step)
        self._step_loop = parallel.compile_train_step(train_steps)
        self._queue = parallel.DispatchQueue()
        self._progress_bar = ProgressBar(
            self.label,
            total=self.stage.epochs * steps_per_epoch * self.train.batch_size,
            done=(progress.epoch * steps_per_epoch + progress.step) * self.train.batch_size,
        )
        self._timer_start = time.monotonic()

    def _dispatch_steps(self, epoch: int, first_step: int) -> None:
        """Dispatches the steps of an epoch from `first_step` on; returns early on a stop request.

        The metrics of each program are copied to the host asynchronously. The queue collects them
        some steps later.
        """
        temperature_step = self._temperature_steps[epoch]
        for step, batch in self._steps_and_batches(epoch, first_step):
            if interrupts.stop_requested():
                break
            self.state, packed = step(self.state, self.teachers, batch, temperature_step)
            packed.sums.copy_to_host_async()
            self._queue.add(functools.partial(self._collect_metrics, packed))

    def _steps_and_batches(
        self, epoch: int, first_step: int
    ) -> Iterator[tuple[parallel.CompiledStep, Batch]]:
        """Yields the compiled steps of an epoch, each with the sharded batches it takes.

        Groups of `steps_per_loop` batches go to the program with several updates. The rest of an
        epoch goes batch by batch to the program with one update.
        """
        run_epoch, size = self.first_epoch + epoch, self.steps_per_loop
        if size == 1 or self.train.buckets:
            for batch in self.train.epoch(run_epoch, first_step):
                yield self._one_step, parallel.shard(batch)
            return
        for group in self.train.groups(size, run_epoch, first_step):
            if len(group.weights) == size:
                yield self._step_loop, parallel.shard_steps(group)
            else:
                for index in range(len(group.weights)):
                    batch = jax.tree.map(operator.itemgetter(index), group)
                    yield self._one_step, parallel.shard(batch)

    def _collect_metrics(self, packed: PackedMetrics) -> None:
        """Adds the metrics of a program's steps to the progress."""
        progress = self._progress
        for step_metrics in packed.fetch():
            if step_metrics["nonfinite"].total and not self.state.skip_nonfinite:
                raise self._diverged_error(f"step {progress.step + 1}")
            metrics.add(progress.sums, step_metrics)
            progress.step += 1
            self._update_progress_bar(
                self.train.batch_size, functools.partial(metrics.add, {}, step_metrics)
            )

    def _dispatch_evaluation(self, epoch: int, steps: int, *, wait: bool) -> None:
        """Starts the validation pass of an epoch.

        Args:
          epoch: index of the epoch in the stage.
          steps: how many of its steps were run by this process.
          wait: whether to wait for the result.
        """
        model = self.state.model
        if not wait:
            # The next step reuses the memory of the state, so evaluate a copy. Finish the previous
            # evaluation first, so that there is at most one copy.
            while self._progress.epoch < epoch:
                self._queue.run_oldest()
            model = Model(parallel.copy_on_device(model.variables), model.apply_fn)
        fetch_scores = self.evaluate.dispatch(model, self.validation)
        self._queue.add(functools.partial(self._finish_epoch, steps, model, fetch_scores))
        if wait:
            self._queue.drain()

    def _finish_epoch(
        self, steps: int, model: Model, fetch_scores: Callable[[], dict[str, float]]
    ) -> None:
        """Selects the best student, updates the progress and writes the record of an epoch."""
        progress, epoch = self._progress, self._progress.epoch
        sums = progress.sums
        # Show the means of the whole epoch, not of its last step.
        self._update_progress_bar(0, lambda: sums, is_final=True)
        train_means = metrics.means(sums)
        if math.isnan(train_means["loss"]):
            raise self._diverged_error("every step")
        scores = finite_scores(fetch_scores(), f"{self.label}, epoch {epoch + 1}, validation")
        score, best = scores[self.evaluate.task.metric], progress.best_validation
        if best is None or (score is not None and score >= best):
            self._best_variables = _copy_to_host(model.variables)
            progress.best_epoch, progress.best_validation = epoch + 1, score
        progress.last_validation = score
        progress.epoch, progress.step, progress.sums = epoch + 1, 0, {}
        progress.traces = max(progress.traces, self._one_step.traces + self._step_loop.traces)
        seconds = time.monotonic() - self._timer_start
        self._timer_start += seconds
        progress.seconds += seconds
        examples_per_second = steps * self.train.batch_size / seconds
        if steps:  # After a stop at the end of an epoch, no step is left for this process.
            progress.rates.append(examples_per_second)
        self.writer.write(
            {
                "stage": self.stage.name,
                "epoch": epoch + 1,
                "step": (self.first_epoch + epoch + 1) * len(self.train),
                "temperature": self._temperatures[epoch],
                "phi": float(self._schedules.phi[epoch]),
                "learning_rate": float(self._schedules.learning_rate[epoch]),
                **{f"train_{name}": value for name, value in train_means.items()},
                **{f"validation_{name}": value for name, value in scores.items()},
                "examples_per_second": examples_per_second,
            }
        )

    def _update_progress_bar(
        self, examples: int, sums: Callable[[], metrics.Sums], *, is_final: bool = False
    ) -> None:
        """Advances the progress bar by a number of examples and shows the means of `sums()`."""

        def text() -> str:
            epoch = self._progress.epoch
            means = metrics.means(sums())
            # Show the share of skipped steps only if a step was skipped.
            shown = {name: value for name, value in means.items() if value or name != "nonfinite"}
            return " ".join(
                [
                    f"epoch {epoch + 1}/{self.stage.epochs} Phi {self._schedules.phi[epoch]:.2f}",
                    *(f"{name.replace('_', ' ')} {value:.4f}" for name, value in shown.items()),
                ]
            )

        self._progress_bar.update(examples, text, final=is_final)

    def _save_checkpoint(self) -> None:
        number = checkpoint_number(self._progress, self.train)
        items = {"state": self.state, "best": self._best_variables}
        self.checkpoints.save(number, items, dataclasses.asdict(self._progress))

    def _diverged_error(self, where: str) -> DivergedError:
        epoch = self._progress.epoch
        temperature = self._temperatures[epoch]
        schedule = "" if temperature is None else f", at temperature {temperature:g}"
        return DivergedError(
            f"{self.label}: expected a finite loss and finite gradients, got NaN or infinity in"
            f" {where} of epoch {epoch + 1}{schedule}; lower the learning rate (now"
            f" {self.stage.optimizer.learning_rate:g}), set clip_norm, or set"
            " config.skip_nonfinite, in a new workdir (earlier checkpoints are kept)"
        )

    def _warn_if_no_better_than_constant(self) -> None:
        """Logs a warning if the last student scores no better than a constant predictor."""
        metric, score = self.evaluate.task.metric, self._progress.last_validation
        constant = metrics.constant_predictor_score(metric, self.validation.examples.labels)
        if score is not None and score <= constant:
            logging.warning(
                "%s: validation %s %.3f is no better than a constant predictor, which reaches up"
                " to %.3f; try a learning rate below %g",
                self.label,
                metric,
                score,
                constant,
                self.stage.optimizer.learning_rate,
            )


@dataclasses.dataclass(frozen=True)
class EpochSchedules:
    """The scheduled values of a stage, one per epoch: arrays [epochs].

    Attributes:
      temperature_step: k, an integer.
      temperature: the temperature tau_max - k of a loss that anneals.
      phi: the annealing factor.
      learning_rate: the learning rate of the epoch's last update.
    """

    temperature_step: np.ndarray
    temperature: np.ndarray
    phi: np.ndarray
    learning_rate: np.ndarray

    @classmethod
    def of(cls, stage: Stage, learning_rate: LearningRate, steps_per_epoch: int) -> Self:
        """Computes the schedules of a stage."""

        def epoch_values(epoch: jax.Array) -> tuple[Any, ...]:
            step = schedules.temperature_step(epoch, stage.epochs, stage.max_temperature)
            return (
                step,
                schedules.temperature(step, stage.max_temperature),
                schedules.annealing_factor(step, stage.max_temperature),
                jnp.float32(learning_rate((epoch + 1) * steps_per_epoch - 1)),
            )

        # One call for all epochs: a call for a single epoch takes a millisecond.
        # The standard promotion is needed because optax multiplies integers with floats.
        with jax.numpy_dtype_promotion("standard"):
            values = jax.jit(jax.vmap(epoch_values))(jnp.arange(stage.epochs))
        return cls(*jax.device_get(values))


def temperatures(stage: Stage, task: Task, annealed: Sequence[int]) -> list[float | None]:
    """Returns the temperatures that the loss of a stage uses.

    A loss without a teacher has no temperature. A loss with a constant temperature has none in a
    regression, because a regression has no distribution to soften.

    Args:
      stage: the stage.
      task: what the stage learns to predict.
      annealed: the temperatures of the stage if its loss anneals.

    Returns:
      A temperature, or None, for each entry of `annealed`.
    """
    if not stage.teachers or (stage.temperature is not None and task.regression):
        return [None] * len(annealed)
    if stage.temperature is not None:
        return [stage.temperature] * len(annealed)
    return list(annealed)


def summary(stage: Stage, task: Task, progress: Progress, train: Batches) -> dict[str, Any]:
    """Returns the entry of a finished stage in results.json.

    For texts it contains the share of padding among the tokens.
    """
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


def _copy_to_host(variables: Variables) -> Variables:
    """Copies variables to the host.

    `jax.device_get` is not safe here: on CPU it may return a view of device memory, which the
    next step overwrites because the state is donated to it.
    """
    return jax.tree.map(np.array, variables)
