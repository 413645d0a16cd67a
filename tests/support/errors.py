"""Checks of the error messages that users read."""

import pytest

from akd_jax.host.errors import InputError


def error_of(function, *args):
    """Returns the one-line message of the InputError that `function(*args)` raises."""
    with pytest.raises(InputError) as error:
        function(*args)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message
