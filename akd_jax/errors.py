"""Errors whose message is meant for the person who launched the run.

The message is one line: what was expected, what came, and what to do. Launchers print it
without a traceback and exit with a code other than 0.
"""

import importlib
from types import ModuleType


class InputError(ValueError):
    """What the user gave is wrong; raised before anything is compiled or written."""


class DivergedError(ArithmeticError):
    """Training left the numbers; what was saved before is kept."""


class StoppedError(RuntimeError):
    """Somebody asked the run to stop; all of it is saved, and the same command goes on."""


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

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
