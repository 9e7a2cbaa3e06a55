"""The file that a training begins from: by path, run folder, URL, and Keras's name for ImageNet."""

import hashlib
import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import pytest
from keras.src.legacy.saving import legacy_h5_format

from distributed_cls import weights_file
from distributed_cls.config import Config, DataConfig
from distributed_cls.config.registry import ModelSettings
from distributed_cls.errors import UserError
from distributed_cls.models import applications
from distributed_cls.models.backbone import BackboneConfig
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.models.dense import DenseConfig


def config(model: ModelSettings) -> Config:
    return Config(model=model, data=DataConfig(image_size=32))


def cnn(weights: object) -> Config:
    return config(CnnConfig(weights=str(weights)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model, and its weights in the other formats."""
    folder = tmp_path_factory.mktemp("runs") / "earlier"
    (folder / "model").mkdir(parents=True)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.save(folder / "model" / "model.keras")
    model.save_weights(folder / "some.weights.h5")
    with h5py.File(folder / "old.hdf5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return folder


@pytest.fixture
def server(stored: Path) -> Iterator[str]:
    """Serves ``stored`` on the loopback; an address that begins with /half sends half of what it promises."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(stored))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            half = self.path.startswith("/half")
            if not half:
                return super().do_GET()
            content = (stored / self.path.removeprefix("/half/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            return None

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_without_weights_there_is_no_file(tmp_path: Path) -> None:
    for model in (DenseConfig(), CnnConfig(), BackboneConfig()):
        assert weights_file.provide(config(model), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("", "start.keras"),
        ("model", "start.keras"),
        ("model/model.keras", "start.keras"),
        ("some.weights.h5", "start.weights.h5"),
        ("old.hdf5", "start.h5"),
    ],
)
def test_a_file_of_this_machine_is_copied_under_a_name_that_tells_its_format(
    tmp_path: Path, stored: Path, source: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    provided = weights_file.provide(cnn(stored / source), tmp_path)
    assert provided == str(tmp_path / "weights" / name)
    original = stored / source / {"": "model/model.keras", "model": "model.keras"}.get(source, "")
    content = Path(provided).read_bytes()
    assert content == original.read_bytes()
    assert hashlib.sha256(content).hexdigest() in caplog.text
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [name]


def test_a_run_that_is_started_again_keeps_its_file(tmp_path: Path, stored: Path) -> None:
    copied = tmp_path / "some.weights.h5"
    copied.write_bytes((stored / "some.weights.h5").read_bytes())
    first = weights_file.provide(cnn(copied), tmp_path / "run")
    copied.unlink()
    assert weights_file.provide(cnn(copied), tmp_path / "run") == first


def test_a_file_of_the_web_is_downloaded_once(tmp_path: Path, stored: Path, server: str) -> None:
    url = f"{server}/some.weights.h5"
    first = weights_file.provide(cnn(url), tmp_path / "0")
    assert first is not None and Path(first).read_bytes() == (stored / "some.weights.h5").read_bytes()
    renamed = (stored / "some.weights.h5").rename(stored / "away")
    try:  # another trial of the same sweep
        second = weights_file.provide(cnn(url), tmp_path / "1")
    finally:
        renamed.rename(stored / "some.weights.h5")
    assert second is not None and Path(second).read_bytes() == Path(first).read_bytes()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("{server}/none.h5", "HTTP Error 404|File not found|Not Found"),
        ("{server}/half/some.weights.h5", "bytes, then the connection ended|more expected|IncompleteRead"),
        ("http://127.0.0.1:9/some.h5", "Connection refused"),
    ],
)
def test_what_cannot_be_downloaded_is_one_line(tmp_path: Path, server: str, address: str, expected: str) -> None:
    url = address.format(server=server)
    with pytest.raises(UserError, match=expected) as raised:
        weights_file.provide(cnn(url), tmp_path)
    assert url in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.h5").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    with pytest.raises(UserError, match=r"a file that Keras wrote .*picture\.h5, which begins with b'\\x89PNG"):
        weights_file.provide(cnn(tmp_path / "picture.h5"), tmp_path / "run")
    with pytest.raises(UserError, match=r"model\.weights to be null, a run folder, .* Received: .*nothing\.h5"):
        weights_file.provide(cnn(tmp_path / "nothing.h5"), tmp_path / "run")
    with pytest.raises(UserError, match=r"a run with an exported model .* no .*model\.keras"):
        weights_file.provide(cnn(tmp_path), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


# ── ImageNet ────────────────────────────────────────────────────────────────────────────────────────────────────────

MOBILE = BackboneConfig(weights="imagenet", alpha=0.35)


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for Keras's downloads, and no way to the network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "keras"


def test_imagenet_weights_are_what_keras_downloads(tmp_path: Path, keras_home: Path) -> None:
    downloads = keras_home / "models"
    downloads.mkdir(parents=True)
    keras.utils.set_random_seed(1)
    original = applications.make("MobileNetV2", 32, 0.35)
    # Under this name, and in this format, Keras keeps them.
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    with h5py.File(downloads / name, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, original)
    provided = weights_file.provide(config(MOBILE), tmp_path / "run")
    assert provided == str(tmp_path / "run" / "weights" / "start.weights.h5")
    loaded = applications.make("MobileNetV2", 32, 0.35)
    loaded.load_weights(provided)
    for one, other in zip(loaded.get_weights(), original.get_weights(), strict=True):
        assert (one == other).all()
    (downloads / name).unlink()  # the next run does not even ask Keras
    assert weights_file.provide(config(MOBILE), tmp_path / "next")


def test_without_a_network_it_is_one_line(tmp_path: Path, keras_home: Path) -> None:
    with pytest.raises(UserError) as raised:
        weights_file.provide(config(MOBILE), tmp_path / "run")
    message = str(raised.value)
    assert message.startswith("Expected to download the ImageNet weights of MobileNetV2 (model.weights=imagenet).")
    assert "storage.googleapis.com" in message and "Without a network, set model.weights" in message
    assert "\n" not in message
    assert not list((keras_home / "models" / "distributed_cls").glob("*.h5"))
