"""The style that pictures with axes share, and how they are saved."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from akd_jax.host.files import Path, not_writable


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


def write(figure: Figure, path: Path) -> None:
    """Writes a picture as PNG.

    Raises:
      InputError: the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            figure.savefig(file, dpi=110, format="png")
    except OSError as error:
        raise not_writable(path, error, "file") from None


def save(figure: Figure, path: Path) -> None:
    """Writes a picture as PNG, and prints its path.

    Raises:
      InputError: the file cannot be written.
    """
    write(figure, path)
    print(f"Picture: {path}")


def add_legend(figure: Figure) -> None:
    """Adds the legend beside the axes."""
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
