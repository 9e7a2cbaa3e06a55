"""Fashion-MNIST from each of the places that may have it, and the checks on its files."""

import gzip
import hashlib
import io
import struct
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from distributed_cls.config import DataConfig
from distributed_cls.dataset import sources
from distributed_cls.dataset.sources import fashion_mnist
from distributed_cls.errors import UserError

TRAIN, TEST = 30, 10


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """The four files of a data set of the same form, and no place that has them yet."""
    random = np.random.default_rng(0)
    files = {}
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        files[f"{prefix}-images-idx3-ubyte"] = idx(random.integers(0, 256, (count, 28, 28), np.uint8))
        files[f"{prefix}-labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8) % 10)
    monkeypatch.setattr(fashion_mnist, "SUMS", {name: hashlib.md5(data).hexdigest() for name, data in files.items()})
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", str(tmp_path / "system"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return files


def place(folder: Path, files: dict[str, bytes], zipped: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / f"{name}{'.gz' * zipped}").write_bytes(gzip.compress(data, 1) if zipped else data)
    return folder


def listed(root: Path, path: Path | None = None) -> Any:
    config = DataConfig(source="fashion_mnist", path=path and str(path), image_size=28)
    return sources.list_images(config, str(root / "out")).table


@pytest.mark.parametrize("where", ["system", "keras/datasets/fashion-mnist"])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_first_place_that_has_it(tmp_path: Path, small: dict[str, bytes], where: str, zipped: bool) -> None:
    place(tmp_path / where, small, zipped)
    table = listed(tmp_path)
    assert table["split"].to_pylist() == [0] * TRAIN + [2] * TEST
    assert table["label"].to_pylist()[:10] == list(fashion_mnist.CLASSES)
    (file,) = (tmp_path / "out" / ".sources").iterdir()
    images = [cv2.imdecode(np.frombuffer(png, np.uint8), 0) for png in pq.read_table(file)["image"].to_pylist()]
    expected = np.frombuffer(small["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 28, 28)
    np.testing.assert_array_equal(np.stack(images[:TRAIN]), expected)
    assert listed(tmp_path).equals(table), "kept, and read again from there"


def test_the_place_that_is_given_comes_first(tmp_path: Path, small: dict[str, bytes]) -> None:
    place(tmp_path / "system", dict.fromkeys(small, b"other"))
    assert listed(tmp_path, place(tmp_path / "mine", small)).num_rows == TRAIN + TEST


def test_a_damaged_place_is_passed_over_with_a_line(
    tmp_path: Path, small: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    place(tmp_path / "system", {**small, "t10k-images-idx3-ubyte": b"other"})
    place(tmp_path / "keras/datasets/fashion-mnist", small)
    assert listed(tmp_path).num_rows == TRAIN + TEST
    assert "system is passed over" in caplog.text and "with MD5" in caplog.text


def test_a_download(tmp_path: Path, small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str, timeout: float) -> io.BytesIO:
        assert timeout > 0 and url.startswith(fashion_mnist.URL)
        return io.BytesIO(gzip.compress(small[url.removeprefix(fashion_mnist.URL).removesuffix(".gz")]))

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert listed(tmp_path).num_rows == TRAIN + TEST


def test_no_place_and_no_network_is_one_line(tmp_path: Path, small: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match=r"no route to host.*dataset-fashion-mnist.*data=digits") as caught:
        listed(tmp_path)
    assert ("\n" not in str(caught.value) and not (tmp_path / "out").exists()) or not list((tmp_path / "out").iterdir())
    broken = place(tmp_path / "mine", {**small, "t10k-labels-idx1-ubyte": b"x"})
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte with MD5"):
        listed(tmp_path, broken)
    (broken / "train-labels-idx1-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="without a readable train-labels-idx1-ubyte"):
        listed(tmp_path, broken)


@pytest.mark.skipif(not Path(fashion_mnist.SYSTEM_FOLDER).is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_files_have_the_sums_and_shapes() -> None:
    files = fashion_mnist.read_files(fashion_mnist.SYSTEM_FOLDER)
    assert fashion_mnist.idx(files["train-images-idx3-ubyte"]).shape == (60_000, 28, 28)
    counts = np.bincount(fashion_mnist.idx(files["t10k-labels-idx1-ubyte"]))
    assert counts.tolist() == [1000] * 10
