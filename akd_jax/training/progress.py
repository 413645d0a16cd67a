"""The progress of a stage: what its checkpoints remember, and the progress bar."""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any, Literal

from akd_jax import metrics
from akd_jax.host.writers import ProgressBar
from akd_jax.training.scheduled import EpochValues
from akd_jax.types import Metrics


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

    def add(self, step: Metrics) -> None:
        """Counts a step and adds its metrics."""
        metrics.add(self.sums, step)
        self.step += 1

    def means(self) -> dict[str, float]:
        """Returns the means of the metrics over the finished steps of the epoch.

        A metric of no example, such as the accuracy on examples without labels, is left out. The
        loss is not: it is NaN if every step was skipped.
        """
        counted = {name: sums for name, sums in self.sums.items() if name == "loss" or sums[1]}
        return metrics.means(counted)

    def finish_epoch(self, score: float | None, mode: Literal["max", "min", "last"]) -> bool:
        """Counts an epoch with its validation score; returns whether its student is the best.

        Of two epochs with the same score the later one is the best, because its teacher was less
        smoothed.

        Args:
          score: the score that selects; None if it is not finite.
          mode: 'max' or 'min', whether larger or smaller scores are better; or 'last', if the
            last epoch is the best.
        """
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        self.last_validation = score
        best = self.best_validation
        if (
            mode != "last"
            and best is not None
            and (score is None or not (score >= best if mode == "max" else score <= best))
        ):
            return False
        self.best_epoch, self.best_validation = self.epoch, score
        return True

    def checkpoint_number(self, steps_per_epoch: int) -> int:
        """Returns the number of the checkpoint that a stage saves at this progress.

        It increases with every step, and once more when an epoch has been evaluated.
        """
        return self.epoch * (steps_per_epoch + 1) + self.step

    def summary(self) -> dict[str, Any]:
        """Returns the progress of a finished stage for results.json."""
        return {
            "best_epoch": self.best_epoch,
            "best_validation": self.best_validation,
            "traces": self.traces,
            "seconds": round(self.seconds, 3),
            "examples_per_second": round(statistics.median(self.rates or [0.0]), 1),
        }


class StageDisplay:
    """The progress bar of a stage, in examples.

    Args:
      label: the name of the training.
      progress: the progress of the stage.
      values: the scheduled values of each epoch.
      steps_per_epoch: updates per epoch.
      batch_size: examples per update.
    """

    def __init__(
        self,
        label: str,
        progress: Progress,
        values: EpochValues,
        *,
        steps_per_epoch: int,
        batch_size: int,
    ):
        self._progress, self._values, self._batch_size = progress, values, batch_size
        self._epochs = len(values.temperature_step)
        done = progress.epoch * steps_per_epoch + progress.step
        self._bar = ProgressBar(
            label, total=self._epochs * steps_per_epoch * batch_size, done=done * batch_size
        )

    def add_step(self, step: Metrics) -> None:
        """Advances the bar by one step and shows the step's metrics."""
        # The text is built only when the bar is drawn again.
        self._bar.update(self._batch_size, lambda: self._text(metrics.means(metrics.add({}, step))))

    def finish_epoch(self, means: Mapping[str, float]) -> None:
        """Shows the means of a whole epoch."""
        self._bar.update(0, lambda: self._text(means), final=True)

    def close(self) -> None:
        """Closes the bar."""
        self._bar.close()

    def _text(self, means: Mapping[str, float]) -> str:
        # Show the share of skipped steps only if a step was skipped. A bar has no room for the
        # weights of the terms.
        shown = {
            name: value
            for name, value in means.items()
            if not math.isnan(value)
            and (value or name != "nonfinite")
            and name.removesuffix("_scale") not in means.keys() - {name}
        }
        epoch = self._progress.epoch
        scheduled = self._values.record(epoch)
        phi = f" Phi {scheduled['phi']:.2f}" if "phi" in scheduled else ""
        values = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in shown.items()]
        return " ".join([f"epoch {epoch + 1}/{self._epochs}{phi}", *values])
