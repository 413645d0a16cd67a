"""Pictures of predictions: calibration, the accuracy of each class, and BLEU by length."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from akd_jax.metrics import generation
from experiments import pictures

_BINS = 10
_MOST_CLASSES = 20  # More bars of classes cannot be told apart.


def draw_predictions(
    logits: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str]
) -> Figure:
    """Draws a calibration plot, and the accuracy of each class if there are at most 20.

    The calibration plot has the share of right predictions among those with a confidence, the
    largest softmax output, in each tenth from 0 to 1. On the diagonal, a network is right as often
    as it says.

    Args:
      logits: the logits [N, C] of each network or row.
      labels: int [N].
      names: the names of the C classes.
    """
    classes = len(names) if len(names) <= _MOST_CLASSES else 0
    figure = Figure(figsize=(11, 4) if classes else (5.5, 4), layout="constrained")
    axes = figure.subplots(1, 2 if classes else 1, squeeze=False)[0]
    axes[0].plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for number, (name, of_row) in enumerate(logits.items()):
        confidence, accuracy = calibration(of_row, labels)
        axes[0].plot(confidence, accuracy, "o-", color=f"C{number % 10}", markersize=4, label=name)
    axes[0].set_xlabel("confidence")
    axes[0].set_ylabel("share of right predictions")
    axes[0].set_title("Calibration", fontsize=11)
    axes[0].legend(fontsize=8, frameon=False)
    if classes:
        width = 0.8 / len(logits)
        for number, (name, of_row) in enumerate(logits.items()):
            right = of_row.argmax(axis=-1) == labels
            sizes = np.maximum(np.bincount(labels, minlength=classes), 1)
            share = np.bincount(labels, weights=right, minlength=classes) / sizes
            places = np.arange(classes) + (number - (len(logits) - 1) / 2) * width
            axes[1].bar(places, share, width, color=f"C{number % 10}", label=name)
        rotation = 45 if max(map(len, names)) > 4 else 0
        axes[1].set_xticks(range(classes), names, rotation=rotation, fontsize=8)
        axes[1].set_title("Accuracy of each class", fontsize=11)
    for axis in axes:
        pictures.set_frame(axis)
    return figure


def draw_lengths(
    texts: Mapping[str, Sequence[str]], references: Sequence[str], sources: Sequence[str]
) -> Figure:
    """Draws the BLEU of each row on the sources of several lengths.

    Args:
      texts: the N texts of each row.
      references: the N texts of the data.
      sources: the N sources.
    """
    figure, axes = pictures.new_axes(height=4)
    for number, (name, of_row) in enumerate(texts.items()):
        parts = generation.bleu_by_source_length(of_row, references, sources)
        scores = {
            length: 100 * part.bleu for length, part in parts.items() if part.bleu is not None
        }
        axes.plot(
            list(scores),
            list(scores.values()),
            "o-",
            color=f"C{number % 10}",
            markersize=4,
            label=name,
        )
    axes.set_xlabel("words of the source")
    axes.set_ylabel("BLEU")
    axes.legend(fontsize=8, frameon=False)
    return figure


def calibration(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean confidence and the accuracy of the predictions in each tenth with some.

    Args:
      logits: [N, C].
      labels: int [N].
    """
    logits = logits.astype(np.float64)
    confidence = 1 / np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1)
    right = logits.argmax(axis=-1) == labels
    members = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(members, minlength=_BINS)
    some = counts > 0
    sums = [np.bincount(members, weights=x, minlength=_BINS)[some] for x in (confidence, right)]
    return sums[0] / counts[some], sums[1] / counts[some]
