"""Trains one student, and its teacher where the method reads one.

python -m experiments.train --config=configs/digits.py:annealing_kd --workdir=DIR

Run again with the same flags it goes on from its last checkpoint.
"""

from pathlib import Path
from typing import Any

from akd_jax import records
from akd_jax.run import run
from experiments import cli, pages

_CONFIG = cli.config_flag()
_WORKDIR = cli.workdir_flag()


def main() -> None:
    """Runs what the flags say and prints the scores."""
    workdir = Path(_WORKDIR.value)
    finished = records.read(workdir / records.RESULTS) is not None
    results = run(_CONFIG.value, workdir)
    if finished:
        print(f"{workdir} holds this run already, finished; nothing was trained.")
    print(scores(results))
    if "truncated" in results:
        print(texts(results))
    print(f"Report: {pages.write(workdir)}")


def texts(results: dict[str, Any]) -> str:
    """What the batches of texts held beside them."""
    padding = ", ".join(f"{stage['name']} {stage['padding']:.1%}" for stage in results["stages"])
    cut = ", ".join(f"{split} {count:,}" for split, count in results["truncated"].items())
    return f"Padding among the tokens: {padding}. Texts that were cut: {cut}."


def scores(results: dict[str, Any]) -> str:
    """The scores of results.json as a table."""
    rows = []
    for name in ("teacher", "student"):
        found = results[name]
        if found:
            last = f"{found['test_last']:.2%}" if "test_last" in found else "-"
            rows.append((name, f"{found['validation']:.2%}", f"{found['test']:.2%}", last))
    return cli.table(("", "validation", "test", "test, last step"), rows)


if __name__ == "__main__":
    cli.launch(main, required=["config", "workdir"])
