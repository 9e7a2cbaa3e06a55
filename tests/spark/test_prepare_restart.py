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

from distributed_cls.dataset import plan, prepare, progress, work

PATIENCE = 120.0  # seconds until a condition that must come counts as missed

# The driver that is killed: preparation in many small tasks, as a program of its own.
DRIVER = """
import sys
from prepare_support import folder_config, small_spark
from distributed_cls.dataset import plan, prepare
plan.TASK_SECONDS = 0.02
with small_spark() as spark:
    prepare.prepare(spark, folder_config(sys.argv[1], image_size=96), sys.argv[2], 2)
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
        yield contents(prepare.prepare(spark, config, str(tmp_path_factory.mktemp("undisturbed")), 2).path)


def finish(pictures: Path, root: Path) -> tuple[dict[str, bytes], int]:
    """Start again; the dataset's files, and how many images had to be decoded."""
    decoded = []
    real = plan.decode_parts

    def counting(rows: plan.pa.Table, cores: int) -> list[tuple[str, bytes]]:
        decoded.append(rows.num_rows)
        return real(rows, cores)

    with pytest.MonkeyPatch.context() as patch, small_spark() as spark:
        patch.setattr(plan, "decode_parts", counting)
        dataset = prepare.prepare(spark, folder_config(pictures, image_size=96), str(root), 2)
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
        patch.setattr(plan, "TASK_SECONDS", 0.02)
        patch.setattr(progress, "POLL_SECONDS", 0.01)
        # Local masters do not repeat a task, so this run ends with Spark's own error.
        with pytest.raises(Exception, match=r"worker|Python|EOF|Connection"):
            prepare.prepare(spark, folder_config(pictures, image_size=96), str(tmp_path), 2, kill_the_workers)
    assert victims and not list(tmp_path.glob("t-*"))
    found, decoded = finish(pictures, tmp_path)
    assert 0 < decoded < 1200
    assert found == undisturbed
