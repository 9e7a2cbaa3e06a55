"""What a rank's process writes to its agent."""

import os
import threading
from pathlib import Path

from distributed_cls.contracts import events
from distributed_cls.contracts.events import Heartbeat, LogLine, Phase, PhaseProgressed, PhaseStarted
from distributed_cls.training.reporter import Reporter


def _written(path: Path) -> list[events.Event]:
    whole = path.read_text(encoding="utf-8")
    return [events.loads(line) for line in whole[: whole.rindex("\n")].split("\n")]


def test_events_are_json_lines_from_any_thread(tmp_path: Path) -> None:
    path = tmp_path / "events"
    reporter = Reporter(os.open(path, os.O_WRONLY | os.O_CREAT))
    reporter.at_step(40, 5, 0.25)
    reporter.at_step(42, 10, 0.5)
    reporter.start_heartbeat(0.01)
    threads = [
        threading.Thread(target=lambda: [reporter.send(LogLine(line="ä\n" * 2000)) for _ in range(30)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    reporter.phase(Phase.TRAIN)
    for thread in threads:
        thread.join()
    found = _written(path)
    assert sum(isinstance(event, LogLine) for event in found) == 120
    assert PhaseStarted(phase=Phase.TRAIN) in found
    assert Heartbeat(step=42, images=15, seconds=0.75) in found


def test_progress_of_a_phase_is_reported_once_a_second_and_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events"
    reporter = Reporter(os.open(path, os.O_WRONLY | os.O_CREAT))
    for phase in (Phase.DATASET, Phase.EVALUATE):
        reporter.phase(phase)
        for done in range(1, 1001):
            reporter.progress(done, 1000)
    progress = [event for event in _written(path) if isinstance(event, PhaseProgressed)]
    assert [event.done for event in progress if event.done in (1, 1000)] == [1, 1000, 1, 1000]
    assert len(progress) < 20  # not a thousand
