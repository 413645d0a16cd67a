"""Kills a run repeatedly at random moments and compares its result with that of an intact run.

python -m experiments.kill_test --signal=KILL --times=100 --workdir=DIR --output=FILE

The run is configs/digits.py with a checkpoint after each epoch, so that many signals arrive while
a checkpoint is written. KILL can lose the epoch that is not saved yet; TERM loses nothing.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from akd_jax import runs
from akd_jax.host import records
from akd_jax.host.errors import InputError
from akd_jax.runs import STUDENT
from experiments import cli, html_report, options

_SIGNAL = flags.DEFINE_enum("signal", "KILL", ["KILL", "TERM"], "Signal to send.")
_TIMES = flags.DEFINE_integer("times", 100, "Number of signals to send.", lower_bound=1)
_WORKDIR = options.workdir_flag()
_OUTPUT = options.output_flag()

_FIELDS = {
    "checkpoint_every": 1,
    "teacher.epochs": 5,
    "student.epochs": 600,
    "annealing_kd.stage_1.epochs": 300,
}
# Longest time in seconds from the start of a process to its signal; the start takes about 3.
_MAX_DELAY = 5.5


def run_kill_test(number: signal.Signals, times: int, workdir: Path) -> dict[str, Any]:
    """Runs the same training twice, intact and interrupted, and compares the results.

    Args:
      number: signal that interrupts the second training.
      times: number of signals to send at most; fewer if the training finishes earlier.
      workdir: folder of both runs.

    Returns:
      The exit codes of the processes, the number of unreadable checkpoints, the differences
      between the two runs, and the times in seconds.

    Raises:
      InputError: a process ended with an error that the signal does not explain.
    """
    started = time.monotonic()
    _finish(workdir / "whole")
    seconds_undisturbed = time.monotonic() - started
    rng = random.Random(0)
    codes: Counter[int] = Counter()
    disturbed = workdir / "disturbed"
    while sum(codes.values()) < times and not (disturbed / records.RESULTS).exists():
        process = _launch(disturbed)
        try:
            process.wait(rng.uniform(0.0, _MAX_DELAY))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        _, error = process.communicate()
        codes[process.returncode] += 1
        if process.returncode not in (0, -number, cli.EX_TEMPFAIL):
            raise InputError(
                f"expected the process to end by {number.name}, got code {process.returncode}:"
                f" {error}"
            )
    _finish(disturbed)
    return {
        "signal": number.name,
        "signals": sum(count for code, count in codes.items() if code),
        "exit_codes": {str(code): count for code, count in sorted(codes.items())},
        "unreadable_checkpoints": len(list(disturbed.rglob("unreadable_*"))),
        "differing": _differences(workdir / "whole", disturbed),
        "seconds_undisturbed": round(seconds_undisturbed, 1),
        "seconds": round(time.monotonic() - started, 1),
    }


def _launch(workdir: Path) -> subprocess.Popen[str]:
    """Starts or resumes the training in a folder."""
    command = [sys.executable, "-m", "experiments.train", "--config=configs/digits.py"]
    command += [f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in _FIELDS.items())]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _finish(workdir: Path) -> None:
    """Runs the training in a folder to its end."""
    process = _launch(workdir)
    _, error = process.communicate()
    if process.returncode:
        raise InputError(f"{workdir}: expected the run to finish, got: {error}")


def _differences(intact: Path, interrupted: Path) -> list[str]:
    """Returns the names of metrics, weights and scores that differ in any bit, except times."""
    differences = []
    folders = (intact, interrupted)
    metrics = [
        [
            {name: value for name, value in record.items() if "second" not in name}
            for record in html_report.read_metrics(folder)
        ]
        for folder in folders
    ]
    if metrics[0] != metrics[1]:
        differences.append("metrics.jsonl")
    students = [runs.load(folder, teachers=False)[1][STUDENT].variables for folder in folders]
    equal = jax.tree.map(np.array_equal, *students)
    differences += [
        jax.tree_util.keystr(path) for path, same in jax.tree.leaves_with_path(equal) if not same
    ]
    scores = [(records.read(folder / records.RESULTS) or {})[STUDENT] for folder in folders]
    if scores[0] != scores[1]:
        differences.append(f"scores {json.dumps(scores)}")
    return differences


def main() -> None:
    """Runs the test, prints its result and writes it as JSON."""
    number = signal.Signals[f"SIG{_SIGNAL.value}"]
    output = Path(_OUTPUT.value or "")
    records.check_writable(output.parent)
    result = run_kill_test(number, _TIMES.value or 1, Path(_WORKDIR.value))
    result["command"] = "python -m experiments.kill_test " + " ".join(sys.argv[1:])
    records.write(output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "output"])
