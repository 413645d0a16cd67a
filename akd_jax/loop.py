"""The one Python loop: a stage from its first epoch, or the last one saved, to its end."""

import contextlib
import dataclasses
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from akd_jax import interrupts, metrics, parallel, processes, schedules
from akd_jax.checkpoint import Checkpoints
from akd_jax.data import Batches
from akd_jax.errors import DivergedError, StoppedError
from akd_jax.evaluation import Evaluator
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
      best_validation: its score.
      last_validation: the score of the last epoch.
      traces: how often the step was traced.
      seconds: of training and evaluation.
      rates: examples per second of each epoch, its evaluation counted in.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best_epoch: int = 0
    best_validation: float = -math.inf
    last_validation: float = -math.inf
    traces: int = 0
    seconds: float = 0.0
    rates: list[float] = dataclasses.field(default_factory=list)


def place(progress: Progress, train: Batches) -> int:
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


def run_stage(
    stage: Stage,
    state: TrainState,
    teachers: Mapping[str, Teacher],
    *,
    train: Batches,
    validation: Batches,
    evaluate: Evaluator,
    learning_rate: LearningRate,
    checkpoints: Checkpoints,
    checkpoint_every: int,
    writer: MetricWriter,
    label: str,
    first_epoch: int = 0,
    steps_per_dispatch: int = 1,
) -> StageResult:
    """Trains a stage, or what is left of it.

    An epoch is evaluated and recorded while the first steps of the next one are under way, on a
    copy of its variables. Only checkpoints, and several processes, wait for it.

    Args:
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
      steps_per_dispatch: updates in one program, where the batches are of one shape.

    Raises:
      DivergedError: a loss or a gradient is not finite.
      StoppedError: somebody asked to stop; what was trained is saved.
    """
    state, teachers = parallel.replicate((state, dict(teachers)))
    progress, best = Progress(), _host_copy(state.model.variables)
    restored = checkpoints.restore({"state": state, "best": best})
    if restored is not None:
        items, record = restored
        state, best, progress = items["state"], items["best"], Progress(**record)
    if progress.epoch < stage.epochs:
        writer.rewind((first_epoch + progress.epoch) * len(train))

    def save() -> None:
        items = {"state": state, "best": best}
        checkpoints.save(place(progress, train), items, dataclasses.asdict(progress))

    temperature_steps, temperatures, factors, rates = epoch_schedules(
        stage, learning_rate, len(train)
    )

    def diverged(where: str) -> DivergedError:
        return DivergedError(
            f"{label}: expected a finite loss and gradients, got others in {where} of epoch"
            f" {progress.epoch + 1}, at temperature {temperatures[progress.epoch]}; lower its"
            f" learning rate {stage.optimizer.learning_rate}, set its clip_norm, or set"
            " config.skip_nonfinite, in a new workdir (what was saved before is kept)"
        )

    done = (progress.epoch * len(train) + progress.step) * train.batch_size
    total = stage.epochs * len(train) * train.batch_size
    bar = ProgressBar(label, total=total, done=done)
    trainer = _Trainer(
        step=parallel.compile_train_step(train_step),
        steps=parallel.compile_train_step(train_steps),
        per_dispatch=1 if train.buckets else steps_per_dispatch,
        teachers=teachers,
        batch_size=train.batch_size,
        progress=progress,
        bar=bar,
        diverged=diverged,
    )
    since = time.monotonic()

    def finish_epoch(
        position: str, steps: int, model: Model, scores_of: Callable[[], dict[str, float]]
    ) -> None:
        nonlocal best, since
        totals = metrics.Totals(progress.sums)
        trainer.show(0, position, totals, final=True)  # Leaves the whole epoch's on the terminal.
        trained = totals.means()
        if math.isnan(trained["loss"]):
            raise diverged("every step")
        scores = scores_of()
        epoch, score = progress.epoch, scores[evaluate.task.metric]
        if score >= progress.best_validation:
            best = _host_copy(model.variables)
            progress.best_epoch, progress.best_validation = epoch + 1, score
        progress.epoch, progress.step, progress.sums = epoch + 1, 0, {}
        progress.last_validation = score
        progress.traces = max(progress.traces, trainer.traces)
        seconds, since = time.monotonic() - since, time.monotonic()
        progress.seconds += seconds
        rate = steps * train.batch_size / seconds
        if steps:  # Else all of them were taken in an earlier process.
            progress.rates.append(rate)
        record = {
            "stage": stage.name,
            "epoch": epoch + 1,
            "step": (first_epoch + epoch + 1) * len(train),
            "temperature": int(temperatures[epoch]),
            "phi": float(factors[epoch]),
            "learning_rate": float(rates[epoch]),
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"validation_{name}": value for name, value in scores.items()},
            "examples_per_second": rate,
        }
        writer.write(record)

    def evaluate_epoch(epoch: int, position: str, steps: int, *, wait: bool) -> None:
        model = state.model
        if not wait:  # The next step takes over the state's memory.
            while progress.epoch < epoch:  # One copy is enough.
                trainer.in_flight.look()
            model = Model(parallel.duplicate(model.variables), model.apply_fn)
        scores_of = evaluate.begin(model, validation)
        trainer.in_flight.add(functools.partial(finish_epoch, position, steps, model, scores_of))
        if wait:
            trainer.in_flight.drain()

    first_step = progress.step
    with contextlib.closing(bar):
        try:
            for epoch in range(progress.epoch, stage.epochs):
                position = f"epoch {epoch + 1}/{stage.epochs} Phi {factors[epoch]:.2f}"
                batches = train.epoch(first_epoch + epoch, first_step)
                state = trainer.train(state, batches, temperature_steps[epoch], position)
                interrupts.check(label)
                checkpoint = (epoch + 1) % checkpoint_every == 0 or epoch + 1 == stage.epochs
                # What several processes gather must not meet the gradients of the next steps.
                wait = checkpoint or processes.count() > 1
                evaluate_epoch(epoch, position, len(train) - first_step, wait=wait)
                first_step = 0
                if checkpoint:
                    save()
                    since = time.monotonic()
        except StoppedError:
            trainer.in_flight.drain()
            progress.seconds += time.monotonic() - since
            save()
            raise
    _warn_at_chance(label, stage, progress.last_validation, evaluate.task, validation)
    return StageResult(best=best, last=_host_copy(state.model.variables), progress=progress)


