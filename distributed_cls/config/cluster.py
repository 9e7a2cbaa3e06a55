"""Which Spark cluster runs the job."""

import re
from dataclasses import dataclass

from distributed_cls.config.section import Section, setting

_LEAST_PORT, _LAST_PORT = 1024, 65535  # those below need rights that Spark's tasks do not have


@dataclass
class ClusterConfig(Section):
    """Which Spark cluster runs the job, and the limit of every wait on it."""

    section = "cluster"

    name: str = setting("local", "name of this choice, for logs and reports")
    master: str | None = setting("local[*]", "Spark master URL; the one of spark-submit wins; null: no other is meant")
    workers: int = setting(2, "ranks that train together, one barrier task each", at_least=1)
    min_workers: int | None = setting(
        None,
        "fewest ranks with which training goes on when slots are missing after slot_timeout; null: as many as workers",
        at_least=1,
    )
    gpus_per_worker: int = setting(0, "GPUs of each rank", at_least=0)
    cores_per_worker: int | None = setting(
        None, "CPU threads of each rank; null: the cores of its Spark slot", at_least=1
    )
    python: str | None = setting(
        None, "interpreter of the executors; null: PYSPARK_PYTHON of spark-submit, or else the driver's own"
    )
    spark: dict[str, str] = setting({}, "further Spark properties, by their full names")
    allow_plaintext_gradients: bool = setting(
        False, "train although Spark's traffic is encrypted and TensorFlow's, which carries the gradients, cannot be"
    )
    ports: str | None = setting(
        None,
        "TCP ports, first-last, of the control line on the driver and of TensorFlow on the workers; null: any free one",
    )
    shard_cache: str | None = setting(
        None, "folder on each worker for copies of a remote data set's shards; null: one in its temporary folder"
    )
    shard_cache_gigabytes: float = setting(
        50.0, "most that these copies take on a worker; data sets that no rank reads are removed first", above=0
    )
    slot_timeout: float = setting(60.0, "maximum wait for enough free slots, seconds", above=0)
    rendezvous_timeout: float = setting(
        120.0, "maximum time for all ranks to exchange their addresses, seconds", above=0
    )
    start_timeout: float = setting(
        300.0, "maximum time for TensorFlow's import and for connecting the ranks, seconds", above=0
    )
    first_step_timeout: float = setting(
        900.0,
        "maximum time for each of loading weights, decoding images into memory, and the first step, seconds",
        above=0,
    )
    stall_timeout: float = setting(
        600.0, "maximum time without progress of any rank before the attempt is ended, seconds", above=0
    )
    reconnect_timeout: float = setting(
        30.0,
        "how long the line between the driver and a rank's agent may be cut before it counts as lost, seconds",
        above=0,
    )
    max_attempts: int = setting(
        2, "maximum attempts that get no further than those before them, including the first", at_least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.master and not re.match(r"local|spark://.|k8s://.|yarn$", self.master):
            self._refuse_master(self.master)
        if self.least_workers > self.workers:
            self.refuse("min_workers", self.min_workers, f"at most cluster.workers={self.workers}")
        if self.ports is not None and not self.port_range:
            expected = f"first-last, from {_LEAST_PORT} to {_LAST_PORT}"
            self.refuse("ports", self.ports, expected, "Set cluster.ports=40000-40099.")

    @property
    def least_workers(self) -> int:
        """The fewest ranks that train together."""
        return self.workers if self.min_workers is None else self.min_workers

    @property
    def port_range(self) -> range | None:
        """The ports of ``ports``; None where any will do, empty where it is no range of ports."""
        if self.ports is None:
            return None
        found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", self.ports)
        first, last = (int(found[1]), int(found[2])) if found else (0, 0)
        return range(first, last + 1) if first >= _LEAST_PORT and last <= _LAST_PORT else range(0)

    def require_master(self) -> None:
        """Raise UserError where the choice leaves the master to the command line, which has not given one."""
        if self.master == "" and "spark.master" not in self.spark:
            self._refuse_master("(nothing)")

    def _refuse_master(self, received: str) -> None:
        expected = "a Spark master: local[N], spark://host:port, yarn, or k8s://https://host:port"
        self.refuse("master", received, expected, "Set cluster.master=….")
