"""``launch.program.run`` refuses what the command line refuses, before anything is started or written."""

from pathlib import Path

import pytest

from distributed_cls.errors import UserError
from launch.program import run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "Unknown setting train.epoch. Did you mean train.epochs?"),
        ("model=huge", "Expected model to be one of backbone, cnn, dense, resnet, resnet_small. Received: model=huge."),
        ("train.epochs=three", "train.epochs must be a whole number; got 'three'."),
        ("data.image_size=0", "Expected data.image_size"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_no_folder(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run(override)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
