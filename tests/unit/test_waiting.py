"""What waits for Spark can be ended by a signal. No Spark here."""

import signal
import threading

import pytest

from distributed_cls.waiting import in_background


def test_gives_what_the_work_gives_and_raises_what_it_raises() -> None:
    stopped: list[bool] = []
    assert in_background(lambda: 3, lambda: stopped.append(True)) == 3
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0, lambda: stopped.append(True))
    assert stopped == []


def test_a_signal_ends_the_wait_and_stops_the_work() -> None:
    released, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        released.wait(30)

    def interrupt() -> None:
        begun.wait(30)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        in_background(work, released.set)
    assert released.is_set()
