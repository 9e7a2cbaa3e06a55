"""The pods of a session's executors, as Kubernetes tells of them: what holds them up, and what memory they may use."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_cls.spark import internals
from distributed_cls.spark.properties import OWN_LOG
from distributed_cls.text import shortened

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# A container waits for these whenever it starts.
_STARTING = ("ContainerCreating", "PodInitializing")
_IMAGE = re.compile(r"ErrImage|ImagePull|InvalidImageName|ImageInspect|RegistryUnavailable")
# What the API server answers to who may not make a pod: no rights, a quota, a policy.
_FORBIDDEN = re.compile(r"Message: (pods \S+ is forbidden: .*?)(?:\. Received status: .*)?$", re.MULTILINE)
_LOG_BYTES = 2**18
_MAX_CHARACTERS = 300


def why_slots_are_missing(spark: "SparkSession", starting: bool = True) -> str | None:
    """What holds up the executors of a session on Kubernetes, with the remedy; None elsewhere, or when nothing does.

    starting: whether to tell as well of pods that are merely not yet there, as at every start.
    """
    pods = _pods(spark)
    if pods is None:
        return None
    conf = spark.sparkContext.getConf()
    trouble = what_holds_up(pods, _end_of(conf.get(OWN_LOG, None)))
    return trouble or (how_far(pods, str(conf.get("spark.driver.host", None))) if starting else None)


def memory_limit(spark: "SparkSession") -> str | None:
    """The memory limit of an executor's pod, as Kubernetes writes it (``4505Mi``); None elsewhere, or without one."""
    containers = (container for pod in _pods(spark) or () for container in pod["spec"]["containers"])
    limits = (container.get("resources", {}).get("limits", {}).get("memory") for container in containers)
    return next(filter(None, limits), None)


def _pods(spark: "SparkSession") -> list[dict[str, Any]] | None:
    """The pods as JSON objects; None on another cluster, and when the API server does not answer."""
    if not str(spark.sparkContext.master).startswith("k8s://"):
        return None
    try:
        return list(json.loads(internals.executor_pods(spark))["items"])
    except Exception as error:  # the client's, of many types; without its answer there is less to tell, no more
        log.debug("The pods of the executors cannot be listed: %s", error)
        return None


def what_holds_up(pods: Sequence[Mapping[str, Any]], spark_log: str) -> str | None:
    """What keeps one of ``pods`` (JSON objects) from its work, or Spark from making any. Pure."""
    refused = _FORBIDDEN.findall(spark_log)
    if not pods and refused:
        return f"Spark may not make pods: {_one_line(refused[-1])}."
    return next(filter(None, (_held_up(pod["metadata"]["name"], pod.get("status", {})) for pod in pods)), None)


def how_far(pods: Sequence[Mapping[str, Any]], driver: str) -> str:
    """How far ``pods`` without any trouble have come. ``driver``: the address that executors connect to. Pure."""
    if not pods:
        return "There are no pods of executors; Spark's log says why."
    phases = [pod.get("status", {}).get("phase") for pod in pods]
    if "Running" in phases:
        return (
            f"{phases.count('Running')} of {len(phases)} pods run. An executor that runs and does not register cannot "
            f"reach the driver at {driver} (spark.driver.host), or is still starting."
        )
    return f"{phases.count('Pending')} of {len(phases)} pods are being started; see kubectl describe pod."


def _held_up(name: str, status: Mapping[str, Any]) -> str | None:
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return (
                f"No node takes the pod {name}: {_one_line(condition.get('message', ''))} Give the cluster such a "
                "node, or ask for less (spark.executor.memory, .memoryOverhead, .cores, node selectors)."
            )
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        state = container.get("state", {})
        waiting, ended = state.get("waiting", {}), state.get("terminated", {})
        if waiting.get("reason") and waiting["reason"] not in _STARTING:
            return f"The pod {name} waits: {_told(waiting)}. {_remedy(name, waiting['reason'])}"
        if ended.get("exitCode"):
            return (
                f"The pod {name} has ended with exit code {ended['exitCode']}: {_told(ended)}. See kubectl logs {name}."
            )
    if status.get("phase") == "Failed":  # evicted by its node, which tells it of the pod and not of its container
        return f"The pod {name} has failed: {_told(status)}."
    return None


def _told(state: Mapping[str, Any]) -> str:
    return _one_line(": ".join(filter(None, [state.get("reason"), state.get("message")])) or "no reason given")


def _remedy(name: str, reason: str) -> str:
    if _IMAGE.search(reason):
        return "Set spark.kubernetes.container.image to an image that the nodes can pull."
    return f"See kubectl describe pod {name}."


def _end_of(path: str | None) -> str:
    """The end of a log; empty when it is not there, as with a JVM that somebody else has started."""
    if path is None or not Path(path).is_file():
        return ""
    with Path(path).open("rb") as stream:
        stream.seek(max(0, Path(path).stat().st_size - _LOG_BYTES))
        return stream.read().decode("utf-8", errors="replace")


def _one_line(text: str) -> str:
    return shortened(" ".join(text.split()), _MAX_CHARACTERS)
