"""What waits for Spark can be ended by a signal. No Spark here."""

import concurrent.futures
import logging
import signal
import threading

import pytest

from distributed_cls.spark.interruptible import run_interruptibly, silence_py4j


def test_gives_what_the_work_gives_and_raises_what_it_raises() -> None:
    stopped: list[bool] = []
    assert run_interruptibly(lambda: 3, lambda: stopped.append(True)) == 3
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda: 1 // 0, lambda: stopped.append(True))
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
        while not released.is_set():  # again if it came in a callback of the garbage collector, where it is lost
            signal.pthread_kill(main, signal.SIGINT)
            released.wait(5)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(work, released.set)
    assert released.is_set()


def test_a_wait_with_a_limit_ends_there() -> None:
    released = threading.Event()
    with pytest.raises(concurrent.futures.TimeoutError):
        run_interruptibly(lambda: released.wait(30), on_stop=released.set, limit=0.01)
    assert released.is_set()


def test_py4j_does_not_write_to_the_root_logger_either(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "filters", [])
    in_py4j = compile("import logging; logging.error('Exception while sending')", "/x/py4j/java_gateway.py", "exec")
    exec(in_py4j)
    silence_py4j()
    exec(in_py4j)
    logging.error("ours")
    assert caplog.messages == ["Exception while sending", "ours"]
