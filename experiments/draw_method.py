"""Draws the picture of Annealing-KD that the README shows, from a finished run.

python -m experiments.draw_method --workdir=DIR --output=docs/method.png

The picture shows the targets that the student learns for one test image: the teacher's logits,
scaled by Phi = 1 - (T - 1) / tau_max at several temperatures T of stage I, and then the label, the
target of stage II.
"""

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from akd_jax import runs, schedules
from akd_jax.host.errors import InputError
from akd_jax.methods import annealing_kd
from akd_jax.training.evaluate import Predictor
from akd_jax.types import Clock
from experiments import cli, options, pictures

_WORKDIR = options.workdir_flag()
_OUTPUT = options.output_flag()
_EXAMPLE = flags.DEFINE_integer("example", 0, "Index of the test image.", lower_bound=0)

_BLUE, _GREEN = "#3465a4", "#4e9a06"


def draw(image: np.ndarray, logits: np.ndarray, label: int, max_temperature: int) -> Figure:
    """Draws the targets of both stages.

    Args:
      image: the example, [H, W].
      logits: the teacher's logits for it, [C].
      label: its class.
      max_temperature: tau_max.
    """
    steps = np.unique(np.linspace(0, max_temperature - 1, 4).round().astype(int))
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    axes = figure.subplots(1, len(steps) + 2, width_ratios=[0.8] + [1.0] * (len(steps) + 1))
    axes[0].imshow(image, cmap="gray_r")
    axes[0].set_axis_off()
    axes[0].set_title("input", fontsize=11)
    classes = np.arange(len(logits))
    low, high = min(0.0, float(logits.min())), float(logits.max())
    margin = 0.08 * (high - low)
    for axis, step in zip(axes[1:-1], steps, strict=True):
        clock = Clock.at(temperature_step=int(step))
        temperature = int(schedules.temperature(max_temperature)(clock))
        phi = float(schedules.annealing_factor(max_temperature)(clock))
        axis.bar(classes, phi * logits, color=_BLUE)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_ylim(low - margin, high + margin)
        axis.set_title(f"T = {temperature}, Φ = {phi:.2g}", fontsize=11)
    axes[1].set_ylabel("target logit Φ(T) · z")
    axes[-1].bar(classes, np.eye(len(logits))[label], color=_GREEN)
    axes[-1].set_ylim(0, 1.08)
    axes[-1].set_title("label", fontsize=11)
    for axis in axes[1:]:
        axis.set_xticks(classes)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("class", fontsize=9)
    figure.suptitle(
        "Stage I: squared error to the teacher's logits, annealed from flat to sharp"
        "   →   Stage II: cross-entropy with the label",
        fontsize=12,
    )
    return figure


def main() -> None:
    """Draws the picture and writes it."""
    plan, models = runs.load(options.path(_WORKDIR))
    if "teacher" not in models:
        raise InputError(
            f"--workdir: expected a run with a teacher, got method {plan.settings.method}; give the"
            " workdir of an annealing_kd run"
        )
    test = plan.dataset.splits["test"]
    index = _EXAMPLE.value
    if plan.dataset.texts or index >= len(test):
        raise InputError(
            f"--example: expected one of {len(test)} test images, got {index}; choose another"
        )
    outputs = Predictor()(models["teacher"], plan.batches(test.take(np.array([index]))))
    figure = draw(
        test.inputs[index, ..., 0],
        np.asarray(outputs.logits)[0],
        int(test.labels[index]),
        plan.settings.section(annealing_kd.Config).max_temperature,
    )
    pictures.save(figure, options.path(_OUTPUT))


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "output"])
