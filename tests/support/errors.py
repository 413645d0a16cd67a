"""Errors for the person who launched a run."""

import pytest

from akd_jax.errors import InputError


def error_of(function, *args):
    with pytest.raises(InputError) as error:
        function(*args)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message
