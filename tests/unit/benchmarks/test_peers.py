"""The comparison with peers: whose turn it is, which epochs count, and the ratios of the table."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peer_task import PeerResult, PeerTask

TASK = PeerTask(data="data.npz", classes=10, epochs=3, steps=5, global_batch=128, learning_rate=1e-3)


def epoch(number: int, speed: float, loss: float, split: str = "train") -> dict[str, object]:
    values = {"loss": loss, "accuracy": 0.5, "images_per_second": speed}
    return {"event": "epoch", "rank": 0, "split": split, "epoch": number, "step": 5 * number, "values": values}


def write(path: Path, events: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


def test_the_first_epoch_and_the_validation_do_not_count(tmp_path: Path) -> None:
    events = [
        epoch(1, 10.0, 2.0),
        epoch(1, 9999.0, 2.1, split="val"),
        {"event": "progress", "rank": 0, "split": "train", "epoch": 2, "values": {"images_per_second": 7777.0}},
        epoch(2, 640.0, 1.0),
        epoch(3, 320.0, 0.5),
    ]
    result = peers.ours_from(write(tmp_path / "metrics.jsonl", events), TASK)
    # An epoch is 5 × 128 = 640 images: 1 s for the second, 2 s for the third.
    assert (result.images, result.seconds, result.loss) == (1280, 3.0, 0.5)
    assert result.images_per_second == pytest.approx(1280 / 3)


@pytest.mark.parametrize("numbers", [[1, 2], [1, 2, 2, 3], [2, 3]], ids=["too few", "one came twice", "the first"])
def test_a_run_whose_epochs_are_not_those_of_the_task_is_not_measured(tmp_path: Path, numbers: list[int]) -> None:
    metrics = write(tmp_path / "metrics.jsonl", [epoch(number, 640.0, 1.0) for number in numbers])
    with pytest.raises(RuntimeError, match="Expected epochs 1 to 3"):
        peers.ours_from(metrics, TASK)


def test_every_side_begins_a_round_and_has_one_turn_in_each() -> None:
    turns: list[tuple[str, int]] = []

    def side(name: str) -> Callable[[int], PeerResult]:
        def take_turn(number: int) -> PeerResult:
            turns.append((name, number))
            return PeerResult(images=1, seconds=1.0, loss=0.0)

        return take_turn

    results = peers.in_turns({name: side(name) for name in "abc"}, rounds=4)
    assert turns[:9] == [
        ("a", 0), ("b", 0), ("c", 0),
        ("b", 1), ("c", 1), ("a", 1),
        ("c", 2), ("a", 2), ("b", 2),
    ]  # fmt: skip
    assert {name: len(runs) for name, runs in results.items()} == {"a": 4, "b": 4, "c": 4}


def test_ratios_are_taken_within_a_round_and_a_missing_package_is_named() -> None:
    def runs(*speeds: float) -> list[PeerResult]:
        return [PeerResult(images=100, seconds=100 / speed, loss=0.25) for speed in speeds]

    rows = peers.table({"ours": runs(100, 300, 200), "keras": runs(100, 200, 400)})
    assert [row[0] for row in rows[1:]] == [peer.title for peer in peers.PEERS]
    # 100/100, 300/200 and 200/400.
    assert rows[2][3] == "1.00 (0.50 to 1.50)"
    assert (rows[1][1], rows[3][1]) == tuple(f"skipped: {name} cannot be imported" for name in ("tf_keras", "torch"))


def test_two_networks_are_not_compared() -> None:
    def result(parameters: int | None) -> list[PeerResult]:
        return [PeerResult(images=1, seconds=1.0, loss=0.0, parameters=parameters)]

    peers.check_networks({"ours": result(None), "keras": result(7), "torch": result(7)})
    with pytest.raises(RuntimeError, match="keras 7, torch 8"):
        peers.check_networks({"ours": result(None), "keras": result(7), "torch": result(8)})
