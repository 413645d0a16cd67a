r"""Searches the settings of methods on the validation split, with the same budget for all of them.

python -m experiments.search --config=configs/digits.py --methods=scratch,kd,annealing_kd \
    --trials=30 --seeds=3 --workdir=DIR

A trial trains a student for each seed with settings that Optuna draws from config.search, the
ranges of each row. Its score is the mean validation score. The best trial of a row has the highest
score. A trial that diverges is never the best. --sampler=tpe draws new settings near the best ones
so far, and --prune leaves out the further seeds of a trial whose students so far are worse than the
median. With --epochs_divisor=3, students train for a third of their epochs, and with fewer
temperatures if these do not suffice for them; search.json has the settings for all epochs.

Writes search.json, search.md, report.html and two pictures: the scores of the trials in their
order, and how much each field matters. Then compare the best settings with other seeds:

python -m experiments.compare --config=configs/digits.py --methods=scratch,kd,annealing_kd \
    --search=DIR --config.seed=100 --seeds=20 --workdir=OTHER

The same command resumes an interrupted search; one with more --trials continues it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import optuna
from absl import flags
from ml_collections.config_dict import ConfigDict
from optuna.distributions import BaseDistribution
from scipy import stats

from akd_jax import runs
from akd_jax.host import processes, records
from akd_jax.host.errors import DivergedError, InputError
from akd_jax.host.files import Path, absolute
from akd_jax.runs import STUDENT, make_plan
from akd_jax.runs.teachers import FinishedTeacher
from experiments import cli, html_report, options, search_plots
from experiments.grid import (
    check_equal_updates,
    check_run_folder,
    row_config,
    share_teachers,
)
from experiments.search_report import DIVERGED, FINISHED, PRUNED, summary
from experiments.search_space import read_space
from experiments.searched import SEARCH, with_row
from experiments.short_runs import shortened
from experiments.tables import percent

_CONFIG = options.config_flag()
_METHODS = options.methods_flag()
_TRIALS = options.trials_flag()
_SAMPLER = flags.DEFINE_enum(
    "sampler", "random", ["random", "tpe"], "How the settings of a trial are drawn."
)
_PRUNE = flags.DEFINE_bool("prune", False, "Whether bad trials train fewer seeds.")
_EPOCHS_DIVISOR = flags.DEFINE_integer(
    "epochs_divisor", 1, "Divisor of the students' numbers of epochs.", lower_bound=1
)
_EQUAL_UPDATES = options.equal_updates_flag()
_SEEDS = options.seeds_flag()
_WORKDIR = options.workdir_flag()
options.define_output_flags()

_STATES = {
    FINISHED: optuna.trial.TrialState.COMPLETE,
    DIVERGED: optuna.trial.TrialState.FAIL,
    PRUNED: optuna.trial.TrialState.PRUNED,
}


@dataclasses.dataclass(frozen=True)
class _Budget:
    """What each row gets: numbers of trials and of epochs, seeds, and the way of drawing."""

    trials: int
    seeds: Sequence[int]
    sampler: str
    prune: bool
    epochs_divisor: int


def search_settings(
    config: ConfigDict,
    rows: Sequence[str],
    trials: int,
    seeds: int,
    workdir: Path,
    *,
    sampler: str = "random",
    prune: bool = False,
    epochs_divisor: int = 1,
    equal_updates: bool = True,
) -> dict[str, Any]:
    """Trains the students of all trials and chooses the best trial of each row.

    A finished run is not trained again, and the settings of a trial depend only on its number, on
    config.seed and on the scores before it. So a search resumes where it stopped, without other
    records than those of its runs.

    Args:
      config: the configuration, with the ranges of each row in `search`.
      rows: names of methods, or of variants of the configuration.
      trials: number of trials of each row.
      seeds: number of students of each trial; their seeds count up from config.seed.
      workdir: folder for the teachers, their stored outputs and the runs ROW/trial_N/seed_S/.
      sampler: 'random'; or 'tpe', Optuna's tree-structured Parzen estimator.
      prune: whether a trial ends when the mean of its students so far is below the median of the
        earlier trials after as many students. The first five trials are complete.
      epochs_divisor: divisor of the students' numbers of epochs.
      equal_updates: whether all rows must make about the same number of updates.

    Returns:
      The contents of search.json.

    Raises:
      InputError: an argument is wrong, or `workdir` holds another search. Nothing is trained.
      DivergedError: all trials of a row diverged.
    """
    if not rows or len(set(rows)) < len(rows):
        raise InputError(
            f"--methods: expected different names, got {', '.join(rows) or 'none'}; correct them"
        )
    spaces = {row: read_space(config, row) for row in rows}
    plans = {row: make_plan(shortened(row_config(config, row), epochs_divisor)) for row in rows}
    numbers = list(range(config.seed, config.seed + seeds))
    budget = _Budget(trials, numbers, sampler, prune, epochs_divisor)
    make_plan(row_config(config, rows[0], seed=numbers[-1]))
    if equal_updates:
        check_equal_updates(plans)
    workdir = absolute(workdir)
    # A search with more trials continues one with fewer.
    key = {name: x for name, x in dataclasses.asdict(budget).items() if name != "trials"}
    with records.lock_workdir(workdir, "hyperparameter search", key, subfolders=rows):
        config, teachers = share_teachers(config, plans, workdir)
        found = {
            row: _search_row(config, row, space, budget, workdir, teachers)
            for row, space in spaces.items()
        }
        metric = next(iter(plans.values())).dataset.task.metric
        result = {"metric": metric, "trials": trials, **key, "methods": found}
        processes.on_primary(lambda: records.write(workdir / SEARCH, result))
    return result


def _search_row(
    config: ConfigDict,
    row: str,
    space: Mapping[str, BaseDistribution],
    budget: _Budget,
    workdir: Path,
    teachers: Mapping[str, FinishedTeacher],
) -> dict[str, Any]:
    """Runs the trials of a row; returns its entry of search.json."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner() if budget.prune else optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", pruner=pruner)
    entries: list[dict[str, Any]] = []
    for number in range(budget.trials):
        study.sampler = _sampler(budget.sampler, config.seed + number)
        trial = study.ask(dict(space))
        # All processes draw the same settings, since they know the same scores.
        folder = f"{row}/trial_{number}"
        scores, state = _run_trial(config, row, trial, budget, workdir / folder, teachers)
        study.tell(trial, mean(scores) if state == FINISHED else None, _STATES[state])
        entries.append(
            {
                "runs": folder,
                "settings": dict(trial.params),
                "state": state,
                "validation": scores,
                "mean": mean(scores) if state == FINISHED else None,
            }
        )
        shown = percent(entries[-1]["mean"]) if state == FINISHED else state
        cli.print_on_primary(f"{folder}: validation {shown}")
    finished = [entry for entry in entries if entry["state"] == FINISHED]
    if not finished:
        raise DivergedError(
            f"{row}: expected a trial that does not diverge, got none of {budget.trials}; change"
            f" config.search.{row}"
        )
    best = max(finished, key=lambda entry: entry["mean"])
    return {
        "space": {field: _describe(x) for field, x in space.items()},
        "best": {**best, "interval": _half_interval(best["validation"])},
        "importance": _importances(study),
        "trials": entries,
    }


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _run_trial(
    config: ConfigDict,
    row: str,
    trial: optuna.Trial,
    budget: _Budget,
    folder: Path,
    teachers: Mapping[str, FinishedTeacher],
) -> tuple[list[float], str]:
    """Trains the students of a trial; returns their validation scores and the trial's state."""
    trial_config = with_row(config, row, trial.params)
    scores: list[float] = []
    for number, seed in enumerate(budget.seeds):
        run_config = shortened(row_config(trial_config, row, seed=seed), budget.epochs_divisor)
        run_folder = folder / f"seed_{seed}"
        check_run_folder(run_config, run_folder)
        try:
            result = runs.run(run_config, run_folder, loaded=teachers)
        except DivergedError:
            return scores, DIVERGED
        score = result[STUDENT]["validation"]
        if score is None:
            return scores, DIVERGED
        scores.append(score)
        trial.report(mean(scores), number)
        if number + 1 < len(budget.seeds) and trial.should_prune():
            return scores, PRUNED
    return scores, FINISHED


