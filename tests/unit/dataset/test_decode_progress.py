"""Progress, from what the tasks leave in the work folder."""

from pathlib import Path

from distributed_cls.dataset import decode_progress, work


def test_what_a_killed_run_has_told_does_not_count(tmp_path: Path) -> None:
    (tmp_path / f"{work.PART}a-40.parquet").write_bytes(b"")
    (tmp_path / f"{work.PROGRESS}b-60").write_text("50")
    assert decode_progress.images_done(str(tmp_path)) == 90
    seen: list[tuple[int, int]] = []
    with decode_progress.reporting(lambda *told: seen.append(told), str(tmp_path), 0, 100):
        assert decode_progress.images_done(str(tmp_path)) == 40
        (tmp_path / f"{work.PROGRESS}b-60").write_text("3")
        assert decode_progress.images_done(str(tmp_path)) == 43
    assert seen[-1] == (100, 100)
