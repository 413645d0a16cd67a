"""The common look of pictures with axes."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def new_axes(width: float = 7, height: float = 4.2) -> tuple[Figure, Axes]:
    """Returns a figure of a size in inches, and its only axes, with a grid."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    set_frame(axes)
    return figure, axes


def set_frame(axes: Axes) -> None:
    """Draws a grid, and only the left and the lower line of the frame."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure: Figure) -> None:
    """Adds the legend beside the axes."""
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
