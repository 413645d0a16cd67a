"""Tables of a finished search, for the terminal and for its report."""

from collections.abc import Mapping
from typing import Any

from experiments import search_plots
from experiments.report_parts import Section, note, picture, table
from experiments.tables import markdown_table, percent

FINISHED, DIVERGED, PRUNED = "finished", "diverged", "pruned"  # The states of a trial.

_HEADERS = ("trials", "diverged", "pruned")


def title(search: Mapping[str, Any]) -> str:
    """Returns the title of the report of a search."""
    rows = list(search["methods"])
    return f"Search for settings of {', '.join(rows) if len(rows) < 5 else f'{len(rows)} methods'}"


def summary(search: Mapping[str, Any]) -> str:
    """Returns the best score of each row as a Markdown table, and the settings below it."""
    lines = [f"- {row}: {settings}" for row, settings in _best_settings(search).items()]
    best = markdown_table(_headers(search), _best_scores(search))
    return "\n".join([best, "", "Best settings:", "", *lines])


def sections(search: Mapping[str, Any]) -> list[Section]:
    """Returns the sections of the report of a search, without what ran."""
    seeds = ", ".join(map(str, search["seeds"]))
    divisor = search.get("epochs_divisor", 1)
    shorter = f" Students train for 1/{divisor} of their epochs." if divisor > 1 else ""
    best = [
        table(_headers(search), _best_scores(search)),
        note(
            "The best trial of each row by the mean validation score of its seeds, with Student's"
            f" 95 % interval. Each trial has the seeds {seeds}; settings are drawn by the sampler"
            f" {search['sampler']}.{shorter} A best score of many trials is too high, so compare"
            " the best settings with new seeds. They are:"
        ),
        *(note(f"{row}: {settings}") for row, settings in _best_settings(search).items()),
    ]
    trials = [picture(search_plots.draw_history(search))]
    importance = []
    if any(entry["importance"] for entry in search["methods"].values()):
        importance = [
            picture(search_plots.draw_importance(search)),
            note("How much each field matters for a trial to be among the best, by PED-ANOVA."),
        ]
    return [Section("", best), Section("Trials", trials), Section("Fields", importance)]


def _headers(search: Mapping[str, Any]) -> tuple[str, ...]:
    return ("", f"validation {search['metric']}", *_HEADERS)


def _best_scores(search: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the rows of a table with the best score of each row."""
    rows = []
    for row, entry in search["methods"].items():
        best = entry["best"]
        half = "" if best["interval"] is None else f" ± {percent(best['interval'])}"
        states = [trial["state"] for trial in entry["trials"]]
        counts = (len(states), states.count(DIVERGED), states.count(PRUNED))
        rows.append((row, percent(best["mean"]) + half, *map(str, counts)))
    return rows


def _best_settings(search: Mapping[str, Any]) -> dict[str, str]:
    """Returns the best settings of each row in words."""
    return {
        row: ", ".join(f"{field} {_short(x)}" for field, x in entry["best"]["settings"].items())
        for row, entry in search["methods"].items()
    }


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
