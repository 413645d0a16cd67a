r"""Compares methods on data with a known Bayes rule, and with teachers of a chosen sharpness.

python -m experiments.capacity_gap --output=DIR --trials=24 --seeds=30

The inputs are x ~ N(0, I) in 16 dimensions. A random network g with 64 tanh units and 8 outputs,
each with mean 0 and variance 1 over x, gives the true logits s g(x), and the labels are drawn from
softmax(s g(x)). So the best possible teacher is known: its logits are s g(x), and the sharpness s
is chosen. The student has few tanh units. Its score is the expected accuracy, the mean over x of
the true probability of the class that it chooses, which has no noise from labels.

All methods make the same number of updates with Adam, whose rate falls as a cosine in each stage:

  scratch     the cross-entropy on the labels
  kd          alpha T^2 KL(teacher) + (1 - alpha) cross-entropy
  mse         the squared error of the logits, and then the cross-entropy
  annealing   the squared error of the logits times Phi, which grows, and then the cross-entropy
  weighted    the same with the error weighted by the teacher's probabilities

Each method has the same number of random trials, which validation labels choose from, and then new
seeds. The seeds draw the training examples and the students; g stays the same. DIR gets
capacity_gap.json and capacity_gap.png.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from matplotlib.figure import Figure
from scipy import stats

from akd_jax import losses
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path
from akd_jax.types import Clock
from experiments import cli, options, pictures

_OUTPUT = options.output_flag()
_TRIALS, _SEEDS = options.trials_flag(), options.seeds_flag()

SHARPNESS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
INPUTS, HIDDEN, CLASSES = 16, 64, 8
STUDENT_HIDDEN = 6
TRAIN, VALIDATION, TEST = 1000, 1000, 20_000
BATCH, UPDATES = 50, 1000
SEARCH_SEEDS = 3

Params = dict[str, jax.Array]
# The values of a trial, each from 0 to 1; the methods map them to their settings.
Draw = jax.Array


def init(key: jax.Array, hidden: int) -> Params:
    """Returns the parameters of a network with one hidden layer."""
    one, two = jax.random.split(key)
    return {
        "hidden": jax.random.normal(one, (INPUTS, hidden)) / INPUTS**0.5,
        "bias": jnp.zeros(hidden),
        "output": jax.random.normal(two, (hidden, CLASSES)) / hidden**0.5,
        "output_bias": jnp.zeros(CLASSES),
    }


def apply(params: Params, x: jax.Array) -> jax.Array:
    """Returns the logits [B, C] of inputs [B, D]."""
    hidden = jnp.tanh(x @ params["hidden"] + params["bias"])
    return hidden @ params["output"] + params["output_bias"]


def true_logits(sharpness: ArrayLike) -> Callable[[jax.Array], jax.Array]:
    """Returns the function s g(x), which maps [B, D] to [B, C]."""
    params = init(jax.random.key(2021), HIDDEN)
    # Units that saturate make g hard for a small network.
    params = {**params, "hidden": 2 * params["hidden"]}
    sample = apply(params, jax.random.normal(jax.random.key(2022), (TEST, INPUTS)))
    mean, std = sample.mean(axis=0), sample.std(axis=0)
    scale = jnp.asarray(sharpness, jnp.float32) / std
    return lambda x: scale * (apply(params, x) - mean)


def _log(draw: jax.Array, low: float, high: float) -> jax.Array:
    """Maps a number from 0 to 1 to a range whose logarithm is uniform."""
    return jnp.exp(jnp.log(low) + draw * (jnp.log(high) - jnp.log(low)))


def settings(method: str, draw: Draw) -> dict[str, jax.Array]:
    """Returns the settings of a trial; those that a method does not read change nothing."""
    return {
        "rate": _log(draw[0], 1e-3, 0.1),
        "second_rate": _log(draw[1], 1e-3, 0.1),
        "temperature": _log(draw[2], 1.0, 8.0),
        "weight": 0.3 + 0.7 * draw[3],
        "first_share": 0.2 + 0.7 * draw[4],
        "max_temperature": (
            jnp.round(_log(draw[5], 2, 50)).astype(jnp.int32)
            if method in ("annealing", "weighted")
            else jnp.int32(1)
        ),
    }


def loss_of(
    method: str, chosen: Mapping[str, jax.Array], clock: Clock, progress: jax.Array
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Returns the loss of student's logits, teacher's logits and labels at a time."""

    def loss(student: jax.Array, teacher: jax.Array, labels: jax.Array) -> jax.Array:
        hard = losses.cross_entropy(student, labels)
        if method == "scratch":
            return hard.mean()
        if method == "kd":
            soft = losses.kl(student, teacher, chosen["temperature"])
            return (chosen["weight"] * soft + (1 - chosen["weight"]) * hard).mean()
        phi = (clock.temperature_step + 1) / chosen["max_temperature"]
        if method == "weighted":
            first = losses.weighted_annealed_mse(student, teacher, phi, chosen["temperature"])
        else:
            first = losses.annealed_mse(student, teacher, phi)
        return jnp.where(progress < chosen["first_share"], first, hard).mean()

    return loss


