"""A stage on two GPUs that Spark hands out but TensorFlow does not see: ``gpu_program.py FOLDER DATA FINGERPRINT``.

Prints the devices that each rank was given, and how the stage ended, as one line of JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import psutil

from distributed_cls.barrier.supervisor import run_stage
from distributed_cls.config import ClusterConfig, Config, DataConfig, DenseConfig, TrainConfig, to_dict
from distributed_cls.errors import UserError
from distributed_cls.spark.session import Session


def main() -> None:
    folder, data, fingerprint = sys.argv[1:]
    cluster = ClusterConfig(name="gpus", master="local-cluster[1,2,1024]", workers=2, gpus_per_worker=1)
    config = Config(
        data=DataConfig(image_size=8), model=DenseConfig(units=[4]), train=TrainConfig(batch_size=16), cluster=cluster
    )
    order = {"config": to_dict(config), "dataset": data, "run_folder": folder, "work": ["train"], "checkpoint": None}
    devices: dict[int, str] = {}
    attempts: list[int] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            devices[event["rank"]] = psutil.Process(event["pid"]).environ()["CUDA_VISIBLE_DEVICES"]
        elif event["event"] == "attempt":
            attempts.append(event["number"])

    session = Session(cluster, Path(folder))
    try:
        run_stage(session.spark, order, fingerprint, cluster, listen)
        error = "none"
    except UserError as refused:
        error = str(refused)
    finally:
        session.stop()
    print(json.dumps({"devices": devices, "attempts": attempts, "error": error}))


if __name__ == "__main__":
    main()
