"""Training loop of one stage; resumes from the latest checkpoint."""

import contextlib
import dataclasses
import functools
import math
import operator
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from akd_jax.data import Batches
from akd_jax.host import interrupts
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.errors import DivergedError, InputError, StoppedError
from akd_jax.host.writers import MetricWriter
from akd_jax.training import parallel
from akd_jax.training.evaluate import finite_scores
from akd_jax.training.progress import Progress, StageDisplay
from akd_jax.training.stage import Evaluate, Select
from akd_jax.training.stage_run import StageRun
from akd_jax.training.step import train_step, train_steps
from akd_jax.types import Batch, Variables


@dataclasses.dataclass(frozen=True)
class StageResult:
    """The result of a stage.

    Attributes:
      best: the student's variables after the epoch that was selected, by default the one with the
        best validation score.
      last: the student's variables after the last epoch.
      loss_variables: the variables of the loss after the last epoch.
      progress: the progress at the end of the stage.
    """

    best: Variables
    last: Variables
    loss_variables: Variables
    progress: Progress


@dataclasses.dataclass(frozen=True)
class Position:
    """The place of a stage in its run.

    Attributes:
      label: the name of the training for the progress bar, warnings and errors.
      first_epoch: number of epochs in the earlier stages. It makes the order of the examples
        unique to each epoch of a run.
      first_update: number of updates in the earlier stages, for the numbering of the records.
    """

    label: str
    first_epoch: int = 0
    first_update: int = 0


def train_stage(
    run: StageRun,
    position: Position,
    *,
    evaluate: Evaluate,
    select: Select,
    checkpoints: Checkpoints,
    checkpoint_every: int,
    writer: MetricWriter,
    steps_per_loop: int = 1,
) -> StageResult:
    """Trains a stage from its latest checkpoint to its end.

    The host dispatches steps ahead of the devices and reads their metrics later. At the end of an
    epoch it waits for them, evaluates the student, keeps the best one and writes a record.

    Args:
      run: the stage.
      position: its place in the run.
      evaluate: computes the validation scores.
      select: the score that chooses the best student, and whether large or small is best.
      checkpoints: the checkpoints of this stage.
      checkpoint_every: epochs between checkpoints; the last epoch is always saved.
      writer: writes one record per epoch.
      steps_per_loop: updates per compiled program, if all batches have one shape.

    Raises:
      DivergedError: the loss or a gradient is not finite.
      InputError: the evaluation does not return the score that selects.
      StoppedError: a stop was requested; the finished steps are saved.
    """
    stage, train, values = run.stage, run.train, run.values
    state, teachers = parallel.replicate((run.state, dict(run.teachers)))
    best, progress = _copy_to_host(state.model.variables), Progress()
    restored = checkpoints.restore({"state": state, "best": best})
    if restored is not None:
        items, fields = restored
        state, best, progress = items["state"], items["best"], Progress(**fields)
    if progress.epoch < stage.epochs:
        writer.rewind(position.first_update + progress.epoch * len(train))

    # Place the temperature steps of all epochs at once: each transfer takes 0.1 ms.
    temperature_steps = parallel.replicate(list(values.temperature_step))
    programs = _Programs(train, steps_per_loop)
    queue = parallel.DispatchQueue()
    display = StageDisplay(
        position.label,
        progress,
        values,
        steps_per_epoch=len(train),
        batch_size=train.batch_size,
    )
    started = time.monotonic()

    def collect(packed: parallel.PackedMetrics) -> None:
        """Adds the metrics of a program's steps to the progress."""
        for metrics in packed.fetch():
            if metrics["nonfinite"].total and not state.skip_nonfinite:
                raise _diverged(run, position, progress, f"step {progress.step + 1}")
            progress.add(metrics)
            display.add_step(metrics)

    def save() -> None:
        items = {"state": state, "best": best}
        number = progress.checkpoint_number(len(train))
        checkpoints.save(number, items, dataclasses.asdict(progress))

    with contextlib.closing(display):
        try:
            for epoch in range(progress.epoch, stage.epochs):
                first_step = progress.step
                for step, batch in programs.epoch(position.first_epoch + epoch, first_step):
                    if interrupts.stop_requested():
                        break
                    state, packed = step(state, teachers, batch, temperature_steps[epoch])
                    packed.sums.copy_to_host_async()
                    queue.add(functools.partial(collect, packed))
                queue.drain()
                interrupts.raise_if_stop_requested(position.label)

                means = progress.means()
                if math.isnan(means["loss"]):
                    raise _diverged(run, position, progress, "every step")
                display.finish_epoch(means)
                label = f"{position.label}, epoch {epoch + 1}, validation"
                scores = finite_scores(evaluate(state.model, state.loss_variables), label)
                if progress.finish_epoch(_selected_score(scores, select[0], label), select[1]):
                    best = _copy_to_host(state.model.variables)
                progress.traces = max(progress.traces, programs.traces)
                seconds = time.monotonic() - started
                started += seconds
                progress.seconds += seconds
                examples_per_second = (len(train) - first_step) * train.batch_size / seconds
                if first_step < len(train):  # Otherwise no step was left for this process.
                    progress.rates.append(examples_per_second)
                writer.write(
                    {
                        "stage": stage.name,
                        "epoch": epoch + 1,
                        "step": position.first_update + (epoch + 1) * len(train),
                        **values.record(epoch),
                        **{f"train_{name}": value for name, value in means.items()},
                        **{f"validation_{name}": value for name, value in scores.items()},
                        "examples_per_second": examples_per_second,
                    }
                )
                if epoch + 1 == stage.epochs or (epoch + 1) % checkpoint_every == 0:
                    save()
                    started = time.monotonic()  # Do not measure the save.
        except StoppedError:
            queue.drain()
            progress.seconds += time.monotonic() - started
            save()
            raise
    last, loss_variables = _copy_to_host((state.model.variables, state.loss_variables))
    return StageResult(best, last, loss_variables, progress)


