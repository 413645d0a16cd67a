"""The Python code of the pages of the documentation."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.launching import GUARD_SECONDS, ROOT

_SHARED_SETTINGS = (
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "XLA_FLAGS",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
)
# The examples train with the settings of the demo, cut down to seconds.
SHORTER = """
from configs import digits

get_config = digits.get_config


def get_small_config(method):
    config = get_config(method)
    config.batch_size = 100
    config.teacher.epochs = 5
    config.student.epochs = 10
    config.annealing_kd.stage_1.epochs = 6
    config.continuation_kd.psi_until = 8
    return config


digits.get_config = get_small_config
"""


def code_of(page: Path) -> list[str]:
    """The code blocks of a page, in order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def run_code(code: str, folder: Path, **environment: str) -> str:
    """The output of code that runs in a new process and in this folder."""
    script = folder / "code.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env={
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            **{name: os.environ[name] for name in _SHARED_SETTINGS},
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
