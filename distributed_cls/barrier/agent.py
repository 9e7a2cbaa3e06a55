"""What a barrier task does: meet the other ranks, start this rank's process, watch it to its end.

Runs in a Spark Python worker. Top-level and importable, so that Spark ships its name, not its code; what it is given
and what it returns is JSON text.
"""

import os
import signal
from typing import TYPE_CHECKING

from distributed_cls.barrier import rendezvous
from distributed_cls.barrier.rank_process import RankProcess, environment
from distributed_cls.barrier.relay import DriverConnection
from distributed_cls.config import plugins
from distributed_cls.contracts import rank_facts, rank_task
from distributed_cls.contracts.events import Failed, FailureKind, Phase, PhaseStarted, ProcessStarted
from distributed_cls.contracts.rank_task import RankAssignment, RankTask, StageAnswer

if TYPE_CHECKING:
    from pyspark import BarrierTaskContext

_ROOT_CAUSE_GRACE_SECONDS = 15.0


class RankFailed(RuntimeError):
    """A rank's process ended without a result. The driver has the details from the relay."""


def run_rank(*, task: str, address: tuple[str, int], secret: str) -> str:
    """Run this barrier task's rank of ``task`` (``contracts/rank_task.py``); a ``StageAnswer`` as JSON text."""
    # Only a Spark Python worker has it.
    from pyspark import BarrierTaskContext

    plugins.import_all(rank_task.plugins_of(task))  # they register the settings that the task holds
    return rank_task.dump_answer(_run(BarrierTaskContext.get(), rank_task.load_task(task), address, secret))


def _run(context: "BarrierTaskContext", task: RankTask, address: tuple[str, int], secret: str) -> StageAnswer:
    rank = context.partitionId()
    connection = DriverConnection(address, secret, rank)
    try:
        with rendezvous.held_port() as port:
            host = rendezvous.own_address(address)
            connection.send(PhaseStarted(phase=Phase.RENDEZVOUS, host=host))
            own = rendezvous.local_facts(host, port, task.dataset, task.run_folder)
            everyone = [rank_facts.loads(text) for text in context.allGather(rank_facts.dumps(own))]
            refusal = rendezvous.refusal(everyone, task.fingerprint, task.config.cluster.gpus_per_worker)
            if refusal:
                return StageAnswer(refusal=refusal)
            assignment = RankAssignment(task, rank, len(everyone), os.getpid())
            hosts = [facts.host for facts in everyone]
            variables = environment(rendezvous.tf_config(everyone, rank), task.threads, hosts, task.plugins)
            process = RankProcess(rank_task.dump_assignment(assignment), variables, connection)
            connection.send(ProcessStarted(host=host, pid=process.process.pid))
            try:
                if process.wait():
                    # TensorFlow takes a peer that leaves for one that died: all leave together.
                    context.barrier()
                    process.leave()
                    return StageAnswer(process.result)
            finally:
                process.stop()
        ending = _describe_exit(process.process.returncode)
        if process.failure is None:
            connection.send(Failed(failure=FailureKind.DIED, message=f"its process ended with {ending}"))
        # The driver closes the connection once it has heard the other ranks; Spark would end them before that.
        connection.closed.wait(_ROOT_CAUSE_GRACE_SECONDS)
        raise RankFailed(f"rank {rank} on {host} ended with {ending}")
    finally:
        connection.close()


def _describe_exit(code: int) -> str:
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"signal {signal.Signals(-code).name}{hint}"
    return f"exit code {code}"
