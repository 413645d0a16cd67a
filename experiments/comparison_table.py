"""The table of a comparison of methods, and the notes below it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from akd_jax.metrics import generation
from akd_jax.types import Task

_OF_CLASSES = (
    "agreement: share of the test examples to which student and teacher assign the same class. ECE:"
    " expected calibration error with 15 bins."
)
# What the columns of generated texts are, by the main metric.
_PARTS = {
    "bleu": "chrf: chrF of the same texts. chrf vs: the same interval for chrF."
    " 9-15 words: BLEU of the sources with so many words, and so on. BLEU is sacreBLEU's, {bleu};"
    " chrF too, {chrf}.",
    "rouge1": "rouge2, rouge_l: ROUGE-2 and ROUGE-L of the same texts.",
    "score": "test: the mean over the tasks of the last model's scores."
    " exact_match: the share of texts that equal the answer. after learning: the mean score of each"
    " task right after it was learned. teachers: the mean score of each teacher on its own task,"
    " which must not be below it. forgetting: the mean over the tasks before the last one of the"
    " largest score so far minus the last one. malformed: the share of the generated examples of"
    " earlier tasks that could not be read.",
}


def table(
    entries: Mapping[str, Any],
    references: Sequence[str],
    teachers: Mapping[str, Any],
    diverged: Collection[str],
) -> dict[str, Any]:
    """Returns the headers and rows of the table as text, with all scores in percent.

    Args:
      entries: the scores of each method, by name.
      references: the methods that the others are compared with.
      teachers: 'test' score and training 'seconds' of each teacher, by name.
      diverged: the names of the methods that diverged.
    """
    splits = list(next(iter(entries.values()))["other_tests"])
    tested = references if any("williams" in entry for entry in entries.values()) else ()
    of_chrf = references if any("chrf_against" in entry for entry in entries.values()) else ()
    headers = ["", "test", *splits, "last step", *(f"vs {name}" for name in references)]
    headers += [f"p vs {name}" for name in tested]
    headers += [f"chrf vs {name}" for name in of_chrf]
    parts = list(next(iter(entries.values())).get("parts", ()))
    headers += [*(parts or ["agreement", "ECE"]), "n", "s", "teacher s"]
    blank = [""] * (len(headers) - 2)
    rows = [
        [f"({name})", _percent({"mean": teacher["test"], "std": None}), *blank]
        for name, teacher in teachers.items()
        if teacher["test"] is not None  # Networks that do not predict the labels have no scores.
    ]
    for method, entry in entries.items():
        rows.append(
            [
                method,
                _percent(entry["test"]),
                *(_percent(entry["other_tests"][split]) for split in splits),
                _percent(entry["test_last"]),
                *(_interval(entry["against"], name) for name in references),
                *(_largest(entry["williams"].get(name, ())) for name in tested),
                *(_interval(entry["chrf_against"], name) for name in of_chrf),
                *(_percent(entry["parts"][part]) for part in parts),
                *(
                    _percent(entry[score]) if score in entry else ""
                    for score in (() if parts else ("agreement", "calibration_error"))
                ),
                str(entry["n"]),
                f"{entry['seconds']:.1f}",
                f"{entry['teacher_seconds']:.1f}",
            ]
        )
    rows += [[method, "diverged", *blank] for method in diverged]
    return {"headers": headers, "rows": rows}


def notes(
    updates: Mapping[str, int],
    seeds: int,
    examples: int,
    task: Task,
    teachers: Mapping[str, Any],
    beams: int = 1,
) -> list[str]:
    """Returns sentences that explain the columns of the table.

    Args:
      updates: number of updates of each method's students.
      seeds: number of students of each method.
      examples: number of test examples.
      task: the task, whose metric is the score.
      teachers: 'test' score and training 'seconds' of each teacher, by name.
      beams: the number of beams of the test texts, if the outputs are texts.
    """
    least, most = min(updates.values()), max(updates.values())
    count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    sentences = [
        f"Scores are in percent: {_of_seeds(seeds)}, on {examples:,} test examples. Every student"
        f" was trained for {count} updates.",
        f"test: {task.metric} of the checkpoint with the best validation score. last step:"
        f" {task.metric} of the last checkpoint."
        if not task.group_metrics
        else "Rows make equal numbers of passes over the examples of each task, and not of updates:"
        " rows with whole texts, replay or one task after another make more of them. The last"
        " epoch of each task counts.",
        "vs: 95 % confidence interval of the difference to that method, from a paired bootstrap"
        " over seeds and test examples. If an interval contains 0, the difference is not"
        " significant. With few seeds, an interval that barely excludes 0 is weak evidence.",
        *([_describe_decoding(beams)] if task.target else []),
        _describe_parts(task.metric),
        "n: number of seeds. s: mean training time of a student in seconds. teacher s: time in"
        " seconds to compute and store the teacher's outputs, once for all students. It is 0 if"
        " nothing is stored: then s includes the teacher.",
    ]
    if most > 1.1 * least:
        listed = ", ".join(f"{method} {number:,}" for method, number in updates.items())
        sentences.insert(1, f"Rows with more updates can win by them alone. Updates: {listed}.")
    if task.metric == "pearson":
        sentences.append(
            "p vs: the largest p value over the seeds of Williams' test, two-sided, of the"
            " difference of the two correlations on the test examples."
        )
    if teachers:
        times = ", ".join(f"{name} {teacher['seconds']} s" for name, teacher in teachers.items())
        sentences.append(f"Training time of the shared teachers: {times}.")
    return sentences


def _describe_decoding(beams: int) -> str:
    if beams == 1:
        return "Texts are decoded greedily."
    return (
        f"The texts of test, of vs and of the columns of scores after it are decoded with {beams}"
        " beams. Those of last step, of the teachers, of other test splits and of earlier tasks are"
        " decoded greedily."
    )


def _describe_parts(metric: str) -> str:
    """Returns what the columns before the last three are."""
    if metric not in _PARTS:
        return _OF_CLASSES
    if metric != "bleu":
        return _PARTS[metric]
    signatures = {"bleu": generation.bleu_signature(), "chrf": generation.chrf_signature()}
    return _PARTS[metric].format(**signatures)


def _of_seeds(seeds: int) -> str:
    return f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"


def _interval(against: Mapping[str, Sequence[float]], name: str) -> str:
    """Returns the interval of the difference to a method as text; empty if there is none."""
    return " to ".join(f"{100 * end:+.2f}" for end in against.get(name, ()))


def _largest(p_values: Sequence[float]) -> str:
    """Returns the largest p value as text; empty if there is none."""
    if not p_values:
        return ""
    return f"{max(p_values):.3f}" if max(p_values) >= 0.001 else "< 0.001"


def _percent(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "-"
    average = f"{100 * score['mean']:.2f}"
    return average if score["std"] is None else f"{average} ± {100 * score['std']:.2f}"
