"""Who gets which GPU, on machines that only say that they have two: preparation on all cores, each rank on a GPU."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest

from tests.end_to_end import standalone
from tests.patience import PATIENCE
from tests.shards import records, write_dataset

ROOT = Path(__file__).resolve().parents[2]

_NVIDIA_SMI = """#!/bin/sh
case "$1" in
  -L) echo "GPU 0: Stand-in"; echo "GPU 1: Stand-in" ;;
  *) echo 0; echo 1 ;;
esac
"""


@pytest.fixture(params=["local-cluster", "standalone"])
def master(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A master whose one worker has four cores and two GPUs, as Spark's discovery script says."""
    if request.param == "local-cluster":
        yield "local-cluster[1,4,1024]"
        return
    script = tmp_path / "find_gpus.sh"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["0", "1"]}'\n""", encoding="utf-8")
    script.chmod(0o755)
    gpus = {"spark.worker.resource.gpu.amount": "2", "spark.worker.resource.gpu.discoveryScript": str(script)}
    (tmp_path / "cluster").mkdir()
    with standalone.running(tmp_path / "cluster") as cluster:
        cluster.add_worker(cores=4, properties=gpus)
        yield cluster.url


def test_each_rank_gets_a_gpu_of_its_own_and_a_missing_driver_is_one_error(tmp_path: Path, master: str) -> None:
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
            master,
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
    assert told["next_trial"] == (1 if master.startswith("local-cluster") else 2), "the slots are the GPUs"
    assert set(installed.glob("*")) == before, "Spark's workers write below the run's temporary folder"
    assert not (tmp_path / "run" / ".spark").exists()
