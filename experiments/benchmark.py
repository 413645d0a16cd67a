"""Measures the library's speed and memory against alternatives, in one suite per question.

python -m experiments.benchmark --suite=cache --output=experiments/results/cache_cpu.json

The suites are in experiments/benchmarks/. Each time is the median of paired repeats: the variants
take turns, so that a change of the machine's speed affects all of them. The launcher writes a JSON
file, and the same record as Markdown tables beside it.
"""

import os
import platform
import sys
from collections.abc import Mapping
from typing import Any

import jax
from absl import flags

from akd_jax.host import processes, records
from akd_jax.host.errors import InputError
from experiments import cli, options
from experiments.benchmarks import SUITES
from experiments.tables import markdown_table

_SUITE = flags.DEFINE_string("suite", None, f"One of {', '.join(SUITES)}.")
_CONFIG = options.config_flag()  # Read by the suites that train on a data set.
_OUTPUT = options.output_flag()
_REPEATS = flags.DEFINE_integer("repeats", 9, "Number of paired repeats.", lower_bound=1)


def environment() -> dict[str, Any]:
    """Returns the machine, the versions and the command of a measurement."""
    return {
        "devices": processes.describe_devices(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "command": "python -m experiments.benchmark " + " ".join(sys.argv[1:]),
    }


def markdown(record: Mapping[str, Any]) -> str:
    """Formats a record as Markdown: its command, its environment, its tables and its notes."""
    machine = record["machine"]
    seconds = [
        (name, f"{1000 * value:.{2 if value < 0.01 else 1}f}")
        for name, value in record["seconds"].items()
    ]
    ratios = [(name, f"{value:.2f}") for name, value in record["ratios"].items()]
    parts = [
        f"`{machine['command']}`",
        f"{machine['devices']['count']} x {machine['devices']['kind']}, {machine['cores']}"
        f" cores, Python {machine['python']}, JAX {machine['jax']}; medians of"
        f" {record['repeats']} paired repeats.",
        markdown_table(("", "ms"), seconds) if seconds else "",
        markdown_table(("", "ratio"), ratios) if ratios else "",
        markdown_table(record["table"]["headers"], record["table"]["rows"])
        if "table" in record
        else "",
        "\n".join(f"- {note}" for note in record.get("notes", ())),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def main() -> None:
    """Runs a suite, prints its tables and writes its record."""
    suite, output = _SUITE.value or "", options.path(_OUTPUT)
    if suite not in SUITES:
        raise InputError(f"--suite: expected one of {', '.join(SUITES)}, got {suite!r}")
    records.check_writable(output.parent)
    record = {"suite": suite, "machine": environment(), "repeats": _REPEATS.value}
    record |= SUITES[suite](_REPEATS.value or 1)
    records.write(output, record)
    output.with_suffix(".md").write_text(markdown(record), encoding="utf-8")
    print(markdown(record))


if __name__ == "__main__":
    cli.launch(main, required=["suite", "output"])