def train(method: str, sharpness: ArrayLike, draw: Draw, seed: jax.Array) -> dict[str, jax.Array]:
    """Trains a student; returns its validation accuracy and its expected accuracy.

    Args:
      method: the name of the method.
      sharpness: s.
      draw: the values of a trial.
      seed: the seed of the examples and of the student.
    """
    teacher, chosen = true_logits(sharpness), settings(method, draw)
    keys = jax.random.split(jax.random.key(seed), 5)
    x = jax.random.normal(keys[0], (TRAIN + VALIDATION, INPUTS))
    logits = teacher(x)
    labels = jax.random.categorical(keys[1], logits)
    two_stages = method in ("mse", "annealing", "weighted")
    share = chosen["first_share"] if two_stages else jnp.float32(1)

    def rate(progress: jax.Array) -> jax.Array:
        first = progress < share
        within = jnp.where(first, progress / share, (progress - share) / (1 - share + 1e-9))
        peak = jnp.where(first, chosen["rate"], chosen["second_rate"])
        return peak * 0.5 * (1 + jnp.cos(jnp.pi * within))

    optimizer = optax.scale_by_adam()

    def update(carry: tuple, step: jax.Array) -> tuple[tuple, None]:
        params, state = carry
        progress = step.astype(jnp.float32) / UPDATES
        steps = chosen["max_temperature"]
        k = jnp.minimum((progress / share * jnp.float32(steps)).astype(jnp.int32), steps - 1)
        rows = jax.random.randint(jax.random.fold_in(keys[2], step), (BATCH,), 0, TRAIN)
        loss = loss_of(method, chosen, Clock.at().replace(temperature_step=k), progress)
        gradients = jax.grad(lambda p: loss(apply(p, x[rows]), logits[rows], labels[rows]))(params)
        # Stage II starts with a new state of the optimizer, as in the library.
        starts = two_stages & (step == jnp.ceil(share * UPDATES).astype(jnp.int32))
        state = jax.tree.map(lambda a: jnp.where(starts, jnp.zeros_like(a), a), state)
        # Optax multiplies its integer step count with floats, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            changes, state = optimizer.update(gradients, state)
        params = jax.tree.map(lambda p, c: p - rate(progress) * c, params, changes)
        return (params, state), None

    params = init(keys[3], STUDENT_HIDDEN)
    (params, _), _ = jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(UPDATES))
    right = apply(params, x[TRAIN:]).argmax(axis=-1) == labels[TRAIN:]
    tested = jax.random.normal(jax.random.key(2023), (TEST, INPUTS))
    return {
        "validation": right.mean(),
        "test": expected_accuracy(apply(params, tested), teacher(tested)),
    }


