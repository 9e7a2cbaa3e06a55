"""Whether a command begins a run: then it may begin again when what it wrote is damaged."""

from pathlib import Path

import pytest

from distributed_cls.barrier.supervisor import _begins_here
from distributed_cls.config import Config, TrainConfig
from distributed_cls.contracts.rank_task import RankTask, Step


@pytest.mark.parametrize(
    ("file", "copies", "begins"),
    [
        (None, None, True),
        ("best.npz", None, True),
        ("last.npz", None, False),
        ("last-1.npz", None, False),
        (None, "s3://bucket/run", False),
    ],
)
def test_a_run_that_has_a_checkpoint_somewhere_was_begun_before(
    tmp_path: Path, file: str | None, copies: str | None, begins: bool
) -> None:
    (tmp_path / "checkpoints").mkdir()
    if file:
        (tmp_path / "checkpoints" / file).touch()
    config = Config(train=TrainConfig(checkpoint_dir=copies))
    assert _begins_here(RankTask(config, "/data", "1", str(tmp_path), (Step.TRAIN,))) is begins
