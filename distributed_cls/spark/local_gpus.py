"""The GPUs of this machine, counted before Spark starts, which would only say that a script has failed."""

import os
import re
import subprocess

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark.master import is_local, on_this_machine

_NVIDIA_SMI_SECONDS = 20.0


def check(cluster: ClusterConfig, master: str | None) -> None:
    """Raise UserError when ranks of ``cluster`` need GPUs that ``master``, on this machine, cannot give them."""
    if not cluster.gpus_per_worker or not on_this_machine(master):
        return
    # Tasks inside the driver get no devices at all; several workers on one machine would each hand out all of them.
    if is_local(master) or not str(master).startswith("local-cluster[1,"):
        raise UserError(
            f"Expected a master that hands out this machine's GPUs, one worker with all of them. Received: {master}. "
            "Set cluster.master=local-cluster[1,CORES,MEGABYTES], as cluster=gpu4 does."
        )
    needed = cluster.workers * cluster.gpus_per_worker
    found, how = count()
    if found < needed:
        raise UserError(
            f"Expected {needed} GPU(s) on this machine (cluster={cluster.name}: {cluster.workers} worker(s) with "
            f"{cluster.gpus_per_worker} each). Received: {how} {found}. Set cluster=local, or run where the GPUs are."
        )


def count() -> tuple[int, str]:
    """The number of GPUs that may be used, and the beginning of a sentence that says where the number is from."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=True
        ).stdout
    except FileNotFoundError:
        return 0, "nvidia-smi is not installed, so"
    except (OSError, subprocess.SubprocessError):
        return 0, "nvidia-smi fails, so"
    found = len(re.findall(r"^GPU \d+", listed, re.MULTILINE))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = found if chosen is None else len([gpu for gpu in chosen.split(",") if gpu])
    if visible < found:
        return visible, f"CUDA_VISIBLE_DEVICES={chosen} leaves"
    return found, "nvidia-smi lists"
