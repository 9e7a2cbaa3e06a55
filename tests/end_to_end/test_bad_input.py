"""What a user can get wrong: one line that says what to do, exit code 2, nothing half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.conftest import Ended, Launcher


def write_classes(root: Path, classes: dict[str, int]) -> Path:
    """A folder with ``classes``: name → number of images, no two alike."""
    rng = np.random.default_rng(len(classes))
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        (["-m", "train.epocs=3,4"], ["train.epocs", "train.epochs"]),
        (["job=evaluate", "model_dir=/nowhere"], ["model_dir", "no such file"]),
        (["hydra.run.dir=/proc/nowhere/run"], ["run folder", "hydra.run.dir"]),
        (["model.weights=/nowhere.h5"], ["model.weights=/nowhere.h5", "there is no /nowhere.h5"]),
        (["model=resnet", "cluster=gpu4"], ["4 GPU", "Received", "0"]),
    ],
)
def test_a_wrong_setting_is_one_line(launch: Launcher, arguments: list[str], telling: list[str]) -> None:
    ended = launch(*arguments)
    assert ended.code == 2, ended.output
    assert len(ended.errors) == 1
    assert ended.lines[-1] == ended.errors[0]
    assert "Traceback" not in ended.output
    for words in telling:
        assert words in ended.errors[0]
    assert ended.folder is None  # nothing is left of a command that was refused


def test_a_search_without_one_good_trial_ends_with_its_table(launch: Launcher) -> None:
    """And off a terminal without escape codes or lines of the sweeper's own."""
    ended = launch("-m", "experiment=search", "hydra.sweeper.n_trials=2", "data=folder", "data.path=/nowhere")
    assert ended.code == 2, ended.output
    assert ["/nowhere" in row["reason"] for row in ended.trials] == [True, True]
    for noise in ("\x1b", "Failed experiment", "No trials are completed", "Sampler", "A new study"):
        assert noise not in ended.output


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Image folders that cannot be prepared, by what is wrong with them."""
    root = tmp_path_factory.mktemp("folders")
    (root / "empty").mkdir()
    return {
        "missing": root / "missing",
        "empty": root / "empty",
        "single": write_classes(root / "single", {"only": 10}),
        "few": write_classes(root / "few", {"plenty": 10, "scarce": 2}),
        "good": write_classes(root / "good", {"one": 12, "two": 12}),
    }


@pytest.fixture(scope="module")
def empty_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset_root in which nothing is prepared."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def refused(launch_once: Callable[..., Ended], folders: dict[str, Path], empty_root: Path) -> dict[str, str]:
    """Why each of the folders was refused: one sweep over all of them, in one Spark session."""
    bad = {name: path for name, path in folders.items() if name != "good"}
    paths = ",".join(str(path) for path in bad.values())
    chosen = ("job=prepare", f"dataset_root={empty_root}", "data=folder", "data.image_size=32", f"data.path={paths}")
    ended = launch_once("-m", *chosen)
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    return {name: row["reason"] for name, row in zip(bad, ended.trials, strict=True)}


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("missing", ["missing"]),
        ("empty", ["empty"]),
        ("single", ["only"]),
        ("few", ["scarce", "2"]),
    ],
)
def test_a_folder_that_cannot_be_prepared(
    refused: dict[str, str], empty_root: Path, name: str, telling: list[str]
) -> None:
    assert "\n" not in refused[name]
    assert "Received" in refused[name]
    for words in telling:
        assert words in refused[name]
    assert not list(empty_root.glob("folder-*"))


def test_damage_to_a_prepared_data_set_is_named(launch: Launcher, folders: dict[str, Path]) -> None:
    """A shard with a flipped bit, which a rank finds; a manifest that is cut, which the driver finds."""
    common = (
        "data=folder",
        "data.image_size=32",
        f"data.path={folders['good']}",
        "train.epochs=1",
        "cluster.workers=1",
    )
    sound = launch.folder / "sound"
    prepared = Path(launch(*common, "job=prepare", f"dataset_root={sound}").summary["dataset"]["path"])
    shard = next(prepared.glob("train-*.tfrecord")).name

    def flip(folder: Path) -> None:
        data = bytearray((folder / shard).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / shard).write_bytes(data)

    def cut_manifest(folder: Path) -> None:
        (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:100])

    damages = {flip: shard, cut_manifest: "manifest.json"}
    roots = []
    for damage in damages:
        root = launch.folder / damage.__name__
        shutil.copytree(sound, root)
        damage(root / prepared.name)
        roots.append(str(root))
    ended = launch("-m", *common, "train.batch_size=4", f"dataset_root={','.join(roots)}")
    rows = ended.trials
    assert ended.code == 2, ended.output
    for row, telling in zip(rows, damages.values(), strict=True):
        assert row["status"] == "failed"
        assert telling in row["reason"]
        assert "\n" not in row["reason"]


def test_a_data_set_root_that_cannot_be_written(launch: Launcher, folders: dict[str, Path]) -> None:
    (launch.folder / "file").write_text("not a folder")
    ended = launch("data=folder", f"data.path={folders['good']}", f"dataset_root={launch.folder / 'file' / 'sets'}")
    assert ended.code == 2, ended.output
    assert len(ended.errors) == 1
    assert "dataset_root" in ended.errors[0]
    assert "Spark 4" not in ended.output  # it is known before
