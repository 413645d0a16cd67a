"""Draws the idea of five systems as boxes and arrows, for their pages in docs/.

python -m experiments.draw_ideas --output=docs

Writes idea_translation.png, idea_teachers.png, idea_stream.png, idea_quality.png and
idea_speech.png. Teachers are blue, students green, data white, and losses, policies and rewards
orange; a dashed arrow is a draw or a reward, through which no gradient flows.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from experiments import cli, options, pictures

_OUTPUT = options.output_flag()

_COLORS = {"teacher": "#cfe2f3", "student": "#d9ead3", "data": "#ffffff", "loss": "#fce5cd"}


@dataclasses.dataclass(frozen=True)
class Box:
    """A box with a text, whose center is at x and y, in inches."""

    text: str
    x: float
    y: float
    kind: str = "data"


@dataclasses.dataclass(frozen=True)
class Arrow:
    """An arrow between two boxes by their names, with a text in its middle."""

    start: str
    end: str
    text: str = ""
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Idea:
    """The boxes by name, the arrows, and the size of the picture in inches."""

    boxes: Mapping[str, Box]
    arrows: Sequence[Arrow]
    width: float
    height: float


IDEAS = {
    "translation": Idea(
        {
            "source": Box("source", 1.2, 1.6),
            "data": Box("text of the data", 4.2, 2.8),
            "written": Box("text that the\nstudent writes", 4.2, 0.5, "student"),
            "context": Box("context", 7.2, 1.6),
            "teacher": Box("teacher", 9.6, 1.6, "teacher"),
            "student": Box("student", 9.6, 0.6, "student"),
            "loss": Box("loss of the\nnext token", 13.2, 2.5, "loss"),
        },
        [
            Arrow("source", "data"),
            Arrow("source", "written"),
            Arrow("data", "context", "with probability β"),
            Arrow("written", "context", "with 1 - β", dashed=True),
            Arrow("context", "teacher"),
            Arrow("context", "student"),
            Arrow("data", "loss", "its next word, after its own words"),
            Arrow("teacher", "loss", "best word, after\nthe student's words"),
            Arrow("student", "loss"),
        ],
        14.4,
        3.3,
    ),
    "teachers": Idea(
        {
            "example": Box("example", 1.2, 1.3),
            "teachers": Box("teachers\n1, 2, ..., K", 4.2, 2.2, "teacher"),
            "policy": Box("policy", 4.2, 0.4, "loss"),
            "mean": Box("mean of the\nchosen teachers", 7.4, 2.2, "teacher"),
            "student": Box("student", 10.4, 2.2, "student"),
            "reward": Box("reward", 10.4, 0.4, "loss"),
        },
        [
            Arrow("example", "teachers"),
            Arrow("example", "policy"),
            Arrow("teachers", "mean"),
            Arrow("policy", "mean", "chooses", dashed=True),
            Arrow("mean", "student", "KD"),
            Arrow("student", "reward", "its loss"),
            Arrow("reward", "policy", "REINFORCE", dashed=True),
        ],
        11.6,
        2.7,
    ),
    "stream": Idea(
        {
            "teacher_1": Box("teacher of task 1", 1.4, 2.0, "teacher"),
            "teacher_2": Box("teacher of task 2", 5.4, 2.0, "teacher"),
            "teacher_3": Box("teacher of task 3", 9.4, 2.0, "teacher"),
            "model_1": Box("model learns\ntask 1", 1.4, 0.5, "student"),
            "model_2": Box("model learns\ntask 2 and replay", 5.4, 0.5, "student"),
            "model_3": Box("model learns\ntask 3 and replay", 9.4, 0.5, "student"),
        },
        [
            *(Arrow(f"teacher_{n}", f"model_{n}", "probabilities") for n in (1, 2, 3)),
            Arrow("model_1", "model_2", "writes examples\nof task 1", dashed=True),
            Arrow("model_2", "model_3", "writes examples\nof tasks 1 and 2", dashed=True),
        ],
        10.8,
        2.4,
    ),
    "quality": Idea(
        {
            "labelled": Box("pairs with scores", 1.4, 1.4),
            "unlabelled": Box("pairs without scores", 1.4, 0.4),
            "teacher": Box("teacher:\na large encoder", 4.9, 2.5, "teacher"),
            "scores": Box("scores of all pairs", 8.2, 0.9),
            "student": Box("student: two small\nrecurrent encoders", 11.4, 0.9, "student"),
        },
        [
            Arrow("labelled", "teacher", "fine-tunes"),
            Arrow("labelled", "scores"),
            Arrow("unlabelled", "scores"),
            Arrow("teacher", "scores", "predicts once"),
            Arrow("scores", "student", "squared\nerror"),
        ],
        12.7,
        3.1,
    ),
    "speech": Idea(
        {
            "transcript": Box("transcript", 1.2, 2.3),
            "recording": Box("recording, as\ndiscrete codes", 1.2, 0.5),
            "sentence": Box("frozen encoder\nof sentences", 4.4, 2.3, "teacher"),
            "classifier": Box("classifier of\ntranscripts", 8.4, 2.3, "teacher"),
            "encoder": Box("student: encoder\nof codes", 4.4, 0.5, "student"),
            "intent": Box("student: encoder\nand head", 8.4, 0.5, "student"),
            "text": Box("transcript of\nthe recording", 11.4, 2.3),
            "label": Box("intent", 11.4, 0.5),
        },
        [
            Arrow("transcript", "sentence"),
            Arrow("recording", "encoder"),
            Arrow("sentence", "encoder", "1. its vector (PT-KD)"),
            Arrow("encoder", "intent", "initialises"),
            Arrow("text", "classifier"),
            Arrow("classifier", "intent", "2. its logits (FT-KD)"),
            Arrow("label", "intent"),
        ],
        12.6,
        2.8,
    ),
}


def draw(idea: Idea) -> Figure:
    """Draws the boxes and arrows of an idea."""
    figure = Figure(figsize=(idea.width, idea.height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, idea.width), ylim=(0, idea.height))
    axes.set_axis_off()
    patches = {}
    for name, box in idea.boxes.items():
        patches[name] = axes.text(
            box.x,
            box.y,
            box.text,
            ha="center",
            va="center",
            fontsize=12,
            bbox={"boxstyle": "round,pad=0.5", "facecolor": _COLORS[box.kind], "edgecolor": "0.3"},
        )
    for arrow in idea.arrows:
        start, end = idea.boxes[arrow.start], idea.boxes[arrow.end]
        axes.annotate(
            "",
            (end.x, end.y),
            (start.x, start.y),
            arrowprops={
                "arrowstyle": "-|>",
                "color": "0.3",
                "linestyle": "--" if arrow.dashed else "-",
                "patchA": patches[arrow.start].get_bbox_patch(),
                "patchB": patches[arrow.end].get_bbox_patch(),
                "shrinkA": 2,
                "shrinkB": 2,
            },
        )
        # Beside a vertical arrow, above a horizontal one, and on others.
        vertical, horizontal = start.x == end.x, start.y == end.y
        axes.text(
            (start.x + end.x) / 2 + 0.1 * vertical,
            (start.y + end.y) / 2 + 0.12 * horizontal,
            arrow.text,
            ha="left" if vertical else "center",
            va="bottom" if horizontal else "center",
            fontsize=10,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    return figure


def main() -> None:
    """Draws the pictures and writes them into a folder."""
    folder = options.path(_OUTPUT)
    for name, idea in IDEAS.items():
        pictures.save(draw(idea), folder / f"idea_{name}.png")


if __name__ == "__main__":
    cli.launch(main, required=["output"])
