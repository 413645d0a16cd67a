"""Errors whose message is meant for the person who launched the run.

The message is one line: what was expected, what came, and what to do. Launchers print it
without a traceback and exit with a code other than 0.
"""


class InputError(ValueError):
    """What the user gave is wrong; raised before anything is compiled or written."""


class DivergedError(ArithmeticError):
    """Training left the numbers; what was saved before is kept."""


class StoppedError(RuntimeError):
    """Somebody asked the run to stop; all of it is saved, and the same command goes on."""