def _importances(study: optuna.Study) -> dict[str, float] | None:
    """Returns the share of each field in what makes a trial one of the best; None if unknown.

    The shares are those of PED-ANOVA and add up to 1. They need several trials that differ.

    Source: Watanabe et al., "PED-ANOVA", IJCAI 2023, https://arxiv.org/abs/2304.10255.

    Args:
      study: the trials of a row.
    """
    scores = {trial.value for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))}
    if len(scores) < 4:
        return None
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {field: float(share) for field, share in shares.items()}


def _describe(distribution: BaseDistribution) -> list[Any]:
    """Returns a range as the configuration has it."""
    values = vars(distribution)
    if "choices" in values:
        return ["choice", *values["choices"]]
    return ["log" if values["log"] else "linear", values["low"], values["high"]]


def _half_interval(scores: Sequence[float]) -> float | None:
    """Returns half the width of Student's 95 % interval of the mean; None for a single score."""
    if len(scores) < 2:
        return None
    return float(stats.t.ppf(0.975, len(scores) - 1) * stdev(scores) / len(scores) ** 0.5)


def main() -> None:
    """Searches, prints the best scores and settings, and writes search.md and the pictures."""
    workdir = options.path(_WORKDIR)
    search = search_settings(
        _CONFIG.value,
        _METHODS.value or [],
        _TRIALS.value,
        _SEEDS.value,
        workdir,
        sampler=_SAMPLER.value,
        prune=_PRUNE.value,
        epochs_divisor=_EPOCHS_DIVISOR.value,
        equal_updates=_EQUAL_UPDATES.value,
    )
    text = summary(search)
    cli.print_on_primary(f"\n{text}")

    def write() -> str:
        (workdir / "search.md").write_text(f"{text}\n", encoding="utf-8")
        search_plots.write(search, workdir)
        return str(html_report.write(workdir))

    cli.print_on_primary(f"Report: {processes.on_primary(write)}")
    rows = ",".join(search["methods"])
    seed = max(search["seeds"]) + 1
    command = f"compare --config=... --methods={rows} --search={workdir} --config.seed={seed}"
    cli.print_next({"compare the best settings": f"{command} --seeds=20 --workdir=DIR"})


if __name__ == "__main__":
    cli.launch(main, required=["config", "methods", "workdir"], several_processes=True)
