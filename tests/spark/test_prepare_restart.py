"""Killed in the middle and started again, preparation ends with the dataset of an undisturbed run, byte for byte."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from prepare_support import contents, folder_config, image_folder, small_spark

from distributed_cls.dataset import decode_progress, prepare, shard_plan, work
from tests.patience import PATIENCE

# The driver that is killed: preparation in many small tasks, as a program of its own.
DRIVER = """
import sys
from prepare_support import folder_config, small_spark
from distributed_cls.dataset import shard_plan, prepare
shard_plan.TASK_SECONDS = 0.02
with small_spark() as spark:
    prepare.prepare(lambda: spark, folder_config(sys.argv[1], image_size=96), sys.argv[2])
"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return as soon as ``condition`` holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.005)


def whole_parts(root: Path) -> list[Path]:
    return list(root.glob(f".work/*/{work.PART}*.parquet"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("pictures"), per_class=400)


@pytest.fixture(scope="module")
def undisturbed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    with small_spark() as spark:
        config = folder_config(pictures, image_size=96)
        yield contents(prepare.prepare(lambda: spark, config, str(tmp_path_factory.mktemp("undisturbed"))).path)


def finish(pictures: Path, root: Path) -> tuple[dict[str, bytes], int]:
    """Start again; the dataset's files, and how many images had to be decoded."""
    decoded = []
    real = shard_plan.decode_parts

    def counting(rows: shard_plan.pa.Table, cores: int) -> list[shard_plan.DecodePart]:
        decoded.append(rows.num_rows)
        return real(rows, cores)

    with pytest.MonkeyPatch.context() as patch, small_spark() as spark:
        patch.setattr(shard_plan, "decode_parts", counting)
        dataset = prepare.prepare(lambda: spark, folder_config(pictures, image_size=96), str(root))
    assert not dataset.reused
    assert [path.name for path in root.iterdir()] == [Path(dataset.path).name], "nothing temporary is left"
    return contents(dataset.path), sum(decoded)


def test_driver_killed(pictures: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", DRIVER, str(pictures), str(tmp_path)]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(whole_parts(tmp_path)) >= 3, "three whole parts")
        children = psutil.Process(driver.pid).children(recursive=True)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    gone, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert gone and not alive
    (work_folder,) = tmp_path.glob(".work/*")
    (tmp_path / f".{work_folder.name}.0123.tmp").mkdir()  # as if an earlier run had died while it wrote the shards
    found, decoded = finish(pictures, tmp_path)
    assert 0 < decoded < 1200, "whole parts are used again"
    assert found == undisturbed


# A driver that waits an hour for its tasks, and then in a call of its own; signals of the launcher's kind end both.
WAITING = """
import signal, sys, time
from pathlib import Path
from distributed_cls.config import ClusterConfig
from distributed_cls.spark import stage
from distributed_cls.spark.session import Session

folder = Path(sys.argv[1])

class Terminated(BaseException):
    pass

def stop(number, frame):
    raise Terminated

def slow(items):
    (folder / f"in-task-{next(items)}").touch()
    time.sleep(3600)
    return items

signal.signal(signal.SIGTERM, stop)
session = Session(ClusterConfig(master="local[2]", workers=1), folder / "run")
try:
    try:
        stage.run(session.spark, "slow", slow, [1, 2])
    except Terminated:
        print("the stage has ended", flush=True)
    session.spark._jvm.java.lang.Thread.sleep(3_600_000)
except Terminated:
    session.stop()  # the call's answer is still to come
    print("the session has ended", flush=True)
"""


def test_a_signal_ends_a_stage_and_a_session_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WAITING, str(tmp_path)]
    told = tmp_path / "stderr.txt"
    with (
        told.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as driver,
    ):
        wait_for(lambda: len(list(tmp_path.glob("in-task-*"))) == 2, "both tasks")
        driver.terminate()
        assert driver.stdout and driver.stdout.readline() == "the stage has ended\n", told.read_text()
        driver.terminate()
        assert driver.stdout.read() == "the session has ended\n", told.read_text()
        assert driver.wait(PATIENCE) == 0, told.read_text()


def age(folder: Path, days: float) -> None:
    """As if nothing had touched the folder for so long."""
    then = time.time() - days * 86_400
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))


def test_what_killed_runs_left_is_removed_after_a_week(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root = tmp_path / "out"
    left = {
        ".work/t-0000000000000000": 8.0,
        ".t-0000000000000000.1234.tmp": 8.0,
        ".work/t-1111111111111111": 6.0,  # its run may be started again
        ".t-1111111111111111.1234.tmp": 6.0,
        ".work/t-other-0000000000000000": 8.0,  # of other data sets
        ".t-other-0000000000000000.1234.tmp": 8.0,
        ".work/t-2222222222222222": 8.0,  # somebody is at work in it, see below
        "t-0000000000000000": 8.0,
    }
    for name, days in left.items():
        (root / name).mkdir(parents=True)
        (root / name / "part-x-1.bin").write_bytes(b"x")
        age(root / name, days)
    (root / ".work/t-2222222222222222" / "progress-y").write_text("3")
    pictures = image_folder(tmp_path / "in")
    with small_spark() as spark:
        dataset = prepare.prepare(lambda: spark, folder_config(pictures), str(root))
        expected = [name for name in left if not name.endswith(("/t-0000000000000000", ".t-0000000000000000.1234.tmp"))]
        found = [str(path.relative_to(root)) for path in (*root.iterdir(), *(root / ".work").iterdir())]
        assert sorted(found) == sorted([*expected, ".work", Path(dataset.path).name])
        (line,) = [line for line in caplog.messages if "killed runs" in line]
        assert ".work/t-0000000000000000" in line and ".t-0000000000000000.1234.tmp" in line
        age(root / ".work/t-1111111111111111", 8)
        assert prepare.prepare(lambda: spark, folder_config(pictures), str(root)).reused
    assert not (root / ".work/t-1111111111111111").exists(), "also when there was nothing to prepare"


def is_worker(process: psutil.Process) -> bool:
    """Whether Spark's Python daemon has forked this process."""
    try:
        parent = process.parent()
        return parent is not None and all("pyspark.daemon" in " ".join(p.cmdline()) for p in (process, parent))
    except psutil.NoSuchProcess:
        return False


def test_python_worker_killed(pictures: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    victims: list[int] = []

    def kill_the_workers(done: int, total: int) -> None:
        if not whole_parts(tmp_path):
            return
        for process in psutil.Process().children(recursive=True):  # the daemon's children; some may be idle
            if is_worker(process):
                victims.append(process.pid)
                process.kill()

    with pytest.MonkeyPatch.context() as patch, small_spark() as spark:
        patch.setattr(shard_plan, "TASK_SECONDS", 0.02)
        patch.setattr(decode_progress, "POLL_SECONDS", 0.01)
        # Local masters do not repeat a task, so this run ends with Spark's own error.
        with pytest.raises(Exception, match=r"worker|Python|EOF|Connection"):
            prepare.prepare(lambda: spark, folder_config(pictures, image_size=96), str(tmp_path), kill_the_workers)
    assert victims and not list(tmp_path.glob("t-*"))
    found, decoded = finish(pictures, tmp_path)
    assert 0 < decoded < 1200
    assert found == undisturbed
