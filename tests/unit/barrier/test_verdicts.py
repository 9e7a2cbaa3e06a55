"""What ``job=doctor`` says of a cluster, by what its ranks have reported: a table."""

import dataclasses
from typing import Any

import pytest

from distributed_cls.barrier.doctor import refuse_faults
from distributed_cls.barrier.verdicts import judge
from distributed_cls.config import ClusterConfig
from distributed_cls.contracts.doctor_report import Grade
from distributed_cls.contracts.node_report import NodeReport, PeerFound, PlaceFound, ProbeResult
from distributed_cls.errors import UserError

VERSIONS = {"python": "3.11.7", "java": "17.0.15", "tensorflow": "2.21.0", "keras": "3.15.1"}
PLACE = PlaceFound("dataset_root", "/shared/datasets", shared=True, free_mib=50_000)


def report(rank: int, **changed: Any) -> NodeReport:
    """A rank at which everything is well, on a machine of its own."""
    well = NodeReport(
        rank,
        host=f"10.0.0.{rank + 1}",
        port=40_000,
        name=f"node-{rank + 1}",
        versions=VERSIONS,
        cores=4,
        gpus=0,
        available_mib=12_000,
        scratch_mib=20_000,
        proxies=[],
        places=[PLACE],
        clock=1_000.0,
        peers=[PeerFound(1 - rank, 0.2)],
        probe=ProbeResult(0, 0.5, 900.0),
    )
    return dataclasses.replace(well, **changed)


def verdicts(changed: dict[str, Any], gpus: int = 0) -> dict[str, tuple[Grade, str, str]]:
    """The verdicts when the second of two ranks differs by ``changed``."""
    found = judge([report(0, gpus=gpus), report(1, **{"gpus": gpus, **changed})], ClusterConfig(gpus_per_worker=gpus))
    return {verdict.check: (verdict.grade, verdict.found, verdict.remedy) for verdict in found}


def test_a_cluster_at_which_all_is_well() -> None:
    found = verdicts({})
    assert {grade for grade, _, _ in found.values()} == {Grade.OK}
    assert found["ranks"][1] == "2: 1 on node-1 (10.0.0.1), 1 on node-2 (10.0.0.2); 4 cores each"
    assert found["network"][1] == "2 of 2 ways open, round trip at most 0.2 ms"
    assert all(remedy == "" for _, _, remedy in found.values())


@pytest.mark.parametrize(
    ("check", "grade", "changed", "words"),
    [
        ("versions", Grade.FAULT, {"versions": {**VERSIONS, "keras": "3.14.0"}}, "keras 3.15.1 (1) and 3.14.0 (1)"),
        ("versions", Grade.FAULT, {"versions": {**VERSIONS, "java": "21.0.1"}}, "java 17.0.15 (1) and 21.0.1 (1)"),
        ("versions", Grade.FAULT, {"versions": {**VERSIONS, "tensorflow": "not installed"}}, "tensorflow (on 1 of 2"),
        ("GPUs", Grade.FAULT, {"gpus": 1}, "Spark gives 1 to rank 1 (node-2), wanted are 0"),
        ("network", Grade.FAULT, {"peers": [PeerFound(0, trouble="10.0.0.1:40000: timed out")]}, "timed out"),
        ("folders", Grade.FAULT, {"places": [dataclasses.replace(PLACE, shared=False)]}, "another folder than the"),
        (
            "folders",
            Grade.FAULT,
            {"places": [dataclasses.replace(PLACE, trouble="Permission denied")]},
            "cannot be used",
        ),
        ("disk", Grade.WARNING, {"scratch_mib": 3}, "3 MiB free in the temporary folder of rank 1 (node-2)"),
        ("disk", Grade.WARNING, {"places": [dataclasses.replace(PLACE, free_mib=7)]}, "7 MiB free in dataset_root"),
        ("memory", Grade.WARNING, {"available_mib": 900}, "900 MiB available on 10.0.0.2 for 1 rank(s)"),
        ("clocks", Grade.WARNING, {"clock": 1_090.0}, "90.0 s apart"),
        ("all-reduce", Grade.FAULT, {"probe": ProbeResult(trouble="no sum within 300 s")}, "rank 1 (node-2): no sum"),
        ("all-reduce", Grade.WARNING, {"probe": ProbeResult(0, 31.0, 900.0)}, "one number in 31 ms"),
        ("all-reduce", Grade.WARNING, {"probe": ProbeResult(0, 0.5, 12.0)}, "16 MiB at 12 MiB/s"),
        ("proxies", Grade.OK, {"proxies": ["https_proxy"]}, "https_proxy set; not used between ranks"),
    ],
)
def test_what_is_wrong_with_one_rank_is_named(check: str, grade: Grade, changed: dict[str, Any], words: str) -> None:
    found = verdicts(changed)
    assert found[check][0] is grade and words in found[check][1]
    assert bool(found[check][2]) == (grade is not Grade.OK)
    assert all(name == check or other is Grade.OK for name, (other, _, _) in found.items())


def test_gpus_that_tensorflow_does_not_see() -> None:
    grade, found, remedy = verdicts({}, gpus=1)["GPUs"]
    assert grade is Grade.FAULT and found == "TensorFlow sees 0 of 1 on rank 0 (node-1)" and "gpu extra" in remedy


def test_two_ranks_on_one_machine_share_its_memory() -> None:
    found = judge([report(0), report(1, host="10.0.0.1", available_mib=2_000)], ClusterConfig())
    memory = next(verdict for verdict in found if verdict.check == "memory")
    assert memory.grade is Grade.WARNING and memory.found == "2,000 MiB available on 10.0.0.1 for 2 rank(s)"


def test_without_a_probe_the_sum_is_not_judged() -> None:
    assert judge([report(0, probe=None, peers=[])], ClusterConfig(workers=1))[-1].grade is Grade.UNKNOWN


def test_only_faults_are_refused() -> None:
    refuse_faults(judge([report(0), report(1, clock=2_000.0)], ClusterConfig()))
    with pytest.raises(UserError, match=r"Received: 1 fault\(s\): versions\. Install it on every node\."):
        refuse_faults(judge([report(0), report(1, versions={**VERSIONS, "keras": "not installed"})], ClusterConfig()))
