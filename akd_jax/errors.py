"""Errors whose messages are for the user who launched the run.

A message is one line with the expected value, the actual value and the remedy. Launchers print
it without a traceback and exit with a non-zero code.
"""


class InputError(ValueError):
    """Invalid input of the user; raised before anything is compiled or written."""


class DivergedError(ArithmeticError):
    """Training diverged to non-finite numbers; earlier checkpoints are kept."""


class StoppedError(RuntimeError):
    """A stop was requested; the state is saved, and the same command resumes the run."""