@dataclasses.dataclass
class _Trainer:
    """Takes the steps of a stage's epochs.

    Attributes:
      step: a compiled step.
      steps: a compiled program of several steps.
      per_dispatch: how many; the last ones of an epoch are taken one by one.
      teachers: on the devices.
      batch_size: rows of a batch, over all processes.
      progress: counts the steps that are done.
      bar: shows them.
      diverged: what to raise after a step that was not finite, and is not skipped.
      in_flight: the steps that were dispatched, until their metrics are looked at.
    """

    step: parallel.CompiledStep
    steps: parallel.CompiledStep
    per_dispatch: int
    teachers: Mapping[str, Teacher]
    batch_size: int
    progress: Progress
    bar: ProgressBar
    diverged: Callable[[str], DivergedError]
    in_flight: parallel.InFlight = dataclasses.field(default_factory=parallel.InFlight)

    def train(
        self,
        state: TrainState,
        batches: Iterable[Batch],
        temperature_step: np.ndarray,
        position: str,
    ) -> TrainState:
        """Dispatches a step on each batch, until somebody asks to stop.

        Their metrics are on the way to the host before they are asked for, some steps later or,
        of the last steps, with what follows in `in_flight`.

        Args:
          state: before the first step.
          batches: of an epoch.
          temperature_step: of this epoch.
          position: what the bar says of it.
        """
        placed = parallel.replicate(temperature_step)
        for step, share in self._shares(batches):
            if interrupts.heard():
                break
            state, packed = step(state, self.teachers, share, placed)
            packed.sums.copy_to_host_async()
            self.in_flight.add(
                functools.partial(self._finish, packed, state.skip_nonfinite, position)
            )
        return state

    def _finish(self, packed: PackedMetrics, skip_nonfinite: bool, position: str) -> None:
        """Counts the steps of a program."""
        for step_metrics in packed.fetch():
            totals = metrics.Totals(self.progress.sums)
            found = totals.add(step_metrics)
            if found.sums["nonfinite"][0] and not skip_nonfinite:
                raise self.diverged(f"step {self.progress.step + 1}")
            self.progress.step, self.progress.sums = self.progress.step + 1, totals.sums
            self.show(self.batch_size, position, found)

    def show(
        self, examples: int, position: str, totals: metrics.Totals, *, final: bool = False
    ) -> None:
        """Moves the bar on by a number of examples, with the means of some metrics."""

        def words() -> str:
            means = totals.means()
            shown = {name: value for name, value in means.items() if value or name != "nonfinite"}
            texts = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in shown.items()]
            return " ".join([position, *texts])

        self.bar.update(examples, words, final=final)

    def _shares(self, batches: Iterable[Batch]) -> Iterator[tuple[parallel.CompiledStep, Any]]:
        """Programs, and the batches that each of them takes."""
        if self.per_dispatch == 1:
            yield from ((self.step, parallel.shard(batch)) for batch in batches)
            return
        iterator = iter(batches)
        while group := list(itertools.islice(iterator, self.per_dispatch)):
            if len(group) == self.per_dispatch:
                yield self.steps, parallel.shard_steps(group)
            else:
                yield from ((self.step, parallel.shard(batch)) for batch in group)

    @property
    def traces(self) -> int:
        """How often a step was traced."""
        return self.step.traces + self.steps.traces


def epoch_schedules(
    stage: Stage, learning_rate: LearningRate, steps_per_epoch: int
) -> tuple[np.ndarray, ...]:
    """Temperature step, temperature, annealing factor and, of its last update, the learning rate
    of each epoch. All at once, since the functions take a millisecond for a single epoch.
    """
    epochs = jnp.arange(stage.epochs)

    def of_epoch(epoch: jax.Array) -> tuple[Any, ...]:
        step = schedules.temperature_step(epoch, stage.epochs, stage.max_temperature)
        return (
            step,
            schedules.temperature(step, stage.max_temperature),
            schedules.annealing_factor(step, stage.max_temperature),
            jnp.float32(learning_rate((epoch + 1) * steps_per_epoch - 1)),
        )

    with jax.numpy_dtype_promotion("standard"):  # Optax multiplies integers with floats.
        found: tuple[np.ndarray, ...] = jax.device_get(jax.jit(jax.vmap(of_epoch))(epochs))
    return found


def summary(stage: Stage, progress: Progress, train: Batches) -> dict[str, Any]:
    """A stage's entry in results.json; for texts with the share of padding among the tokens."""
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "steps": stage.epochs * len(train),
        "temperatures": list(range(stage.max_temperature, 0, -1)),
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


def _warn_at_chance(
    label: str, stage: Stage, score: float, task: Task, validation: Batches
) -> None:
    """Warns where the stage ends no better than a model that does not look at its inputs."""
    chance = metrics.chance(task.metric, validation.examples.labels)
    if score <= chance:
        logging.warning(
            "%s ends at chance: validation %s %.3f, and up to %.3f can be had without a look at"
            " the inputs; try a learning rate under %g",
            label,
            task.metric,
            score,
            chance,
            stage.optimizer.learning_rate,
        )
