"""However a run ends, nothing of it is left running, and two at once do not disturb each other."""

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.conftest import Launcher, processes_of, wait_for
from tests.patience import PATIENCE

LONG = ("model=dense", "train.epochs=100000", "train.schedule=constant", "job.console=lines")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_training(tmp_path: Path, datasets: Path, number: signal.Signals, code: int) -> None:
    # A temporary folder of its own: other tests run at the same time, and theirs come and go.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={temporary}"}
    launch = Launcher(tmp_path, datasets, environment)
    process, folder = launch.start(*LONG)
    _await_first_epoch(process, folder)
    process.send_signal(number)
    ended = launch.end(process, folder)
    assert ended.code == code, ended.output
    assert len(ended.errors) == 1
    assert "Traceback" not in ended.output
    assert processes_of(launch.folder) == []
    assert not (folder / ".spark").exists()
    assert (folder / "checkpoints" / "last.npz").exists()
    assert [path.name for path in temporary.iterdir() if _is_ours(path)] == []


def test_a_killed_driver_takes_everything_with_it(launch: Launcher) -> None:
    process, folder = launch.start(*LONG)
    _await_first_epoch(process, folder)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 4  # the JVM, Spark's Python workers, two ranks
    process.kill()
    process.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert alive == [], [" ".join(left.cmdline())[:200] for left in alive]


def test_two_launchers_at_once(launch: Launcher) -> None:
    started = [launch.start("model=dense", "train.epochs=2", f"train.seed={seed}") for seed in (0, 1)]
    for process, folder in started:
        assert launch.end(process, folder).summary["train"]["epochs"] == 2


def _await_first_epoch(process: "subprocess.Popen[str]", folder: Path) -> None:
    def there() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return '"event": "epoch"' in _text(folder / "metrics.jsonl")

    wait_for(there, "the first epoch")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _is_ours(path: Path) -> bool:
    """Whether an entry of the temporary folder may be Spark's or ours, not TensorFlow's."""
    return path.name.startswith(("spark-", "blockmgr-", "distributed_cls", "hsperfdata", "liblz4", "snappy"))
