import signal

import pytest

from initjax.training.stopping import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_told(number, capfd):
    with stop_signals(lambda: True) as stopped:
        assert stopped() is None
        signal.raise_signal(number)
        assert stopped() == number
    assert "once more to stop at once" in capfd.readouterr().err


def test_what_is_ignored_stays_ignored():
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals(lambda: True) as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert stopped() is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