class _Programs:
    """The compiled training steps of a stage: one update, and a loop of several updates."""

    def __init__(self, train: Batches, steps_per_loop: int):
        self._train = train
        self._size = 1 if train.buckets else steps_per_loop
        self._one = parallel.compile_train_step(train_step)
        self._several = parallel.compile_train_step(train_steps)

    @property
    def traces(self) -> int:
        """How often JAX has traced the steps."""
        return self._one.traces + self._several.traces

    def epoch(self, epoch: int, first: int) -> Iterator[tuple[parallel.CompiledStep, Batch]]:
        """Yields the steps of an epoch from number `first` on, with the batches they take.

        Groups of `steps_per_loop` batches go to the program with several updates. The rest of an
        epoch goes batch by batch to the program with one update.
        """
        if self._size == 1:
            for batch in self._train.epoch(epoch, first):
                yield self._one, parallel.shard(batch)
            return
        for group in self._train.groups(self._size, epoch, first):
            if len(group.weights) == self._size:
                yield self._several, parallel.shard_steps(group)
            else:
                for index in range(len(group.weights)):
                    batch = jax.tree.map(operator.itemgetter(index), group)
                    yield self._one, parallel.shard(batch)


def _selected_score(scores: Mapping[str, float | None], name: str, label: str) -> float | None:
    """Returns the score that selects the best student."""
    if name not in scores:
        raise InputError(
            f"{label}: expected the score {name!r}, which selects the best student, got"
            f" {', '.join(scores) or 'none'}; return it from the stage's evaluation or change its"
            " select"
        )
    return scores[name]


def _diverged(run: StageRun, position: Position, progress: Progress, where: str) -> DivergedError:
    temperature = run.values.record(progress.epoch).get("temperature")
    at = "" if temperature is None else f", at temperature {temperature:g}"
    return DivergedError(
        f"{position.label}: expected a finite loss and finite gradients, got NaN or infinity in"
        f" {where} of epoch {progress.epoch + 1}{at}; lower the learning rate (now"
        f" {run.stage.optimizer.learning_rate:g}), set clip_norm, or set"
        " config.skip_nonfinite, in a new workdir (earlier checkpoints are kept)"
    )


def _copy_to_host(variables: Any) -> Any:
    """Copies variables to the host.

    `jax.device_get` is not safe here: on CPU it may return a view of device memory, which the
    next step overwrites because the state is donated to it.
    """
    return jax.tree.map(np.array, variables)
