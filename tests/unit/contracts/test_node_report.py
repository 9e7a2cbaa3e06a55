"""What the tasks of ``job=doctor`` send each other comes back the same; damage is refused."""

import json

import pytest

from distributed_cls.contracts.node_report import (
    NodeReport,
    PeerFound,
    PlaceFound,
    ProbeResult,
    dump_probe,
    dumps,
    load_probe,
    loads,
)

PROBE = ProbeResult(gpus=1, latency_ms=0.5, mib_per_second=812.5)
BARE = NodeReport(0, "10.0.0.1", 4000, "node", {"java": "17"}, 4, 1, 9_000, 800, ["https_proxy"], [])
FULL = NodeReport(
    1,
    "10.0.0.2",
    4001,
    "näch",
    {"python": "3.11.7"},
    cores=8,
    gpus=0,
    available_mib=1,
    scratch_mib=0,
    proxies=[],
    places=[PlaceFound("dataset_root", "/data/ü", shared=False, trouble="no permission", free_mib=12)],
    clock=1_764_000_000.25,
    peers=[PeerFound(0, 0.2), PeerFound(2, trouble="timed out")],
    probe=PROBE,
)


def test_reports_and_probes_are_the_same_again() -> None:
    assert loads(dumps([BARE, FULL])) == [BARE, FULL]
    assert load_probe(dump_probe(PROBE)) == PROBE and "\n" not in dump_probe(PROBE)


@pytest.mark.parametrize("change", [{"rank": "0"}, {"clock": "now"}, {"peers": [{}]}, {"colour": 1}])
def test_a_damaged_report_is_refused(change: dict[str, object]) -> None:
    text = json.dumps([{**json.loads(dumps([FULL]))[0], **change}])
    with pytest.raises(ValueError, match="expected"):
        loads(text)
