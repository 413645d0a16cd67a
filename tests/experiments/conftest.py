"""Fixtures for the tests of the launchers."""

import dataclasses
import logging
import os
import sys
import warnings

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cli


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a launcher ended."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run_launcher(monkeypatch, capsys):
    """Runs a launcher's main function in this process with command-line arguments."""
    # A launcher sets these; monkeypatch restores them after the test.
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    # A launcher leaves the compilation cache and the allocator as they are when these are set.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "")
    handlers, parsed = list(logging.root.handlers), flags.FLAGS.is_parsed()

    def run(main, *arguments, required=(), several_processes=False):
        monkeypatch.setattr(sys, "argv", ["launcher", *arguments])
        with (
            warnings.catch_warnings(),
            flagsaver.flagsaver(),
            pytest.raises(SystemExit) as exit_info,
        ):
            # ml_collections imports config files with a deprecated method of importlib.
            warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
            cli.launch(main, required=required, several_processes=several_processes)
        printed = capsys.readouterr()
        return Ended(exit_info.value.code or 0, printed.out, printed.err)

    yield run
    logging.root.handlers[:] = handlers
    if not parsed:
        flags.FLAGS.unparse_flags()
