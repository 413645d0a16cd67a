"""Scores, table and notes of a comparison of methods."""

from collections.abc import Collection, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from akd_jax.metrics import generation
from akd_jax.runs import STUDENT
from akd_jax.types import Task
from experiments import score_matrix, statistics

_OF_CLASSES = (
    "agreement: share of the test examples to which student and teacher assign the same class. ECE:"
    " expected calibration error with 15 bins."
)
# What the columns of generated texts are, by the main metric.
_PARTS = {
    "bleu": "Texts are decoded greedily. chrf: chrF of the same texts. 9-15 words: BLEU of the"
    " sources with so many words, and so on. BLEU is sacreBLEU's, {bleu}; chrF too, {chrf}.",
    "rouge1": "Texts are decoded greedily. rouge2, rouge_l: ROUGE-2 and ROUGE-L of the same texts.",
    "score": "Texts are decoded greedily. test: the mean over the tasks of the last model's scores."
    " exact_match: the share of texts that equal the answer. after learning: the mean score of each"
    " task right after it was learned. teachers: the mean score of each teacher on its own task,"
    " which must not be below it. forgetting: the mean over the tasks before the last one of the"
    " largest score so far minus the last one. malformed: the share of the generated examples of"
    " earlier tasks that could not be read.",
}


def summarize_runs(results: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Returns one method's scores and training times over its seeds.

    Args:
      results: the contents of results.json of each run.
      metric: the main metric of the task, for the additional test splits.
    """
    seconds = [sum(stage["seconds"] for stage in result["stages"]) for result in results]
    # The time to store outputs of teachers, and to make the examples of stages.
    cache_seconds = [
        sum(cache["seconds"] for cache in result.get("teacher_cache", {}).values())
        + sum(stage.get("data_seconds", 0.0) for stage in result["stages"])
        for result in results
    ]
    return {
        "n": len(results),
        **{
            score: _summary([result[STUDENT][score] for result in results])
            for score in ("validation", "test", "test_last")
        },
        "other_tests": {
            split: _summary([result[STUDENT]["metrics"][split][metric] for result in results])
            for split in results[0][STUDENT]["metrics"]
            if split != "test"
        },
        "seconds": round(mean(seconds), 2),
        # The first run stores the logits, and the others read them.
        "teacher_seconds": round(max(cache_seconds), 2),
    }


def score_predictions(
    logits: Sequence[np.ndarray],
    references: Mapping[str, Sequence[np.ndarray]],
    labels: np.ndarray,
    task: Task,
    teacher_logits: np.ndarray | None,
) -> dict[str, Any]:
    """Returns the statistics of one method's predictions on the test split of N examples.

    Args:
      logits: [N, C] of each of the method's students.
      references: the same for the methods to compare with, by name.
      labels: [N].
      task: the task, whose metric is compared.
      teacher_logits: [N, C], or None if no method has a teacher.

    Returns:
      'calibration_error' and 'agreement' with the teacher, of classes only; 'against', which maps
      each reference to the confidence interval of the difference; and, if the metric is Pearson's
      correlation, 'williams', which maps each reference to the p value of each seed.
    """
    scores: dict[str, Any] = {}
    if not task.regression:
        scores["calibration_error"] = _summary(
            [statistics.expected_calibration_error(student, labels) for student in logits]
        )
    if teacher_logits is not None and not task.regression:
        scores["agreement"] = _summary(
            [statistics.agreement(student, teacher_logits) for student in logits]
        )
    scores["against"] = {
        name: list(
            statistics.paired_bootstrap(
                statistics.difference(logits, reference, labels, task),
                seeds=len(logits),
                examples=len(labels),
            )
        )
        for name, reference in references.items()
    }
    if task.metric == "pearson":
        scores["williams"] = {
            name: [
                statistics.williams(one[:, 0], other[:, 0], labels)[1]
                for one, other in zip(logits, reference, strict=True)
            ]
            for name, reference in references.items()
        }
    return scores


def score_streams(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the statistics of streams of tasks, see `score_matrix.scores`.

    Args:
      results: the contents of results.json of each run.
    """
    scores = [score_matrix.scores(result) for result in results]
    return {name: _summary([of_seed[name] for of_seed in scores]) for name in scores[0]}


def score_texts(
    texts: Sequence[Sequence[str]],
    others: Mapping[str, Sequence[Sequence[str]]],
    sources: Sequence[str],
    references: Sequence[str],
    task: Task,
    groups: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the statistics of the texts that one method's students generate for N sources.

    Args:
      texts: N texts of each of the method's students.
      others: the same for the methods to compare with, by name.
      sources: N texts.
      references: N texts, the right ones.
      task: the task, whose metric is compared.
      groups: the group of each source, if the metric is a mean over groups.

    Returns:
      'against', which maps each other method to the confidence interval of the difference; and
      'parts': chrF, and BLEU of the sources of several lengths; or ROUGE-2 and ROUGE-L; or the
      share of exact matches.
    """
    against = {
        name: list(
            statistics.paired_bootstrap(
                statistics.text_difference(texts, other, references, task, groups),
                seeds=len(texts),
                examples=len(references),
            )
        )
        for name, other in others.items()
    }
    if task.metric != "bleu":
        names = ("exact_match",) if task.group_metrics else ("rouge2", "rouge_l")
        values = [generation.scores(student, references, names) for student in texts]
        return {"against": against, "parts": {x: _summary([v[x] for v in values]) for x in names}}
    parts = {"chrf": _summary([generation.chrf(student, references) for student in texts])}
    by_length = [
        generation.bleu_by_source_length(student, references, sources) for student in texts
    ]
    for name, part in by_length[0].items():
        if part.rows:
            parts[f"{name} words"] = _summary([lengths[name].bleu for lengths in by_length])
    return {"against": against, "parts": parts}


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
    headers = ["", "test", *splits, "last step", *(f"vs {name}" for name in references)]
    headers += [f"p vs {name}" for name in tested]
    parts = list(next(iter(entries.values())).get("parts", ()))
    headers += [*(parts or ["agreement", "ECE"]), "n", "s", "teacher s"]
    blank = [""] * (len(headers) - 2)
    rows = [
        [f"({name})", _percent({"mean": teacher["test"], "std": None}), *blank]
        for name, teacher in teachers.items()
        if teacher["test"] is not None  # Networks that do not predict the labels have no scores.
    ]
    for method, entry in entries.items():
        intervals = [
            " to ".join(f"{100 * end:+.2f}" for end in entry["against"].get(name, ()))
            for name in references
        ]
        rows.append(
            [
                method,
                _percent(entry["test"]),
                *(_percent(entry["other_tests"][split]) for split in splits),
                _percent(entry["test_last"]),
                *intervals,
                *(_largest(entry["williams"].get(name, ())) for name in tested),
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
) -> list[str]:
    """Returns sentences that explain the columns of the table.

    Args:
      updates: number of updates of each method's students.
      seeds: number of students of each method.
      examples: number of test examples.
      task: the task, whose metric is the score.
      teachers: 'test' score and training 'seconds' of each teacher, by name.
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


def _describe_parts(metric: str) -> str:
    """Returns what the columns before the last three are."""
    if metric not in _PARTS:
        return _OF_CLASSES
    if metric != "bleu":
        return _PARTS[metric]
    signatures = {"bleu": generation.bleu_signature(), "chrf": generation.chrf_signature()}
    return _PARTS[metric].format(**signatures)


def _summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Returns mean and standard deviation; both are None if a score is, since it was not finite."""
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return {"mean": None, "std": None, "values": list(values)}
    deviation = stdev(finite) if len(finite) > 1 else None
    return {"mean": mean(finite), "std": deviation, "values": finite}


def _of_seeds(seeds: int) -> str:
    return f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"


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
