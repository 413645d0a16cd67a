"""Parts of an HTML report: tables, pictures and texts, in sections; and their page."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
)

Part = dict[str, Any]  # A table with headers and rows, a picture in SVG, or a text.


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report with a heading.

    Attributes:
      heading: the heading; empty for none.
      parts: tables, pictures and texts, in their order.
    """

    heading: str
    parts: list[Part]


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Part:
    """Returns a table."""
    return {"headers": headers, "rows": rows}


def note(text: str) -> Part:
    """Returns a text below a table or a picture."""
    return {"text": text}


def picture(figure: Figure) -> Part:
    """Returns a figure as a picture in SVG."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return {"svg": text[text.index("<svg") :]}  # HTML does not allow the XML declaration before it.


def render(title: str, sections: Sequence[Section]) -> str:
    """Returns the page, without the sections that have no parts."""
    template = _TEMPLATES.get_template("report.html")
    return template.render(title=title, sections=[x for x in sections if x.parts])
