"""The main job as a user runs it: images in, a trained, exported and reported classifier out."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from distributed_cls.evaluation.labels import duration
from tests.end_to_end.conftest import Ended, Launcher

KEPT = ("status", "summary", "evaluation")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user on whose machine there is no Java."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def digits(home: Path, datasets: Path) -> Ended:
    """``python -m launch``, nothing chosen, with the java of the wheel because no other can be found, in a shell with a
    proxy that does not answer: nothing of a run may go through it."""
    tools = home / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "env", "dirname", "uname", "ps", "cat", "hostname", "readlink", "basename", "nproc"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {"PATH": str(tools), "JAVA_HOME": "", "XDG_CACHE_HOME": str(home / "cache"), **proxy}
    assert shutil.which("java", path=environment["PATH"]) is None
    return Launcher(home, datasets, environment)()


def test_digits_are_learned_by_two_workers(digits: Ended) -> None:
    summary = digits.summary
    assert summary["workers"] == 2
    assert summary["attempts"] == 1
    assert summary["test"]["accuracy"] >= 0.98
    assert summary["dataset"]["classes"] == [str(digit) for digit in range(10)]
    counted = {split: sum(classes.values()) for split, classes in summary["dataset"]["counts"].items()}
    assert sum(counted.values()) == 1797
    assert {split: summary[split]["examples"] for split in ("val", "test")} == {
        split: counted[split] for split in ("val", "test")
    }
    assert {"spark", "prepare", "rendezvous", "tensorflow", "tracing", "train", "total"} <= summary["seconds"].keys()


def test_without_a_system_java_that_of_the_wheel_runs(digits: Ended, home: Path) -> None:
    assert digits.code == 0
    assert list((home / "cache" / "distributed_cls").glob("java-*/bin/java"))


def test_the_run_folder_keeps_its_contract(digits: Ended) -> None:
    assert digits.folder is not None
    names = {path.name for path in digits.folder.iterdir()}
    assert {"summary.json", "metrics.jsonl", "evaluation.json", "report.html", "logs", "checkpoints", "model"} <= names
    assert "predictions.parquet" in names and "predictions" not in names  # what the ranks left is merged
    assert ".spark" not in names  # Spark's temporary files are gone
    assert {path.name for path in (digits.folder / "logs").iterdir()} == {"rank-0.log", "rank-1.log", "spark.log"}
    events = [json.loads(line) for line in (digits.folder / "metrics.jsonl").read_text().splitlines()]
    status = digits.json("status.json")
    assert (status["state"], status["step"]) == ("done", digits.summary["train"]["steps"])
    epochs = [event["epoch"] for event in events if event["event"] == "epoch" and event["split"] == "val"]
    assert epochs == list(range(1, digits.summary["train"]["epochs"] + 1))


def test_every_evaluated_image_has_its_own_prediction(digits: Ended) -> None:
    assert digits.folder is not None
    table = pq.read_table(digits.folder / "predictions.parquet").to_pylist()
    for split in ("val", "test"):
        rows = [row for row in table if row["split"] == split]
        assert len({row["path"] for row in rows}) == len(rows) == digits.summary[split]["examples"]
        assert sum(row["label"] == row["truth"] for row in rows) == digits.summary[split]["correct"]
    truth = load_digits().target
    for row in table:
        assert row["truth"] == str(truth[int(row["path"].split("#")[1])])  # the number of the row in their table
        confidences = [item["confidence"] for item in row["top"]]
        assert row["top"][0] == {"label": row["label"], "confidence": row["confidence"]}
        assert len(confidences) == 5 and confidences == sorted(confidences, reverse=True)
        assert 0 < sum(confidences) <= 1.000001
    evaluation = json.loads((digits.folder / "evaluation.json").read_text())
    wrong = {row["path"]: row for row in table if row["label"] != row["truth"]}
    mistakes = [item for split in ("val", "test") for item in evaluation["splits"][split]["mistakes"]]
    assert mistakes
    for item in mistakes:
        row = wrong[item["path"]]
        assert (row["truth"], row["label"]) == (str(item["true"]), str(item["predicted"]))
        assert row["confidence"] == pytest.approx(item["confidence"])


def test_report_panel_and_summary_agree_on_time_and_throughput(digits: Ended) -> None:
    assert digits.folder is not None
    page = (digits.folder / "report.html").read_text()
    time, rate = duration(digits.summary["seconds"]["total"]), digits.summary["train"]["images_per_second"]
    assert f"<dt>Wall time</dt><dd>{time}<" in page and f"<dt>Throughput</dt><dd>{rate:,.0f}<" in page
    assert any(line.strip("│ ").split() == ["time", *time.split()] for line in digits.lines)
    assert f"(kept: {digits.summary['train']['best_epoch']})" in digits.output
    assert f"job=serve model_dir={digits.folder.name}" in digits.output


def test_the_terminal_shows_lines_that_fit_and_no_noise(digits: Ended) -> None:
    assert "Traceback" not in digits.output
    assert "WARN" not in digits.output
    assert any("test" in line and "%" in line for line in digits.lines)


def test_the_export_agrees_with_the_evaluation(digits: Ended) -> None:
    """Encoded bytes through the SavedModel, against the prepared records through the Keras model."""
    import keras
    import tensorflow as tf

    from distributed_cls.contracts import manifest

    assert digits.folder is not None
    model = keras.models.load_model(digits.folder / "model" / "model.keras")
    exported = tf.saved_model.load(str(digits.folder / "model" / "saved_model")).signatures["serving_default"]
    path = digits.summary["dataset"]["path"]
    files = [str(Path(path, shard.file)) for shard in manifest.load(path).shards["test"]]
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    records = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(files)]
    stored = [record["image"].numpy() for record in records]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in stored])[..., None]
    expected = model.predict(pixels.astype("float32"), verbose=0)
    answered = exported(image_bytes=tf.constant(stored))["probabilities"].numpy()
    np.testing.assert_allclose(answered, expected, atol=1e-5)
    labels = np.array([int(record["label"]) for record in records])
    assert int((answered.argmax(1) == labels).sum()) == digits.summary["test"]["correct"]


def test_original_files_get_the_probabilities_of_their_prepared_images(digits: Ended) -> None:
    """The graph decodes, resizes and (for the grey digits) converts the user's own files as the preparation did."""
    import keras
    import tensorflow as tf

    from distributed_cls.images.decode import Spec, prepare_image

    assert digits.folder is not None
    size = digits.summary["config"]["data"]["image_size"]
    rng = np.random.default_rng(0)
    encoded = []
    for width, height, form in ((640, 427, "JPEG"), (31, 77, "PNG"), (300, 300, "JPEG"), (8, 8, "PNG")):
        picture = Image.fromarray(rng.integers(0, 256, (height // 7 + 1, width // 7 + 1, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        picture.resize((width, height), Image.Resampling.BICUBIC).save(buffer, form)
        encoded.append(buffer.getvalue())
    colour = [prepare_image(data, Spec(size)).rgb for data in encoded]  # type: ignore[union-attr]
    prepared = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in colour])[..., None]
    model = keras.models.load_model(digits.folder / "model" / "model.keras")
    exported = tf.saved_model.load(str(digits.folder / "model" / "saved_model")).signatures["serving_default"]
    answered = exported(image_bytes=tf.constant(encoded))["probabilities"].numpy()
    np.testing.assert_allclose(answered, model.predict(prepared.astype("float32"), verbose=0), atol=1e-5)


def test_evaluating_again_gives_the_same_counts(digits: Ended, launch: Launcher) -> None:
    again = launch("job=evaluate", f"model_dir={digits.folder}")
    assert again.summary["test"]["correct"] == digits.summary["test"]["correct"]
    assert again.summary["test"]["loss"] == pytest.approx(digits.summary["test"]["loss"], rel=1e-5)
    assert again.summary["dataset"]["reused"]
    assert "nothing has changed" in again.output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("train.learning_rate=0.5",), "Expected the settings of the run that is in"),
        (("train.learning_rate=none",), "train.learning_rate"),
        (("job=predict", "model_dir=.", "data.path=.", "output=out"), "Expected a run folder of its own"),
    ],
)
def test_a_refused_command_leaves_the_folder_of_a_run_as_it_was(
    digits: Ended, launch: Launcher, command: tuple[str, ...], said: str
) -> None:
    assert digits.folder is not None
    said_of_it = [*sorted((digits.folder / ".hydra").iterdir()), *(digits.folder / f"{n}.json" for n in KEPT)]
    before = [path.read_bytes() for path in said_of_it]
    refused = launch(f"hydra.run.dir='{digits.folder}'", *command)
    assert refused.code == 2 and said in refused.errors[0]
    assert [path.read_bytes() for path in said_of_it] == before


