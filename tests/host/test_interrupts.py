import os
import signal

import pytest

from akd_jax.host import interrupts
from akd_jax.host.errors import StoppedError


def test_first_signal_requests_a_stop():
    with interrupts.listen(signal.SIGUSR1):
        interrupts.raise_if_stop_requested("no signal yet")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interrupts.stop_requested()
        with pytest.raises(StoppedError, match=r"training: stopped by a signal; .* to resume"):
            interrupts.raise_if_stop_requested("training")
    assert not interrupts.stop_requested()  # The next run of this process must not stop.


def test_second_signal_reaches_the_previous_handler():
    received = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        with interrupts.listen(signal.SIGUSR1):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert received == []
            os.kill(os.getpid(), signal.SIGUSR1)
            assert received == [signal.SIGUSR1]
        os.kill(os.getpid(), signal.SIGUSR1)
        assert len(received) == 2
    finally:
        signal.signal(signal.SIGUSR1, previous)
