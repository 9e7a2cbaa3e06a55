"""However a run ends, nothing of it is left running, and two at once do not disturb each other."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from distributed_cls.contracts import checkpoint
from tests.end_to_end.conftest import ROOT, Launcher, processes_of, wait_for
from tests.patience import JOB_PATIENCE, PATIENCE

LONG = ("model=dense", "train.epochs=100000", "train.schedule=constant", "job.console=lines")


def test_signals_in_mid_training_end_one_of_two_and_then_the_other(tmp_path: Path, datasets: Path) -> None:
    """Two launchers at once: the first one's end is no matter to the second, which goes on until its own."""
    launchers = [_with_own_temporary_folder(tmp_path / name, datasets) for name in ("first", "second")]
    started = [launch.start(*LONG) for launch in launchers]
    for process, folder in started:
        _await_epochs(process, folder)
    for launch, (process, folder), number in zip(launchers, started, (signal.SIGTERM, signal.SIGINT), strict=True):
        _await_epochs(process, folder, more_than=_epochs(folder))
        process.send_signal(number)
        ended = launch.end(process, folder)
        assert ended.code == 128 + number, ended.output
        assert len(ended.errors) == 1
        assert "Traceback" not in ended.output
        assert processes_of(launch.folder) == []
        assert not (folder / ".spark").exists()
        assert (folder / "checkpoints" / "last.npz").exists()
        assert [path.name for path in (launch.folder / "temporary").iterdir() if _is_ours(path)] == []
    _go_on(launchers[1].folder, ended.output, started[1][1])


def _go_on(working_folder: Path, output: str, folder: Path) -> None:
    """The command that an interrupted run has named, as it stands, with an end in sight."""
    [command] = [line.removeprefix("go on with") for line in output.splitlines() if line.startswith("go on with")]
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    _, stood = checkpoint.newest_position(folder / "checkpoints") or pytest.fail(output)
    epochs = stood.epoch + 2
    again = subprocess.run(
        [*words, f"train.epochs={epochs}", "job=train"],
        cwd=working_folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=JOB_PATIENCE,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"Resumed from last.npz, at step {stood.step:,} in epoch {stood.epoch + 1}" in again.stdout
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["train"]["epochs"] == epochs


def _with_own_temporary_folder(folder: Path, datasets: Path) -> Launcher:
    """Other runs come and go in the machine's own."""
    (folder / "temporary").mkdir(parents=True)
    java = f"-Djava.io.tmpdir={folder / 'temporary'}"
    return Launcher(folder, datasets, {"TMPDIR": str(folder / "temporary"), "JAVA_TOOL_OPTIONS": java})


def test_a_killed_driver_takes_everything_with_it(launch: Launcher) -> None:
    process, folder = launch.start(*LONG)
    _await_epochs(process, folder)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 4  # the JVM, Spark's Python workers, two ranks
    process.kill()
    process.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert alive == [], [" ".join(left.cmdline())[:200] for left in alive]


def _epochs(folder: Path) -> int:
    """How often the run has told of an epoch."""
    metrics = folder / "metrics.jsonl"
    return metrics.read_text(encoding="utf-8").count('"event": "epoch"') if metrics.exists() else 0


def _await_epochs(process: "subprocess.Popen[str]", folder: Path, more_than: int = 0) -> None:
    def there() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return _epochs(folder) > more_than

    wait_for(there, "an epoch")


def _is_ours(path: Path) -> bool:
    """Whether an entry of the temporary folder may be Spark's or ours, not TensorFlow's."""
    return path.name.startswith(("spark-", "blockmgr-", "distributed_cls", "hsperfdata", "liblz4", "snappy"))
