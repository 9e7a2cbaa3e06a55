"""Progress, from what the tasks leave in the work folder."""

from pathlib import Path

from distributed_cls.dataset import decode_progress, work
from distributed_cls.dataset.shard_plan import DecodePart


def test_counts_of_a_killed_run_are_not_taken_for_progress(tmp_path: Path) -> None:
    parts = [DecodePart("a", 40, b""), DecodePart("b", 60, b"")]
    images = {f"{work.PART}{part.name}.parquet": part.images for part in parts}
    (tmp_path / f"{work.PART}a.parquet").write_bytes(b"")
    (tmp_path / f"{work.PART}other.parquet").write_bytes(b"")  # of an earlier run: not among the parts of this one
    (tmp_path / f"{work.PROGRESS}b").write_text("50")
    assert decode_progress.images_done(str(tmp_path), images) == 90
    seen: list[tuple[int, int]] = []
    with decode_progress.reporting(lambda *counts: seen.append(counts), str(tmp_path), parts, 120):
        assert decode_progress.images_done(str(tmp_path), images) == 40
        (tmp_path / f"{work.PROGRESS}b").write_text("3")
        assert decode_progress.images_done(str(tmp_path), images) == 43
    assert seen[-1] == (120, 120)