def test_resnet_on_photos_of_two_makers_one_of_them_corrupt(launch: Launcher) -> None:
    """A folder with one sub-folder a class; the damaged image is counted and named, training goes on."""
    rng = np.random.default_rng(1)
    for maker, colour in (("Citroën", (200, 40, 40)), ("Škoda", (40, 160, 60))):
        folder = launch.folder / "cars" / maker
        folder.mkdir(parents=True)
        for number in range(16):
            noise = rng.normal(0, 40, (60, 80, 3)) + colour
            Image.fromarray(noise.clip(0, 255).astype("uint8")).save(folder / f"{number}.jpg")
    (launch.folder / "cars" / "Škoda" / "broken.jpg").write_bytes(
        (launch.folder / "cars" / "Škoda" / "0.jpg").read_bytes()[:700]
    )
    ended = launch(
        "data=folder",
        f"data.path={launch.folder / 'cars'}",
        "data.image_size=32",
        "model=resnet",
        "cluster.workers=1",  # what two do together is tested with networks that take less time
        "train.epochs=1",
        "train.batch_size=8",
    )
    assert ended.summary["dataset"]["classes"] == ["Citroën", "Škoda"]
    assert ended.summary["dataset"]["rejected"] == 1
    assert "broken.jpg" in ended.output
    assert ended.summary["train"]["epochs"] == 1
    assert ended.folder is not None
    assert (ended.folder / "model" / "model.keras").stat().st_size > 20e6
