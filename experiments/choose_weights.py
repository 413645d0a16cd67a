r"""Chooses the weight of each loss on the validation split, by the same search for all losses.

python -m experiments.choose_weights --config=configs/language_names.py --variants=dkd,dist \
    --factors=0.1,0.3,1,3,10 --seeds=2 --workdir=DIR

The losses are variants of the configuration with the method compose. A candidate multiplies the
weights of all their terms, except that of the labels, by one of the factors. The best candidate
has the highest mean validation score of the task. Give other seeds to the students of the final
comparison: --config.seed is the first one. The same command resumes an interrupted search.
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from absl import flags
from ml_collections.config_dict import ConfigDict

from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute
from akd_jax.methods.compose import scale_weights
from akd_jax.runs import STUDENT, make_plan
from experiments import cli, options
from experiments.grid import changed, row_config, run_grid
from experiments.tables import markdown_table, percent

_CONFIG = options.config_flag()
_VARIANTS = flags.DEFINE_list("variants", None, "Names of the configuration's variants.")
_FACTORS = flags.DEFINE_list(
    "factors", ["0.1", "0.3", "1", "3", "10"], "Factors of the weights, greater than 0."
)
_SEEDS = options.seeds_flag()
_WORKDIR = options.workdir_flag()

RESULT = "weights.json"


def choose_weights(
    config: ConfigDict,
    variants: Sequence[str],
    factors: Sequence[float],
    seeds: int,
    workdir: Path,
) -> dict[str, Any]:
    """Trains all candidates and chooses a factor for each variant.

    Args:
      config: the configuration, with the variants.
      variants: the names of the variants whose weights are chosen.
      factors: the factors of the weights.
      seeds: number of students of each candidate.
      workdir: the folder for the teachers and the runs.

    Returns:
      The contents of weights.json: for each variant its best 'factor', and 'validation', the mean
      scores by factor.

    Raises:
      InputError: an argument is wrong. Nothing is trained.
    """
    known = config.variants.to_dict()
    # A name in a ConfigDict cannot contain a dot.
    names = {
        variant: {factor: f"{variant}_x{factor:g}".replace(".", "_") for factor in factors}
        for variant in variants
    }
    candidates = {
        name: scaled(known, variant, factor)
        for variant, named in names.items()
        for factor, name in named.items()
    }
    if not candidates or min(factors) <= 0:
        raise InputError(
            "--variants, --factors: expected at least one variant and factors above 0, got"
            f" {', '.join(variants) or 'none'} and {', '.join(map(str, factors)) or 'none'}"
        )
    config = changed(config)
    config.variants = ConfigDict(candidates)
    plans = {name: make_plan(row_config(config, name)) for name in candidates}
    workdir = absolute(workdir)
    with records.lock_workdir(workdir, "search", {}, subfolders=list(candidates)):
        grid = run_grid(config, plans, seeds, workdir)
        scores = {
            name: mean(result[STUDENT]["validation"] for result in results)
            for name, results in grid.results.items()
        }
        chosen = {}
        for variant, named in names.items():
            validation = {factor: scores[name] for factor, name in named.items()}
            best = max(validation, key=lambda factor: validation[factor])
            chosen[variant] = {
                "factor": best,
                "validation": {f"{factor:g}": score for factor, score in validation.items()},
            }
        processes.on_primary(lambda: records.write(workdir / RESULT, chosen))
    return chosen


def scaled(variants: Mapping[str, Any], variant: str, factor: float) -> dict[str, Any]:
    """Returns a variant with the weights of its terms, except that of the labels, times a factor.

    Raises:
      InputError: there is no such variant, or its method is not compose.
    """
    fields = dict(variants.get(variant, {}))
    if fields.get("method") != "compose":
        names = [name for name, x in variants.items() if x.get("method") == "compose"]
        raise InputError(
            "--variants: expected variants with the method compose among"
            f" {', '.join(names) or 'none'}, got {variant!r}"
        )
    fields["compose"] = scale_weights(fields["compose"], factor)
    return fields


def main() -> None:
    """Chooses the weights and prints the validation scores of all candidates."""
    try:
        factors = [float(factor) for factor in _FACTORS.value]
    except ValueError:
        raise InputError(f"--factors: expected numbers, got {','.join(_FACTORS.value)}") from None
    chosen = choose_weights(
        _CONFIG.value, _VARIANTS.value or [], factors, _SEEDS.value, options.path(_WORKDIR)
    )
    rows = [
        (variant, f"{entry['factor']:g}", *map(percent, entry["validation"].values()))
        for variant, entry in chosen.items()
    ]
    headers = ("", "chosen factor", *(f"x {factor:g}" for factor in factors))
    cli.print_on_primary(f"\n{markdown_table(headers, rows)}")


if __name__ == "__main__":
    cli.launch(main, required=["config", "variants", "workdir"], several_processes=True)
