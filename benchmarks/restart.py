"""SIGKILL of the driver at random moments, each time followed at once by the same command: does it just work?

``python -m benchmarks.restart``. Counts the second commands that ended well, and what the first ones left behind:
processes, temporary files, shared memory.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

from benchmarks import measure

_SHARED_MEMORY = Path("/dev/shm")
_GONE_SECONDS = 15.0  # for processes to notice that their driver is gone
_MARK = "DISTRIBUTED_CLS_RESTART"


def _command(root: Path, number: int) -> list[str]:
    return [
        *(sys.executable, "-m", "launch", "model=dense", "train.epochs=12", "job.console=lines"),
        *(f"hydra.run.dir={root / f'run-{number}'}", f"dataset_root={root / 'datasets'}"),
    ]


def _marked(mark: str) -> list[psutil.Process]:
    """The processes whose environment has our mark: those of a command, wherever they have gone since."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # it ended meanwhile, or is not ours
            continue
    return found


def _kill_after(command: list[str], seconds: float, environment: dict[str, str]) -> bool:
    """Start ``command``, and kill it ``seconds`` later; whether it still ran."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def _left(mark: str) -> list[str]:
    """What still runs of a command once the time for it to go is over."""
    until = time.monotonic() + _GONE_SECONDS
    while (running := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    return [f"process {process.pid}: {' '.join(process.cmdline())[:80]}" for process in running]


def _again(command: list[str], environment: dict[str, str]) -> str:
    """Run ``command`` to its end; what was wrong, empty when nothing was."""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else f"exit code {ended.returncode}: {ended.stderr[-800:]}"


def main(arguments: list[str] | None = None) -> int:
    """Kill and start again, print the table; 0 when every second command ended well and nothing was left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args(arguments)
    chosen, well, killed, left = random.Random(1), 0, 0, list[str]()
    memory = set(_SHARED_MEMORY.iterdir())
    with tempfile.TemporaryDirectory(prefix="restart-") as folder:
        root, scratch = Path(folder), Path(folder, "tmp")
        scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(scratch), "CUDA_VISIBLE_DEVICES": ""}
        measure.tell("restart: one command without a fault")
        began = time.monotonic()
        measure.run(_command(root, 0))
        lasts = time.monotonic() - began
        for number in range(1, given.runs + 1):
            mark, after = uuid.uuid4().hex, chosen.uniform(0.0, 0.9 * lasts)
            measure.tell(f"restart, run {number} of {given.runs}: SIGKILL after {after:.1f} s")
            command = _command(root, number)
            killed += _kill_after(command, after, {**environment, _MARK: mark})
            wrong = _again(command, environment)
            well += not wrong
            left += [wrong] if wrong else []
            left += _left(mark)
        left += [f"temporary file {name}" for name in scratch.iterdir()]
    left += [f"shared memory {name}" for name in set(_SHARED_MEMORY.iterdir()) - memory]
    measure.show(
        f"SIGKILL of the driver of a command of {lasts:.0f} s at a random moment, then the same command at once",
        ["killed", "ended well the second time", "left behind"],
        [[str(killed), f"{well} of {given.runs}", "\n".join(left) or "nothing"]],
    )
    return 0 if well == given.runs and not left else 1


if __name__ == "__main__":
    raise SystemExit(main())
