"""Settings as they are typed: read as meant, or one line that names setting and value. And limits, exactly."""

from pathlib import Path
from typing import Any

import pytest

from distributed_cls.config import DataConfig
from distributed_cls.errors import UserError
from launch import composition_errors

from ..launch.conftest import Composed, composed  # noqa: F401 - a fixture
from .conftest import Prepared, kept_by_class, picture


def value_of(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


MEANT: list[dict[str, Any]] = [  # each line is one command line
    {"train.flip=yes": True, "train.epochs=1_0": 10, "train.learning_rate=.5": 0.5, "data.image_size=8": 8},
    {"train.flip=on": True, "train.epochs=010": 10, "train.learning_rate=5.": 5.0, "data.image_size=2048": 2048},
    {"train.flip=TRUE": True, "train.epochs=+3": 3, "train.learning_rate=1_0.5": 10.5, "serve.port=0": 0},
    {"train.flip=1": True, "train.epochs='3'": 3, "train.learning_rate='1e-3'": 0.001, "serve.port=65535": 65535},
    {"train.flip=no": False, "data.near_duplicates=null": None, "data.max_reject_fraction=0": 0.0},
    {"train.flip=off": False, "data.near_duplicates=0": 0, "data.max_reject_fraction=1": 1.0, "serve.host=::1": "::1"},
    {"train.flip=0": False, "data.near_duplicates=24": 24, "data.split=[.7,.2,.1]": [0.7, 0.2, 0.1]},
    {"train.flip=n": False, "data.split=['0.7','0.2',1e-1]": [0.7, 0.2, 0.1], "data.split_salt=''": ""},
    {
        "data.split=[0.7,0.15,0.1500009]": [0.7, 0.15, 0.1500009],
        "data.name='Ü車'": "Ü車",
        "serve.unclear_below=.5": 0.5,
    },
    {"data.split=[0.7,0.15,0.1499991]": [0.7, 0.15, 0.1499991], "++data.name=x": "x", "data.split_salt='1e3'": "1e3"},
    {"train.epochs=3": 4, "train.epochs=4": 4},  # of a setting that is given twice the last counts
]


@pytest.mark.parametrize("typed", MEANT, ids=" ".join)
def test_a_value_is_read_as_it_is_meant(composed: Composed, typed: dict[str, Any]) -> None:  # noqa: F811
    config = composed(*typed)
    for override, value in typed.items():
        found = value_of(config, override.partition("=")[0].lstrip("+"))
        assert found == value and type(found) is type(value), override


LONG = "a" * 129
WRONG = [
    *((f"train.epochs={typed}", f"must be a whole number; got '{typed}'") for typed in ("1e3", "1.0", "inf", "1__0")),
    *(("train.epochs=[3]", "a whole number; got '[3]'"), ("train.epochs=true", "got 'true'")),
    *(("train.epochs=-3", ">= 1"), ("train.epochs=3,4", "For several trials add -m"), ("train.epochs=１２", "'１２'")),
    *(
        (f"train.learning_rate={typed}", "to be finite. Received: train.learning_rate=inf")
        for typed in ("inf", "1e400")
    ),
    *(("train.learning_rate=-0", "to be a value > 0"), ("train.learning_rate=1e", "must be a number")),
    *(("serve.timeout=inf", "to be finite"), ("data.shard_megabytes=inf", "to be finite")),
    *(("serve.unclear_below=nan", ">= 0"), ("data.max_reject_fraction=1.0000001", "<= 1")),
    *(("data.split=[nan,0.5,0.5]", "to be finite"), ("data.split=[inf,-inf,1]", "to be finite")),
    *((f"data.split=[0.7,0.15,{last}]", "that sum to 1") for last in ("0.1500020", "0.1499980")),
    *(("data.split=[1,0,0]", "above 0"), ("data.split=[]", "three fractions"), ("data.split=null", "have a value")),
    *(("data.split=[0.7 0.2 0.1]", "data.split[0] must be a number"), ("data.split=0.7,0.2,0.1", "add -m")),
    *((f"data.name={typed}", "data.name to be letters") for typed in ("''", "..", "-a", "a b", LONG, "'a\nb'")),
    *(("data.near_duplicates=off", "whole number"), ("data.near_duplicates=25", "<= 24")),
    *(("data.image_size=7", ">= 8"), ("data.image_size=2049", "<= 2048"), ("data.shards=0", ">= 1")),
    *(("data.resize=Stretch", "one of stretch, crop, pad"), ("data.path", "Expected key=value")),
    *(("serve.port=65536", "<= 65535"), ("serve.root_path=/a/", "without a / at its end")),
]


@pytest.mark.parametrize(("typed", "words"), WRONG)
def test_a_value_that_cannot_be_meant_is_one_line(composed: Composed, typed: str, words: str) -> None:  # noqa: F811
    with pytest.raises(Exception) as raised:
        composed(typed)
    line = composition_errors.one_line(raised.value)
    assert words.lower() in line.lower() and "\n" not in line
    assert typed.partition("=")[0] in line


def test_the_longest_name_of_a_data_set_is_one_that_the_disk_takes(prepared: Prepared, tmp_path: Path) -> None:
    root = folders(tmp_path / "in", cat=6, dog=6)
    name = "車" * 42 + "ab"  # 128 bytes
    assert Path(prepared(root, name=name).path).name.startswith(f"{name}-")
    with pytest.raises(UserError, match="at most 128 bytes"):
        DataConfig(name=name + "c")


def folders(root: Path, **counts: int) -> Path:
    """Class folders with so many pictures each, no two alike."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for image in range(count):
            (root / name / f"{image}.png").write_bytes(picture(100 * number + image))
    return root


@pytest.mark.parametrize(
    ("fractions", "least"), [([0.7, 0.15, 0.15], 5), ([0.4, 0.3, 0.3], 3), ([0.9, 0.05, 0.05], 14)]
)
def test_a_class_has_the_fewest_images_that_fill_its_splits(
    prepared: Prepared, tmp_path: Path, fractions: list[float], least: int
) -> None:
    root = folders(tmp_path / "in", cat=least, dog=least)
    assert kept_by_class(prepared(root, split=fractions)) == {"cat": least, "dog": least}
    (root / "cat" / "0.png").unlink()
    with pytest.raises(UserError, match=f"at least {least} images per class.*class cat with {least - 1}"):
        prepared(root, split=fractions)


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_as_many_rejects_as_the_limit_says_are_left_out(prepared: Prepared, tmp_path: Path, bad: int) -> None:
    root = folders(tmp_path / "in", cat=16 - bad, dog=16)
    for number in range(bad):
        (root / "cat" / f"bad{number}.png").write_bytes(b"no image")
    if bad:
        message = rf"Received: {bad} of 32 \(not_an_image {bad}; for example cat/bad0\.png: starts with 'no image'\)"
        with pytest.raises(UserError, match=message):
            prepared(root, max_reject_fraction=(bad - 0.01) / 32)
    assert kept_by_class(prepared(root, max_reject_fraction=bad / 32)) == {"cat": 16 - bad, "dog": 16}


def test_a_single_class_is_told_before_anything_is_decoded(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at least two classes\. .* with the single class cat"):
        prepared(folders(tmp_path / "in", cat=6))
    assert not (tmp_path / "prepared").exists()
