import contextlib

import pytest

from akd_jax.host import files
from tests.support.launching import GUARD_SECONDS, start_python, wait_for_line

LOCK = """
import contextlib, sys
from pathlib import Path
from akd_jax.host.files import lock
print("started", flush=True)
with contextlib.ExitStack() as exit_stack:
    lock(Path(sys.argv[1]), exit_stack, wait=True)
    print("locked", flush=True)
    sys.stdin.read()  # Until the test kills this process.
"""

WITHOUT_FCNTL = """
import contextlib, pathlib, sys, warnings
sys.modules["fcntl"] = None  # As on Windows, which does not have this module.
warnings.simplefilter("ignore")  # filelock warns that its replacement is weaker.
import akd_jax.host.files
with contextlib.ExitStack() as exit_stack:
    akd_jax.host.files.lock(pathlib.Path(sys.argv[1]), exit_stack, wait=False)
print("locked")
"""


def lock(folder):
    with contextlib.ExitStack() as exit_stack:
        files.lock(folder, exit_stack, wait=False)


def test_lock_of_another_process_is_refused_until_that_process_is_killed(tmp_path):
    with start_python("-c", LOCK, tmp_path) as process:
        wait_for_line(process, "locked")
        with pytest.raises(BlockingIOError):
            lock(tmp_path)
        process.kill()
        process.wait(GUARD_SECONDS)
        lock(tmp_path)


def test_waiting_lock_is_granted_when_the_other_process_releases_it(tmp_path):
    with contextlib.ExitStack() as exit_stack:
        files.lock(tmp_path, exit_stack, wait=False)
        with start_python("-c", LOCK, tmp_path) as process:
            wait_for_line(process, "started")
            with pytest.raises(BlockingIOError):  # This process still has the lock.
                lock(tmp_path)
            exit_stack.close()
            wait_for_line(process, "locked")
            with pytest.raises(BlockingIOError):  # Now the other process has the lock.
                lock(tmp_path)


def test_lock_works_without_fcntl(tmp_path):
    with start_python("-c", WITHOUT_FCNTL, tmp_path) as process:
        wait_for_line(process, "locked")
