"""What a barrier task does: meet the other ranks, start this rank's process, watch it to its end.

Runs in a Spark Python worker. Top-level and importable, so that Spark ships its name, not its code.
"""

import json
import os
import signal
from typing import Any

from distributed_cls.barrier import rendezvous
from distributed_cls.barrier.rank_process import Child, environment
from distributed_cls.barrier.relay import Line

_HEARING_SECONDS = 15.0


class RankFailed(RuntimeError):
    """A rank's process ended without a result. The driver has the details from the relay."""


def run_rank(*, order: dict[str, Any], address: tuple[str, int], secret: str, fingerprint: str) -> dict[str, Any]:
    """Run this barrier task's rank of ``order``; its result, or ``{"refused": why}`` when the ranks do not fit."""
    from pyspark import BarrierTaskContext

    context = BarrierTaskContext.get()
    rank = context.partitionId()
    line = Line(address, secret, rank)
    try:
        with rendezvous.held_port() as port:
            host = rendezvous.own_address(address)
            line.send({"event": "phase", "name": "rendezvous", "host": host, "pid": os.getpid()})
            facts = rendezvous.local_facts(host, port, order["dataset"], order["run_folder"])
            everyone = [json.loads(text) for text in context.allGather(json.dumps(facts))]
            why = rendezvous.refusal(everyone, fingerprint, order["config"]["cluster"]["gpus_per_worker"])
            if why:
                return {"refused": why}
            own = {**order, "rank": rank, "world": len(everyone)}
            child = Child(own, environment(rendezvous.tf_config(everyone, rank), order["threads"]), line)
            line.send({"event": "started", "host": host, "pid": child.process.pid})
            try:
                if child.wait():
                    # TensorFlow takes a peer that leaves for one that died: all go together.
                    context.barrier()
                    child.leave()
                    assert child.result is not None
                    return child.result
            finally:
                child.stop()
        ending = _ending(child.process.returncode)
        if child.failure is None:
            line.send({"event": "failure", "kind": "died", "message": f"its process ended with {ending}"})
        # The driver hangs up once it has heard the other ranks; told earlier, Spark would end them unheard.
        line.hung_up.wait(_HEARING_SECONDS)
        raise RankFailed(f"rank {rank} on {host} ended with {ending}")
    finally:
        line.close()


def _ending(code: int) -> str:
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"signal {signal.Signals(-code).name}{hint}"
    return f"exit code {code}"
