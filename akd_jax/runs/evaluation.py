"""Evaluation of the networks of a run on its splits, by the metrics of the task."""

from collections.abc import Sequence

import numpy as np

from akd_jax import data, metrics
from akd_jax.data import Examples, completions
from akd_jax.models.network import Model, Network
from akd_jax.runs.examples import keep_inputs
from akd_jax.runs.setup import Plan
from akd_jax.training.evaluate import Predictor, TaskMetrics
from akd_jax.training.stage import Evaluate
from akd_jax.training.texts import TextGenerator, Texts, TextScores, score


class Evaluator:
    """Evaluates the networks of a run; each architecture is compiled once.

    Args:
      plan: the plan of the run.
      beams: the number of beams, if the task is to generate texts; 1 decodes greedily.
      length_penalty: the exponent alpha of the length by which beams are compared.
    """

    def __init__(self, plan: Plan, *, beams: int = 1, length_penalty: float = 0.0):
        self._plan = plan
        self._predictor = Predictor()
        self._generator = None
        target, length = plan.dataset.task.target, plan.settings.dataset.max_length
        if target is not None:
            self._generator = TextGenerator(target, length, beams, length_penalty)

    def on(
        self, split: str, *, network: Network | None = None, first: int | None = None
    ) -> Evaluate:
        """Returns the evaluation of a model on a split.

        Args:
          split: the name of the split.
          network: the only network that is evaluated, so that padding is short; None for any.
          first: the number of examples from the beginning of the split that count; None for all.
        """
        plan = self._plan
        examples = plan.dataset.splits[split]
        if first is not None:
            examples = examples.take(np.arange(min(first, len(examples))))
        if network is not None:
            examples = keep_inputs(examples, [network], ())
        batches = plan.batches(examples)
        if self._generator is None:
            return TaskMetrics(self._predictor, batches, plan.dataset.task)
        expected = references(plan, split)[:first]
        of_rows = groups(plan, split)[:first]
        return TextScores(self._generator, batches, expected, plan.dataset.task, of_rows)

    def on_tests(self, model: Model) -> tuple[dict[str, dict[str, float]], np.ndarray | Texts]:
        """Evaluates a model on the test split and on the additional ones.

        The model reads the test split once, also for the splits that are parts of it.

        Returns:
          The metrics by split; and what the model predicts for the test split, logits or texts.
        """
        splits, parts = self._plan.dataset.test_splits, self._plan.dataset.test_parts
        own = {
            name: dict(self.on(name)(model, {})) for name in splits if name not in (*parts, "test")
        }
        predict = self.logits if self._generator is None else self.texts
        predicted = predict(model, "test")
        everything = np.arange(len(self._plan.dataset.splits["test"]))
        of_test = {
            name: self._scores(predicted, rows)
            for name, rows in {"test": everything, **parts}.items()
        }
        return {name: {**own, **of_test}[name] for name in splits}, predicted

    def _scores(self, predicted: np.ndarray | Texts, rows: np.ndarray) -> dict[str, float]:
        """Returns the metrics of the predictions for the test split on some of its rows."""
        task, examples = self._plan.dataset.task, self._plan.dataset.splits["test"].take(rows)
        if not isinstance(predicted, Texts):
            return metrics.scores(predicted[rows], examples.labels, task)
        expected = np.array(references(self._plan, "test"), object)[rows].tolist()
        of_rows = () if examples.groups is None else examples.groups.tolist()
        return score(predicted.take(rows), expected, task, of_rows)

    def logits(self, model: Model, split: str | Examples) -> np.ndarray:
        """Returns the logits of a model on a split or on examples, float32 [N, C]."""
        return np.asarray(self._predictor(model, self._plan.batches(split)).logits)

    def texts(self, model: Model, split: str | Examples) -> Texts:
        """Returns the texts that a model generates for a split or for examples."""
        assert self._generator is not None, "expected a task of generating texts"
        return self._generator(model, self._plan.batches(split))


def sources(plan: Plan, split: str) -> Sequence[str]:
    """Returns the sources of a split of texts to generate: all columns but the last one."""
    return completions.prompts(data.load(plan.settings.dataset).splits[split].inputs)


def references(plan: Plan, split: str) -> Sequence[str]:
    """Returns the targets of a split of pairs of texts, as they are in its file."""
    # The data set of a plan has tokens in place of texts.
    return data.load(plan.settings.dataset).splits[split].inputs[:, -1].tolist()


def groups(plan: Plan, split: str) -> Sequence[str]:
    """Returns the group of each example of a split, such as its task; () without groups."""
    names = data.load(plan.settings.dataset).splits[split].groups
    return () if names is None else names.tolist()
