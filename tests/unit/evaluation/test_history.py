"""Reading metrics.jsonl back, also when it was cut off, restarted or damaged."""

import json
from pathlib import Path

import pytest

from distributed_cls.evaluation.history import History, read_history

from .support import events


def written(folder: Path, text: str) -> Path:
    path = folder / "metrics.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def lines(*extra: dict[str, object], epochs: int = 3) -> str:
    return "".join(json.dumps(line) + "\n" for line in [*events(epochs), *extra])


def test_curves_are_what_was_written(tmp_path: Path) -> None:
    history = read_history(written(tmp_path, lines()))
    assert history.per_epoch("val", "accuracy") == [(1, 0.5), (2, 0.75), (3, 1 - 0.5 / 3)]
    assert history.per_epoch("train", "loss") == [(1, 2), (2, 1), (3, 2 / 3)]
    assert history.learning_rate() == [(10, 0.001), (20, 0.0005), (30, 0.001 / 3)]
    assert history.throughput()[:2] == [(0, 2401), (1, 2402)] and len(history.throughput()) == 12


def test_a_repeated_epoch_counts_as_last_seen(tmp_path: Path) -> None:
    again = {
        "event": "epoch",
        "split": "val",
        "epoch": 2,
        "step": 20,
        "time": 1.8e9,
        "values": {"loss": 1, "accuracy": 0.9},
    }
    assert read_history(written(tmp_path, lines(again))).per_epoch("val", "accuracy")[1] == (2, 0.9)


def test_values_that_cannot_be_drawn_are_left_out(tmp_path: Path) -> None:
    """A release before this one wrote NaN, which Python's reader takes."""
    broken = {"event": "epoch", "split": "val", "epoch": 1, "step": 1, "time": 1.0}
    values = {"loss": float("nan"), "accuracy": 0.5}
    untimed = {"loss": 1, "accuracy": 0.5, "images_per_second": 0}
    first = {"event": "progress", "epoch": 1, "epochs": 3, "step": 1, "steps": 30, "time": 1.0, "values": untimed}
    phase = {"event": "phase", "phase": "train"}
    text = "".join(json.dumps(line) + "\n" for line in [{**broken, "values": values}, first, phase])
    history = read_history(written(tmp_path, text))
    assert history.per_epoch("val", "loss") == [] and history.throughput() == []
    assert history.per_epoch("val", "accuracy") == [(1, 0.5)]


def test_a_line_cut_off_at_the_end_is_left_out(tmp_path: Path) -> None:
    whole = read_history(written(tmp_path, lines()))
    assert read_history(written(tmp_path, lines() + '{"event": "epo')) == whole


@pytest.mark.parametrize("damage", ["{", "[]", '{"event": "epoch"}', '{"event": "epoch", "values": 5}'])
def test_damaged_lines_before_the_end_are_left_out_and_counted(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = read_history(written(tmp_path, lines()))
    assert not caplog.text
    assert read_history(written(tmp_path, f"{damage}\n{lines()}{damage}\n")) == whole
    assert "2 lines could not be read and left out (first: line 1)" in caplog.text and len(caplog.records) == 1


def test_a_resumed_run_may_have_written_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """The first event of the second start joins what is left of the first start's last one."""
    first, *rest = lines(epochs=2).splitlines(keepends=True)
    again = read_history(written(tmp_path, lines(epochs=1) + '{"event": "epo' + first + "".join(rest)))
    assert again.per_epoch("val", "accuracy") == [(1, 0.5), (2, 0.75)]


def test_a_line_ends_at_its_line_feed_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    note = '{"event": "note", "v": 2, "text": "Citro\u00ebn \u2028 \x85"}\n'
    assert read_history(written(tmp_path, note + lines())) == read_history(written(tmp_path, lines()))
    assert read_history(written(tmp_path, "")) == History() and not caplog.text


def test_no_file_is_an_empty_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "metrics.jsonl") == History()
