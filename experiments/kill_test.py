"""Stops a run again and again at random moments, and compares its end to an undisturbed one's.

python -m experiments.kill_test --signal=KILL --times=100 --workdir=DIR --output=FILE

The run is configs/digits.py, with a checkpoint after each epoch, so that many signals come
within a save. KILL may cost the epoch that was not saved; TERM nothing.
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

from akd_jax import records, runs
from akd_jax.errors import InputError
from akd_jax.plan import STUDENT
from experiments import cli, html_report

_SIGNAL = flags.DEFINE_enum("signal", "KILL", ["KILL", "TERM"], "What is sent.")
_TIMES = flags.DEFINE_integer("times", 100, "Signals to send.", lower_bound=1)
_WORKDIR = cli.workdir_flag()
_OUTPUT = cli.output_flag()

_FIELDS = {
    "checkpoint_every": 1,
    "teacher.epochs": 5,
    "student.epochs": 600,
    "annealing_kd.stage_1.epochs": 300,
    "continuation_kd.psi_until": 500,
}
_LONGEST = 5.5  # Seconds until a signal, from the start of the process, which takes about 3.


def run_kill_test(number: signal.Signals, times: int, workdir: Path) -> dict[str, Any]:
    """Runs the same training undisturbed and disturbed.

    Returns:
      What happened: the processes' exit codes, the checkpoints that could not be read, and in
      what the two runs differ.

    Raises:
      InputError: a process ended otherwise than by the signal or well.
    """
    started = time.monotonic()
    _finish(workdir / "whole")
    alone = time.monotonic() - started
    rng = random.Random(0)
    codes: Counter[int] = Counter()
    disturbed = workdir / "disturbed"
    while sum(codes.values()) < times and not (disturbed / records.RESULTS).exists():
        process = _launch(disturbed)
        try:
            process.wait(rng.uniform(0.0, _LONGEST))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        _, error = process.communicate()
        codes[process.returncode] += 1
        if process.returncode not in (0, -number, 75):
            raise InputError(f"expected an end by the signal, got {process.returncode}: {error}")
    _finish(disturbed)
    differing = _differing(workdir / "whole", disturbed)
    return {
        "signal": number.name,
        "signals": sum(count for code, count in codes.items() if code),
        "exit_codes": {str(code): count for code, count in sorted(codes.items())},
        "unreadable_checkpoints": len(list(disturbed.rglob("unreadable_*"))),
        "differing": differing,
        "seconds_undisturbed": round(alone, 1),
        "seconds": round(time.monotonic() - started, 1),
    }


def _launch(workdir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments.train", "--config=configs/digits.py"]
    command += [f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in _FIELDS.items())]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _finish(workdir: Path) -> None:
    process = _launch(workdir)
    _, error = process.communicate()
    if process.returncode:
        raise InputError(f"{workdir}: expected a run that ends well, got: {error}")


def _differing(one: Path, other: Path) -> list[str]:
    """Names of what is not the same, to the last bit, but for times."""
    found = []
    lines = [
        [
            {name: value for name, value in record.items() if "second" not in name}
            for record in html_report.read_metrics(folder)
        ]
        for folder in (one, other)
    ]
    if lines[0] != lines[1]:
        found.append("metrics.jsonl")
    students = [runs.load(folder, teachers=False)[1][STUDENT].variables for folder in (one, other)]
    equal = jax.tree.map(np.array_equal, *students)
    found += [
        jax.tree_util.keystr(path) for path, same in jax.tree.leaves_with_path(equal) if not same
    ]
    scores = [(records.read(folder / records.RESULTS) or {})[STUDENT] for folder in (one, other)]
    if scores[0] != scores[1]:
        found.append(f"scores {json.dumps(scores)}")
    return found


def main() -> None:
    """Soaks, prints what happened and writes it."""
    number = signal.Signals[f"SIG{_SIGNAL.value}"]
    output = Path(_OUTPUT.value or "")
    records.check_writable(output.parent)
    found = run_kill_test(number, _TIMES.value or 1, Path(_WORKDIR.value))
    found["command"] = "python -m experiments.kill_test " + " ".join(sys.argv[1:])
    records.write(output, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "output"])
