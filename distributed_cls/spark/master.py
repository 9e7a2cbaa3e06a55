"""What a Spark master URL means: where tasks run, and how many at a time."""

import os

# The smallest number of slots that shows anything distributed: a machine with one core runs two of them.
_MIN_LOCAL_SLOTS = 2


def is_local(master: str | None) -> bool:
    """Whether tasks run inside the driver's own JVM: what Spark's ``Utils.isLocalMaster`` says."""
    return master is not None and (master == "local" or master.startswith("local["))


def on_this_machine(master: str | None) -> bool:
    """Whether all tasks run on this machine: a local master, or the executors of ``local-cluster[n,cores,memory]``."""
    return is_local(master) or (master is not None and master.startswith("local-cluster["))


def with_slots(master: str) -> str:
    """``local`` and ``local[*]`` with a number: this process's cores, two at least."""
    if master not in ("local[*]", "local"):
        return master
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"local[{max(cores, _MIN_LOCAL_SLOTS)}]"
