"""The scores of a run: the evaluation of a stage, and the scores of a finished model."""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from akd_jax import metrics
from akd_jax.host.files import Path
from akd_jax.models.network import Model, Network
from akd_jax.runs import predictions
from akd_jax.runs.evaluation import Evaluator
from akd_jax.runs.setup import Plan
from akd_jax.training.evaluate import finite_scores
from akd_jax.training.loop import StageResult
from akd_jax.training.stage import Evaluate, Select, Stage, StageContext


def stage_select(plan: Plan, stage: Stage) -> Select:
    """Returns the score that selects the best student of a stage, and 'max', 'min' or 'last'."""
    return stage.select or (plan.dataset.task.metric, "max")


def select_on(plan: Plan, stage: Stage) -> str:
    """Returns what selects the best student of a stage, for the records."""
    score, mode = stage_select(plan, stage)
    return "last epoch" if mode == "last" else f"validation {score}"


def stage_evaluation(
    stage: Stage, context: StageContext, network: Network, evaluator: Evaluator
) -> Evaluate:
    """Returns the evaluation of a stage that trains a network."""
    if stage.evaluate is not None:
        return stage.evaluate(context)
    return evaluator.on("validation", network=network)


def test_scores(
    plan: Plan, model: Model, evaluator: Evaluator, label: str, *, folder: Path | None = None
) -> dict[str, Any]:
    """Evaluates a model on the test split and on all further splits of the data set.

    Args:
      plan: the plan of the run.
      model: the model.
      evaluator: evaluates it.
      label: the name of the model for warnings.
      folder: the folder of the run, for the predictions; None to write none.

    Returns:
      'test': the main metric on the test split. 'metrics': all metrics by split.
    """
    by_split, predicted = evaluator.on_tests(model)
    if folder is not None:
        predictions.save(folder, predicted)
    scores = {
        split: finite_scores(of_split, f"{label}, {split}") for split, of_split in by_split.items()
    }
    return {"test": scores["test"][plan.dataset.task.metric], "metrics": scores}


def split_scores(
    plan: Plan, model: Model, evaluator: Evaluator, splits: Sequence[str], label: str
) -> dict[str, float | None]:
    """Returns the main metric of a model on each of some splits."""
    return {
        split: finite_scores(evaluator.on(split)(model, {}), f"{label}, {split}")[
            plan.dataset.task.metric
        ]
        for split in splits
    }


def compare_with_teachers(
    stage: Stage, summary: Mapping[str, Any], teachers: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the scores of a stage's teachers on its test splits; logs those that are too low.

    Args:
      stage: the stage.
      summary: its entry in results.json.
      teachers: the content of each teacher's results.json by name.

    Returns:
      'teacher_tests', the scores by split; {} if no teacher was scored on the splits of the stage.
    """
    own = summary.get("tests", {})
    scores = {
        split: score
        for name in stage.teachers
        for of_teacher in teachers.get(name, {}).get("stages", ())
        for split, score in of_teacher.get("tests", {}).items()
        if split in own
    }
    for split, score in scores.items():
        if None not in (score, own[split]) and score < own[split]:
            logging.warning(
                "stage %s: the student reaches %.3f on %s, more than its teacher with %.3f, so that"
                " the teacher can do harm; train the teacher for more epochs",
                stage.name,
                own[split],
                split,
                score,
            )
    return {"teacher_tests": scores} if scores else {}


def warn_if_no_better_than_constant(
    plan: Plan, stage: Stage, result: StageResult, label: str
) -> None:
    """Logs a warning if the last student scores no better than a constant predictor.

    There is no warning for a score that is not a metric of the task or that no constant can reach.
    """
    metric, mode = stage_select(plan, stage)
    score = result.progress.last_validation
    if stage.evaluate is not None or mode != "max" or score is None:
        return
    labels = plan.dataset.splits["validation"].labels
    constant = metrics.constant_predictor_score(metric, labels)
    if constant is not None and score <= constant:
        logging.warning(
            "%s: validation %s %.3f is no better than a constant predictor, which reaches up"
            " to %.3f; try another learning rate (now %g) or more epochs (now %d)",
            label,
            metric,
            score,
            constant,
            stage.optimizer.learning_rate,
            stage.epochs,
        )
