"""What must hold before a barrier stage, on sessions of which only the answers are given."""

import itertools
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.spark import internals, preflight

_GPUS = "spark.executor.resource.gpu.amount"


def session(master: str = "spark://node:7077", **properties: str) -> Any:
    return SimpleNamespace(sparkContext=SimpleNamespace(master=master, getConf=lambda: properties))


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that passes only while somebody sleeps."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(preflight, "time", clock)
    return slept


def _found(monkeypatch: pytest.MonkeyPatch, *slots: int) -> None:
    """Slots at each look; the last number from then on."""
    answers = itertools.chain(slots, itertools.repeat(slots[-1]))
    monkeypatch.setattr(internals, "max_concurrent_tasks", lambda *_: next(answers))


def test_slots_are_waited_for_and_a_long_wait_is_told_once(
    monkeypatch: pytest.MonkeyPatch, waited: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    _found(monkeypatch, 0, *[1] * 20, 2)
    preflight.check(session(), ClusterConfig(workers=2, slot_timeout=60))
    assert len(waited) == 21
    assert caplog.messages == ["Waiting for slots: 1 of 2, for at most 60 s"]


def test_slots_that_are_there_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    _found(monkeypatch, 5)
    assert preflight.wait_for_slots(session(), ClusterConfig(workers=2)) == 2
    assert waited == []


def test_fewer_slots_will_do_after_the_wait_when_the_settings_say_so(
    monkeypatch: pytest.MonkeyPatch, waited: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    _found(monkeypatch, 2)
    cluster = ClusterConfig(workers=3, min_workers=2, slot_timeout=7)
    preflight.check(session(), cluster)
    assert waited == []  # enough to begin with; a stage waits for the others
    assert preflight.wait_for_slots(session(), cluster) == 2
    assert sum(waited) == 7
    assert caplog.messages[-1].startswith("There are slots for 2 of 3 workers: training with these")
    assert not preflight.has_all_slots(session(), cluster)
    _found(monkeypatch, 1)
    for refused in (preflight.check, preflight.wait_for_slots):
        with pytest.raises(
            UserError, match=r"^Expected 2 slots on spark://node:7077 \(cluster\.min_workers\)\. Rec.*: 1"
        ):
            refused(session(), cluster)
    with pytest.raises(UserError, match=r"Expected cluster\.min_workers to be at most cluster\.workers=3\. Received: "):
        ClusterConfig(workers=3, min_workers=4)


@pytest.mark.parametrize(
    ("master", "gpus", "found", "seconds", "message"),
    [
        (
            "spark://node:7077",
            0,
            1,
            7,
            "Expected 3 slots on spark://node:7077 (cluster.workers). Received: 1 after 7 s (cluster.slot_timeout). "
            "Set cluster.workers=1, or give the cluster more cores.",
        ),
        (
            "local-cluster[1,2,1024]",  # its executor registers some seconds after the start
            1,
            0,
            7,
            "Expected 3 slots with 1 GPU(s) each on local-cluster[1,2,1024] (cluster.workers). "
            "Received: 0 after 7 s (cluster.slot_timeout). "
            "Give the cluster more cores.",
        ),
        ("local[2]", 0, 2, 0, "Expected 3 slots on local[2] (cluster.workers). Received: 2. Set cluster.workers=2,"),
        ("local[2,4]", 0, 2, 0, "Expected 3 slots on local[2,4] (cluster.workers). Received: 2. "),
        ("local", 0, 1, 0, "Expected 3 slots on local (cluster.workers). Received: 1. "),
    ],
)
def test_too_few_slots_are_refused_after_the_limit_and_at_once_on_a_local_master(
    monkeypatch: pytest.MonkeyPatch,
    waited: list[float],
    master: str,
    gpus: int,
    found: int,
    seconds: float,
    message: str,
) -> None:
    _found(monkeypatch, found)
    with pytest.raises(UserError) as raised:
        preflight.wait_for_slots(session(master), ClusterConfig(workers=3, gpus_per_worker=gpus, slot_timeout=7))
    assert str(raised.value).startswith(message)
    assert sum(waited) == seconds


@pytest.mark.parametrize(
    ("properties", "gpus", "message"),
    [
        ({"spark.dynamicAllocation.enabled": "TRUE"}, 0, "Set spark.dynamicAllocation.enabled=false."),
        ({"spark.ssl.enabled": "true"}, 0, "Received: spark.ssl.enabled=true."),
        ({"spark.network.crypto.enabled": "True"}, 0, "set cluster.allow_plaintext_gradients=true."),
        ({}, 1, "Expected spark.executor.resource.gpu.amount of at least 1 (cluster.gpus_per_worker). Received: "),
        ({_GPUS: "1"}, 2, "Received: spark.executor.resource.gpu.amount=1. Set it in cluster.spark to the GPUs that"),
        ({"spark.task.resource.gpu.amount": "1"}, 1, "Received: spark.executor.resource.gpu.amount=0."),
    ],
)
def test_properties_that_a_barrier_stage_cannot_run_on(properties: dict[str, str], gpus: int, message: str) -> None:
    with pytest.raises(UserError) as raised:
        preflight.check(session(**properties), ClusterConfig(gpus_per_worker=gpus))
    assert message in str(raised.value)


def test_tasks_in_the_driver_get_no_gpus() -> None:
    with pytest.raises(UserError, match=r"Received: local\[4\], whose tasks run in the driver\. Set cluster\.master="):
        preflight.check(session("local[4]", **{_GPUS: "4"}), ClusterConfig(gpus_per_worker=1))


@pytest.mark.parametrize("cluster", [{"allow_plaintext_gradients": True}, {"workers": 1}])
def test_gradients_in_plain_text_are_accepted_or_do_not_travel(
    monkeypatch: pytest.MonkeyPatch, cluster: dict[str, Any]
) -> None:
    _found(monkeypatch, 2)
    preflight.check(session(**{"spark.network.crypto.enabled": "true"}), ClusterConfig(**cluster))


@pytest.mark.parametrize(
    ("master", "properties", "cluster", "threads"),
    [
        ("local[8]", {}, {"workers": 2}, 4),
        ("local[8,3]", {}, {"workers": 3}, 2),
        ("local[8]", {}, {"workers": 9}, 1),
        ("local[8]", {}, {"workers": 2, "cores_per_worker": 5}, 5),
        ("spark://h:1", {"spark.task.cpus": "3"}, {"workers": 2}, 3),
        ("local-cluster[1,8,1024]", {}, {"workers": 2}, 1),
    ],
)
def test_threads_of_a_rank(
    monkeypatch: pytest.MonkeyPatch, master: str, properties: dict[str, str], cluster: dict[str, Any], threads: int
) -> None:
    _found(monkeypatch, 8)
    assert preflight.threads_per_rank(session(master, **properties), ClusterConfig(**cluster)) == threads