def expected_accuracy(student_logits: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns the mean true probability of the class that a student chooses.

    Args:
      student_logits: [N, C].
      logits: the true logits, [N, C].
    """
    chosen = student_logits.argmax(axis=-1)[:, None]
    return jnp.take_along_axis(jax.nn.softmax(logits), chosen, axis=-1).mean()


METHODS = ("scratch", "kd", "mse", "annealing", "weighted")


def study(trials: int, seeds: int) -> dict[str, Any]:
    """Runs the search and the final students for every sharpness and method.

    Args:
      trials: number of trials of each method.
      seeds: number of final students.

    Returns:
      The contents of capacity_gap.json: for each sharpness the ceiling, the expected accuracy of
      the Bayes rule, and for each method its settings, its expected accuracy and the gain over
      scratch on the same seeds, each with half the width of its 95 % interval.
    """
    draws = jnp.float32(np.random.default_rng(0).random((trials, 6)))
    first, final = jnp.arange(SEARCH_SEEDS), jnp.arange(100, 100 + seeds)
    entries: list[dict[str, Any]] = [{"sharpness": s, "ceiling": _ceiling(s)} for s in SHARPNESS]
    of_scratch = np.zeros(0)
    for method in METHODS:
        run = functools.partial(train, method)
        of_seeds = jax.vmap(run, (None, None, 0))  # [seeds]
        of_trials = jax.vmap(of_seeds, (None, 0, None))  # [trials, seeds]
        searched = jax.jit(jax.vmap(of_trials, (0, None, None)))(
            jnp.float32(SHARPNESS), draws, first
        )
        validation = np.asarray(searched["validation"]).mean(axis=-1)
        best = draws[validation.argmax(axis=1)]
        tested = jax.jit(jax.vmap(of_seeds, (0, 0, None)))(jnp.float32(SHARPNESS), best, final)
        scores = np.asarray(tested["test"])
        if method == "scratch":
            of_scratch = scores
        for number, entry in enumerate(entries):
            entry[method] = {
                "settings": {
                    name: round(float(value), 4)
                    for name, value in settings(method, best[number]).items()
                },
                "validation": float(validation[number].max()),
                "test": _mean(scores[number]),
                "gain": _mean(scores[number] - of_scratch[number]),
            }
        cli.print_on_primary(f"{method}: done")
    return {"trials": trials, "seeds": seeds, "student_hidden": STUDENT_HIDDEN, "results": entries}


def _ceiling(sharpness: float) -> float:
    """Returns the expected accuracy of the Bayes rule."""
    logits = true_logits(sharpness)(jax.random.normal(jax.random.key(2023), (TEST, INPUTS)))
    return float(expected_accuracy(logits, logits))


def _mean(scores: np.ndarray) -> tuple[float, float]:
    """Returns the mean and half the width of Student's 95 % interval."""
    half = stats.t.ppf(0.975, len(scores) - 1) * scores.std(ddof=1) / len(scores) ** 0.5
    return float(scores.mean()), float(half)


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws the gain over scratch against the sharpness of the teacher."""
    figure, axes = pictures.new_axes()
    entries = result["results"]
    sharpness = [entry["sharpness"] for entry in entries]
    for number, method in enumerate(METHODS[1:]):
        gains = np.array([entry[method]["gain"] for entry in entries]) * 100
        axes.errorbar(sharpness, gains[:, 0], gains[:, 1], marker="o", capsize=3, label=method)
        axes.lines[-1].set_color(f"C{number}")
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sharpness, [f"{s:g}" for s in sharpness])
    axes.set_xlabel("sharpness s of the teacher's logits")
    axes.set_ylabel("gain over scratch, in points of accuracy")
    pictures.add_legend(figure)
    return figure


def main() -> None:
    """Runs the study and writes its record and its picture."""
    folder: Path = options.path(_OUTPUT)
    if _SEEDS.value < 2:
        raise InputError(
            f"--seeds: expected at least 2 for intervals, got {_SEEDS.value}; set more"
        )
    folder.mkdir(parents=True, exist_ok=True)
    result = study(_TRIALS.value, _SEEDS.value)
    records.write(folder / "capacity_gap.json", result)
    cli.print_on_primary(f"Record: {folder / 'capacity_gap.json'}")
    pictures.save(draw(result), folder / "capacity_gap.png")


if __name__ == "__main__":
    cli.launch(main, required=["output"])
