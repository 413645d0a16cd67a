"""Errors whose messages are for the user who launched the run.

A message is one line with the expected value, the actual value and the remedy. Launchers print
it without a traceback and exit with a non-zero code.
"""

import importlib
from types import ModuleType


class InputError(ValueError):
    """An error that the user can correct: invalid input, or a folder that cannot be written."""


class DivergedError(ArithmeticError):
    """Training diverged to non-finite numbers; earlier checkpoints are kept."""


class StoppedError(RuntimeError):
    """A stop was requested; the state is saved, and the same command resumes the run."""


def require(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional package.

    Args:
      module: the full name of the module, such as 'sklearn.datasets'.
      extra: the extra of akd_jax that installs the package, such as 'images'.

    Raises:
      InputError: the package, or a package that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # The missing package may also be a dependency of the requested one.
        package = (error.name or module).partition(".")[0]
        raise InputError(
            f"expected the Python package {package}, got none; install it with:"
            f" pip install 'akd_jax[{extra}]'"
        ) from None
