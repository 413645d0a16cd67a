"""Statistics of a comparison of methods: of their runs, predictions and texts."""

import functools
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from akd_jax.metrics import answers, generation
from akd_jax.runs import STUDENT
from akd_jax.types import Task
from experiments import score_matrix, statistics


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
    """Returns the statistics of streams of tasks.

    Args:
      results: the contents of results.json of each run.

    Returns:
      'matrices', which has the scores of each run as `score_matrix.read` returns them; and 'parts',
      the statistics of the scores that `score_matrix.scores` returns.
    """
    scores = [score_matrix.scores(result) for result in results]
    return {
        "matrices": [score_matrix.read(result) for result in results],
        "parts": {name: _summary([of_seed[name] for of_seed in scores]) for name in scores[0]},
    }


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
      'test', the score; 'against', which maps each other method to the confidence interval of the
      difference; with BLEU also 'chrf_against', the same of chrF; and 'parts': chrF, and BLEU of
      the sources of several lengths; or ROUGE-2 and ROUGE-L; or the share of exact matches.
    """

    def intervals(difference: Callable[..., Any]) -> dict[str, list[float]]:
        return {
            name: list(
                statistics.paired_bootstrap(
                    difference(texts, other), seeds=len(texts), examples=len(references)
                )
            )
            for name, other in others.items()
        }

    def score(student: Sequence[str]) -> float:
        if task.group_metrics:
            return answers.group_score(student, references, groups, dict(task.group_metrics))
        return generation.TEXT_METRICS[task.metric](student, references)

    of_metric = functools.partial(
        statistics.text_difference, references=references, task=task, groups=groups
    )
    scores: dict[str, Any] = {
        "test": _summary([score(student) for student in texts]),
        "against": intervals(of_metric),
    }
    if task.metric != "bleu":
        names = ("exact_match",) if task.group_metrics else ("rouge2", "rouge_l")
        values = [generation.scores(student, references, names) for student in texts]
        return {**scores, "parts": {x: _summary([v[x] for v in values]) for x in names}}
    parts = {"chrf": _summary([generation.chrf(student, references) for student in texts])}
    by_length = [
        generation.bleu_by_source_length(student, references, sources) for student in texts
    ]
    for name, part in by_length[0].items():
        if part.rows:
            parts[f"{name} words"] = _summary([lengths[name].bleu for lengths in by_length])
    of_chrf = functools.partial(statistics.corpus_difference, references=references, metric="chrf")
    return {**scores, "chrf_against": intervals(of_chrf), "parts": parts}


def _summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Returns mean and standard deviation; both are None if a score is, since it was not finite."""
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return {"mean": None, "std": None, "values": list(values)}
    deviation = stdev(finite) if len(finite) > 1 else None
    return {"mean": mean(finite), "std": deviation, "values": finite}
