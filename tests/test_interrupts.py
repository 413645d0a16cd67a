import os
import signal

import pytest

from akd_jax import interrupts
from akd_jax.errors import StoppedError


def test_a_signal_is_heard_and_the_process_goes_on():
    with interrupts.listen(signal.SIGUSR1):
        interrupts.raise_if_stop_requested("nothing yet")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interrupts.stop_requested()
        with pytest.raises(StoppedError, match=r"training: stopped by a signal, .* goes on"):
            interrupts.raise_if_stop_requested("training")
    assert not interrupts.stop_requested()  # Of the next run in this process.


def test_a_second_signal_does_what_it_always_does():
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        with interrupts.listen(signal.SIGUSR1):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert received == []
            os.kill(os.getpid(), signal.SIGUSR1)
            assert received == [signal.SIGUSR1]
        os.kill(os.getpid(), signal.SIGUSR1)
        assert len(received) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)
