r"""Chooses the weight and the temperature of losses on the validation split, by one search for all.

python -m experiments.choose_weights --config=configs/logit_losses.py --variants=dkd,dist \
    --factors=0.1,0.3,1,3,10 --temperatures=1,4 --seeds=2 --workdir=DIR

The losses are variants of the configuration with the method compose. A candidate multiplies the
weights of all their terms, except that of the labels, by one of the factors. It also sets the
temperature of the terms that have one, if --temperatures is given. The best candidate has the
highest mean validation score of the task. A candidate that diverges is never the best. Give other
seeds to the students of the final comparison: --config.seed is the first one. The same command
resumes an interrupted search.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from absl import flags
from ml_collections.config_dict import ConfigDict

from akd_jax.host import processes, records
from akd_jax.host.errors import DivergedError, InputError
from akd_jax.host.files import Path, absolute
from akd_jax.methods.compose import change_terms
from akd_jax.methods.terms import TERMS
from akd_jax.runs import STUDENT, make_plan
from experiments import cli, options
from experiments.grid import changed, row_config, run_grid
from experiments.tables import markdown_table, percent

_CONFIG = options.config_flag()
_VARIANTS = flags.DEFINE_list("variants", None, "Names of the configuration's variants.")
_FACTORS = flags.DEFINE_list(
    "factors", ["0.1", "0.3", "1", "3", "10"], "Factors of the weights, greater than 0."
)
_TEMPERATURES = flags.DEFINE_list(
    "temperatures", [], "Temperatures of the losses that have one; empty to keep theirs."
)
_SEEDS = options.seeds_flag()
_WORKDIR = options.workdir_flag()

RESULT = "weights.json"


def choose_weights(
    config: ConfigDict,
    variants: Sequence[str],
    factors: Sequence[float],
    temperatures: Sequence[float],
    seeds: int,
    workdir: Path,
) -> dict[str, Any]:
    """Trains all candidates and chooses one for each variant.

    Args:
      config: the configuration, with the variants.
      variants: the names of the variants.
      factors: the factors of the weights.
      temperatures: the temperatures of losses that have one; empty to keep theirs.
      seeds: number of students of each candidate.
      workdir: the folder for the teachers and the runs.

    Returns:
      The contents of weights.json: for each variant its best 'factor' and 'temperature', which is
      None for losses that have none, and 'validation', the mean score of each candidate, which is
      None if a student diverged.

    Raises:
      InputError: an argument is wrong. Nothing is trained.
      DivergedError: all candidates of a variant diverged.
    """
    known = config.variants.to_dict()
    if not variants or not factors or not all(0 < x < math.inf for x in [*factors, *temperatures]):
        raise InputError(
            "--variants, --factors, --temperatures: expected at least one variant and one factor,"
            f" and numbers above 0, got {', '.join(variants) or 'none'};"
            f" {', '.join(map(str, factors)) or 'none'}; {', '.join(map(str, temperatures))}"
        )
    choices: dict[str, dict[str, tuple[float, float | None]]] = {}
    candidates: dict[str, Any] = {}
    for variant in variants:
        terms = _terms(known, variant)
        has_temperature = any("temperature" in TERMS[term].options() for term in terms)
        for choice in itertools.product(
            factors, temperatures if has_temperature and temperatures else [None]
        ):
            name = _name(variant, *choice)
            choices.setdefault(variant, {})[name] = choice
            candidates[name] = {**known[variant], "compose": change_terms(terms, *choice)}
    config = changed(config)
    config.variants = ConfigDict(candidates)
    plans = {name: make_plan(row_config(config, name)) for name in candidates}
    workdir = absolute(workdir)
    with records.lock_workdir(workdir, "search", {}, subfolders=list(candidates)):
        grid = run_grid(config, plans, seeds, workdir)
        scores = {
            name: mean(result[STUDENT]["validation"] for result in results)
            for name, results in grid.results.items()
            if all(result[STUDENT]["validation"] is not None for result in results)
        }
        chosen = {}
        for variant, named in choices.items():
            finite = [name for name in named if name in scores]
            if not finite:
                raise DivergedError(
                    f"{variant}: expected a candidate that does not diverge, got none of"
                    f" {', '.join(named)}; add smaller --factors"
                )
            factor, temperature = named[max(finite, key=lambda name: scores[name])]
            chosen[variant] = {
                "factor": factor,
                "temperature": temperature,
                "validation": {name: scores.get(name) for name in named},
            }
        processes.on_primary(lambda: records.write(workdir / RESULT, chosen))
    return chosen


def _terms(variants: Mapping[str, Any], variant: str) -> dict[str, dict[str, Any]]:
    """Returns the terms of a variant.

    Raises:
      InputError: there is no such variant, or its method is not compose.
    """
    fields = variants.get(variant, {})
    if fields.get("method") != "compose":
        names = [name for name, x in variants.items() if x.get("method") == "compose"]
        raise InputError(
            "--variants: expected variants with the method compose among"
            f" {', '.join(names) or 'none'}, got {variant!r}; correct it"
        )
    return fields["compose"]


def _name(variant: str, factor: float, temperature: float | None) -> str:
    """Returns the name of a candidate; a name in a ConfigDict cannot contain a dot."""
    suffix = "" if temperature is None else f"_T{temperature:g}"
    return f"{variant}_x{factor:g}{suffix}".replace(".", "_")


def _numbers(flag: flags.FlagHolder) -> list[float]:
    try:
        return [float(number) for number in flag.value]
    except ValueError:
        raise InputError(
            f"--{flag.name}: expected numbers, got {','.join(flag.value)}; correct them"
        ) from None


def main() -> None:
    """Chooses the weights and prints the validation scores of all candidates."""
    chosen = choose_weights(
        _CONFIG.value,
        _VARIANTS.value or [],
        _numbers(_FACTORS),
        _numbers(_TEMPERATURES),
        _SEEDS.value,
        options.path(_WORKDIR),
    )
    rows = [
        (
            variant,
            f"{entry['factor']:g}",
            f"{entry['temperature'] or '':}",
            name,
            "diverged" if score is None else percent(score),
        )
        for variant, entry in chosen.items()
        for name, score in entry["validation"].items()
    ]
    headers = ("", "chosen factor", "chosen temperature", "candidate", "validation")
    cli.print_on_primary(f"\n{markdown_table(headers, rows)}")


if __name__ == "__main__":
    cli.launch(main, required=["config", "variants", "workdir"], several_processes=True)
