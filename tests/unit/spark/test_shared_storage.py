"""What executors see of folders: on one machine, with another folder in the place of another machine's."""

from pathlib import Path

import pytest

from distributed_cls import storage
from distributed_cls.spark import shared_storage
from distributed_cls.spark.shared_storage import Sight, look


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_storage, "_LATE_SECONDS", 0.0)


def _seen(place: str, marker: str) -> tuple[Sight, str | None]:
    (sight,) = look([({"dataset_root": place}, marker)])
    return sight, shared_storage._trouble(sight)


@pytest.mark.parametrize("url", [False, True])
def test_the_same_place_passes_and_nothing_is_left(url: bool, tmp_path: Path) -> None:
    place = "memory://bucket/place" if url else str(tmp_path / "ä b[1]")
    with storage.marked(place) as marker:
        for _ in range(2):  # two executors
            assert _seen(place, marker)[1] is None
    assert storage.names(place) == []
    sight, trouble = _seen(place, marker)
    assert trouble == f"which on the executor on {sight.host} is another folder than the driver's"


def test_what_an_executor_writes_must_reach_the_driver(tmp_path: Path) -> None:
    with storage.marked(str(tmp_path)) as marker:
        sight, _ = _seen(str(tmp_path), marker)
        assert sight.answer is not None
        Path(sight.answer).unlink()  # as where it was written to a layer of the executor's own
        assert "in which the driver does not see what" in str(shared_storage._trouble(sight))


def test_a_place_that_an_executor_cannot_open_says_why(tmp_path: Path) -> None:
    sight, trouble = _seen("nosuchstore://bucket/place", ".marker-1/driver")
    assert trouble is not None and trouble.startswith(f"which the executor on {sight.host} cannot use (Expected a path")


def test_several_folders_have_the_same_mark(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with storage.marked(str(first), str(second)) as marker, storage.marked(str(first)) as other:
        assert (first / marker).is_file() and (second / marker).is_file()
        assert (first / other).is_file() and not (second / other).exists()
    assert not list(first.iterdir()) and not list(second.iterdir())
