"""A signal is a request to stop; a second Ctrl-C ends at once."""

import os
import signal

import pytest

from prunelab.store.signals import StopRequest, is_handled, stoppable


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_remembered_with_its_status_and_handlers_are_restored(number: int, status: int) -> None:
    before = signal.getsignal(number)
    with stoppable() as stop, stoppable() as inner:
        assert inner is stop
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.status == status
        assert is_handled()
    assert signal.getsignal(number) is before
    assert not is_handled()


def test_a_second_ctrl_c_is_a_keyboard_interrupt_and_a_second_sigterm_is_nothing() -> None:
    with stoppable() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.status == 143  # the first counts


def test_a_request_without_a_signal_counts_as_one() -> None:
    stop = StopRequest()
    stop.request(signal.SIGUSR2)
    assert stop.signal == signal.SIGUSR2
