"""Evaluates several teachers, one by one and together, and weighs them on the validation split.

python -m experiments.weigh_teachers --workdir=DIR

The folder is that of a finished run of rl_kd or multi_teacher, such as a row's run in a comparison.
The table has the accuracy of each teacher on all splits, of their mean, and the share of examples
on which some teacher is right, which no choice of teachers can exceed. With cross-fitted teachers,
the table has means over the folds.

The commands below the table set the weights of a fixed mean. 'mixture' maximises the likelihood of
the validation labels under the weighted mean of the probabilities. 'logistic' maximises it under
softmax(sum_k w_k log p_k), which is a logistic regression on the teachers' log-probabilities.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from akd_jax import losses, runs
from akd_jax.host.errors import InputError
from akd_jax.methods import multi_teacher, rl_kd
from akd_jax.runs import Plan
from akd_jax.training.evaluate import Predictor
from experiments import cli, options
from experiments.tables import markdown_table, percent

_WORKDIR = options.workdir_flag()

_UPDATES = 1000  # Of the mixture's weights, far more than they need.
_MEAN, _ANY = "(mean of all)", "(any is right)"


def mixture_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the weights w, with the sum 1, that maximise sum_n log sum_k w_k p_nk[y_n].

    Expectation maximisation; the problem is convex.

    Args:
      probabilities: the teachers' class probabilities, [K, N, C].
      labels: class indices, [N].
    """
    of_label = probabilities[:, np.arange(len(labels)), labels]
    weights = np.full(len(probabilities), 1 / len(probabilities))
    for _ in range(_UPDATES):
        shares = weights[:, None] * of_label
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    return weights


def logistic_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the weights w >= 0 that maximise sum_n log softmax(sum_k w_k log p_nk)[y_n].

    Args:
      probabilities: the teachers' class probabilities, [K, N, C].
      labels: class indices, [N].
    """
    log_p = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    rows = np.arange(len(labels))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_q = log_softmax(np.einsum("k,knc->nc", weights, log_p), axis=-1)
        expected = np.einsum("nc,knc->kn", np.exp(log_q), log_p)
        return -log_q[rows, labels].mean(), (expected - log_p[:, rows, labels]).mean(axis=1)

    count = len(probabilities)
    start, bounds = np.full(count, 1 / count), [(0, None)] * count
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x


def accuracies(probabilities: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Returns the accuracy of each teacher, of their mean, and of the best choice of a teacher.

    Args:
      probabilities: the class probabilities [F, N, C] of each teacher in F folds, by name.
      labels: class indices, [N].
    """
    right = {name: p.argmax(axis=-1) == labels for name, p in probabilities.items()}
    mean = np.mean(list(probabilities.values()), axis=0)
    return {
        **{name: float(x.mean()) for name, x in right.items()},
        _MEAN: float((mean.argmax(axis=-1) == labels).mean()),
        _ANY: float(np.any(list(right.values()), axis=0).mean()),
    }


def teacher_names(plan: Plan) -> dict[str, list[str]]:
    """Returns the networks that stand for each teacher of a run, by the name of the teacher.

    Raises:
      InputError: the method has no named teachers, or the task is a regression.
    """
    if plan.dataset.task.regression:
        raise InputError(
            "--workdir: expected a run of a task with classes, got a regression; give another one"
        )
    if plan.settings.method == "multi_teacher":
        return {name: [name] for name in plan.settings.section(multi_teacher.Config).teachers}
    if plan.settings.method != "rl_kd":
        raise InputError(
            "--workdir: expected a run of rl_kd or multi_teacher, got one of"
            f" {plan.settings.method}; give another folder"
        )
    settings = plan.settings.section(rl_kd.Config)
    return {name: losses.fold_names(name, settings.folds) or [name] for name in settings.teachers}


def main() -> None:
    """Prints the table and the weights."""
    plan, models = runs.load(options.path(_WORKDIR))
    names, predictor = teacher_names(plan), Predictor()

    def probabilities(split: str) -> dict[str, np.ndarray]:
        """Returns the class probabilities [F, N, C] of each teacher in F folds."""
        batches = plan.batches(split)
        logits = {
            name: [np.float64(predictor(models[x], batches).logits) for x in networks]
            for name, networks in names.items()
        }
        return {name: np.exp(log_softmax(x, axis=-1)) for name, x in logits.items()}

    validation, targets = probabilities("validation"), plan.dataset.splits["validation"].labels
    columns, parts = {"validation": accuracies(validation, targets)}, plan.dataset.test_parts
    of_test: dict[str, np.ndarray] = {}
    for split in plan.dataset.test_splits:
        if split in parts:  # Of the test split, which comes first.
            of_split = {name: p[:, parts[split]] for name, p in of_test.items()}
        else:
            of_split = probabilities(split)
        if split == "test":
            of_test = of_split
        columns[split] = accuracies(of_split, plan.dataset.splits[split].labels)
    rows = [
        (name, *(percent(column[name]) for column in columns.values()))
        for name in (*names, _MEAN, _ANY)
    ]
    cli.print_on_primary(markdown_table(("teacher", *columns), rows))
    means = np.stack([p.mean(axis=0) for p in validation.values()])
    for kind, weigh in (("mixture", mixture_weights), ("logistic", logistic_weights)):
        flags = " ".join(
            f"--config.{plan.settings.method}.weights.{name}={weight:.3f}"
            for name, weight in zip(names, weigh(means, targets), strict=True)
        )
        cli.print_on_primary(f"\n{kind}: {flags}")


if __name__ == "__main__":
    cli.launch(main, required=["workdir"], several_processes=True)
