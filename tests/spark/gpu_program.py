"""A stage on two GPUs that Spark hands out but TensorFlow does not see.

    gpu_program.py FOLDER DATA FINGERPRINT MASTER

Prints as one line of JSON: how many tasks of a plain stage ran at once on four cores and two GPUs, the devices that
each rank's warm process was given, how the stage ended, and the slots of the next trial's session, which has one worker
and may have one GPU.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from distributed_cls.barrier.crew import Crew
from distributed_cls.barrier.supervisor import run_ranks
from distributed_cls.config import ClusterConfig, Config, DataConfig, TrainConfig
from distributed_cls.contracts.events import AttemptStarted, Event, Met
from distributed_cls.contracts.rank_task import RankTask, Step
from distributed_cls.errors import UserError
from distributed_cls.models.dense import DenseConfig
from distributed_cls.spark import internals, preflight, resources, stage
from distributed_cls.spark.session import Session


def _at_once(items: Iterable[tuple[str, int]]) -> Iterator[int]:
    """How many tasks, of the four, are seen to run beside this one: each says that it is there, and looks around."""
    for folder, number in items:
        own = Path(folder, f"here-{number}")
        own.touch()
        deadline, most = time.monotonic() + 3, 1
        while time.monotonic() < deadline and most < 4:
            most = max(most, len(list(Path(folder).glob("here-*"))))
            time.sleep(0.01)
        own.unlink()
        yield most


def main() -> None:
    folder, data, fingerprint, master = sys.argv[1:]
    here = master.startswith("local-cluster")
    # On a cluster its administrator says how many GPUs an executor has, and how it finds them.
    spark = {} if here else {"spark.executor.resource.gpu.amount": "2"}
    cluster = ClusterConfig(name="gpus", master=master, workers=2, gpus_per_worker=1, spark=spark)
    config = Config(
        data=DataConfig(image_size=8), model=DenseConfig(units=[4]), train=TrainConfig(batch_size=16), cluster=cluster
    )
    task = RankTask(config, data, fingerprint, folder, (Step.TRAIN,))
    devices: dict[int, str] = {}
    attempts: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, Met):
            # Of the warm processes, from which the ranks are forked: a rank itself may have ended by now.
            below = set(psutil.Process().children(recursive=True))
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    # Those of a standalone worker, which this program has not started, work in folders of the test.
                    mine = process in below or Path(process.cwd()).is_relative_to(Path(folder).parent)
                    if mine and "distributed_cls.training" in process.cmdline():
                        devices[process.pid] = process.environ()["CUDA_VISIBLE_DEVICES"]
        elif isinstance(event, AttemptStarted):
            attempts.append(event.number)

    session = Session(cluster, Path(folder))
    at_once = 0
    try:
        at_once = max(stage.run(session.spark, "count", _at_once, [(folder, number) for number in range(4)]))
        crew = Crew(cluster)
        try:
            run_ranks(session.spark, task, crew, listen)
        finally:
            crew.close()
        error = "none"
    except UserError as refused:
        error = str(refused)
    finally:
        session.stop()
    told = {"at_once": at_once, "devices": devices, "attempts": attempts, "error": error}
    print(json.dumps({**told, "next_trial": _next_trial(session, Path(folder))}))


def _next_trial(session: Session, folder: Path) -> int:
    """The slots of a trial with one worker, when they have been waited for."""
    cluster = dataclasses.replace(session.cluster, workers=1)
    trial = Session(cluster, folder)
    try:
        preflight.check(trial.spark, cluster)
        return internals.max_concurrent_tasks(trial.spark, resources.rank_profile(trial.spark, 1))
    finally:
        trial.stop()


if __name__ == "__main__":
    main()
