"""Who gets which GPU, on a machine that only says that it has two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyspark

from tests.patience import PATIENCE
from tests.shards import records, write_dataset

ROOT = Path(__file__).resolve().parents[2]

_NVIDIA_SMI = """#!/bin/sh
case "$1" in
  -L) echo "GPU 0: Stand-in"; echo "GPU 1: Stand-in" ;;
  *) echo 0; echo 1 ;;
esac
"""


def test_each_rank_gets_a_gpu_of_its_own_and_a_missing_driver_is_one_error(tmp_path: Path) -> None:
    installed = Path(pyspark.__file__).parent / "work"
    before = set(installed.glob("*"))
    parts = [records(count, seed=count) for count in (32, 31, 12, 11)]
    content = write_dataset(tmp_path / "data", {"train": parts[:2], "val": [parts[2]], "test": [parts[3]]})
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "nvidia-smi"
    command.write_text(_NVIDIA_SMI, encoding="utf-8")
    command.chmod(0o755)
    # Left by whatever was imported before in this process; it would hide the GPUs that this test hands out.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    run = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("gpu_program.py")),
            str(tmp_path / "run"),
            str(tmp_path / "data"),
            content.fingerprint,
        ],
        env={
            **environment,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["at_once"] == 4  # the preparation is not held to the two GPUs
    assert sorted(told["devices"].values()) == ["0", "1"]
    assert told["attempts"] == [1]
    assert told["error"].startswith(
        "Expected TensorFlow to see 1 GPU(s) on every worker (cluster.gpus_per_worker). Received: 0."
    )
    assert "\n" not in told["error"]
    assert told["next_trial"] == 1, "its executors have one GPU"
    assert set(installed.glob("*")) == before, "Spark's workers write below the run's temporary folder"
    assert not (tmp_path / "run" / ".spark").exists()
