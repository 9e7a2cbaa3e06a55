"""One image, one answer: a model that the launcher trains, and its evaluation, batch, stream and both HTTP ways."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.end_to_end.conftest import Ended, Launcher
from tests.end_to_end.inference_support import address_of, digit_images, encode
from tests.patience import PATIENCE

PHOTOS, EDGE, CLASSES = 200, 32, [str(digit) for digit in range(10)]
SAME = 1e-5
Answers = dict[str, np.ndarray]  # path of the image → its probabilities in the classes' order, float [10]


def photo(chance: np.random.Generator, digit: np.ndarray) -> Image.Image:
    """A digit as a picture of some shape, coloured, uneven and noisy, so that every step of a resize shows."""
    width, height = (int(edge) for edge in chance.integers(EDGE + 1, 300, 2))
    large = cv2.resize(digit, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    light = cv2.resize(chance.uniform(0.5, 1, (3, 3, 3)).astype(np.float32), (width, height))
    noisy = large * light + chance.normal(10, 8, large.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def save(picture: Image.Image, path: Path, number: int) -> Path:
    """JPEG and PNG by turns, of the kinds that people have; the first JPEG was taken with the camera on its side."""
    if number % 2:
        target = path.with_suffix(".png")
        picture.convert({3: "RGBA", 5: "L", 7: "P"}.get(number, "RGB")).save(target)
        return target
    target = path.with_suffix(".jpg")
    exif = Image.Exif()
    if number == 0:
        exif[0x0112] = 6
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    kind = {2: "CMYK", 4: "L"}.get(number, "RGB")
    picture.convert(kind).save(target, quality=60 + number % 40, progressive=number == 6, exif=exif)
    return target


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The test split of a folder that is split already; train and val are small digits."""
    root, chance = tmp_path_factory.mktemp("given"), np.random.default_rng(0)
    images, labels = digit_images()
    made = []
    for number in range(1400):
        split = "train" if number < 1000 else "val" if number < 1200 else "test"
        path = root / split / str(labels[number]) / f"{split} {number:04d} é"
        path.parent.mkdir(parents=True, exist_ok=True)
        if split == "test":
            made.append(save(photo(chance, images[number]), path, number - 1200))
        else:
            path.with_suffix(".png").write_bytes(encode(images[number]))
    assert len(made) == PHOTOS
    return made


@pytest.fixture(scope="module")
def trained(launch_once: Callable[..., Ended], photos: list[Path]) -> Ended:
    """A real training on two workers, with its evaluation and export."""
    ended = launch_once(
        "data=split_folder",
        f"data.path={root_of(photos)}",
        f"data.image_size={EDGE}",
        "data.near_duplicates=null",
        "model.filters=[8,16]",
        "model.units=32",
        "train.epochs=2",
        "train.batch_size=32",
    )
    assert ended.summary["workers"] == 2
    assert ended.summary["test"]["examples"] == PHOTOS
    return ended


def root_of(photos: list[Path]) -> Path:
    return photos[0].parents[2]


@pytest.fixture(scope="module")
def routes(launch_once: Launcher, trained: Ended, photos: list[Path]) -> dict[str, Answers]:
    """The answers of every way of use, each started as its users start it."""
    server, folder = launch_once.start("job=serve", f"model_dir={trained.folder}", "serve.port=0")
    given = [f"model_dir={trained.folder}", f"data.path={root_of(photos) / 'test'}", f"predict.top_k={len(CLASSES)}"]
    found = {}
    try:
        for job, more in (("predict", []), ("stream", ["stream.once=true", "stream.batch_images=64"])):
            output = launch_once.folder / job
            ended = launch_once(f"job={job}", *given, f"output={output}", *more, "cluster.master='local[1]'")
            assert ended.code == 0, ended.output
            found[job] = by_path(row for part in sorted(output.glob("[pb]a*.parquet")) for row in rows(part))
        found |= over_http(address_of(server), photos)
    finally:
        server.terminate()
        assert launch_once.end(server, folder).code == 0
    return found


def rows(part: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(part).to_pylist())


def by_path(table: Iterator[dict[str, Any]]) -> Answers:
    """Each row's probabilities; every class is among its top, and its label is the likeliest."""
    answers: Answers = {}
    for row in table:
        assert row["error"] is None, row
        assert row["path"] not in answers
        shares = {guess["label"]: guess["confidence"] for guess in row["top"]}
        answers[row["path"]] = np.array([shares[label] for label in CLASSES])
        assert row["label"] == CLASSES[np.argmax(answers[row["path"]])]
    return answers


def over_http(url: str, photos: list[Path]) -> dict[str, Answers]:
    form: Answers = {}
    encoded: Answers = {}
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        for start in range(0, len(photos), 20):
            chunk = photos[start : start + 20]
            files = [("file", (path.name, path.read_bytes())) for path in chunk]
            results = client.post("/classify?top=10", files=files).json()["results"]
            assert [result["name"] for result in results] == [path.name for path in chunk]
            form |= by_path({**result, "path": str(path)} for result, path in zip(results, chunk, strict=True))
            body = {"instances": [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in chunk]}
            answer = client.post("/v1/models/split_folder:predict", json=body).json()
            encoded |= {str(path): np.array(row) for path, row in zip(chunk, answer["predictions"], strict=True)}
            assert answer["labels"] == [CLASSES[np.argmax(encoded[str(path)])] for path in chunk]
    return {"multipart": form, "base64": encoded}


def test_every_way_of_use_gives_the_same_answer(routes: dict[str, Answers], photos: list[Path]) -> None:
    expected = routes["predict"]
    assert expected.keys() == {str(path) for path in photos}
    assert len({int(np.argmax(answer)) for answer in expected.values()}) > 3  # the model does tell digits apart
    for route, answers in routes.items():
        assert answers.keys() == expected.keys(), route
        for path, probabilities in answers.items():
            assert probabilities == pytest.approx(expected[path], abs=SAME), (route, path)
            assert np.argmax(probabilities) == np.argmax(expected[path]), (route, path)


@pytest.mark.parametrize("route", ["predict", "stream", "multipart", "base64"])
def test_the_evaluation_counted_the_same_answers(trained: Ended, routes: dict[str, Answers], route: str) -> None:
    """All that an evaluation keeps: the confusion matrix, the loss, top five, the bins of confidence."""
    counted = trained.json("evaluation.json")["splits"]["test"]["counts"]
    paths = sorted(routes[route])
    probabilities = np.stack([routes[route][path] for path in paths])
    truth = np.array([int(Path(path).parent.name) for path in paths])
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (truth, predicted), 1)
    assert counted["confusion"] == confusion.tolist()
    of_truth = probabilities[np.arange(PHOTOS), truth]
    assert counted["loss_sum"] == pytest.approx(-np.log(of_truth).sum(), rel=SAME)
    better = (probabilities > of_truth[:, None]).sum(1)
    assert counted["top_k_correct"] == (better < 5).sum()
    bins = len(counted["bins"]["count"])
    places = np.ceil(confidence * bins).astype(int) - 1
    for name, weights in {"count": None, "correct": predicted == truth, "confidence": confidence}.items():
        expected = np.bincount(places, weights=weights, minlength=bins)
        assert counted["bins"][name] == pytest.approx(expected, abs=PHOTOS * SAME), name


def test_the_evaluation_said_the_same_of_every_image(trained: Ended, routes: dict[str, Answers]) -> None:
    """predictions.parquet: label, confidence and the five likeliest classes of each image."""
    assert trained.folder is not None
    said = {row["path"]: row for row in rows(trained.folder / "predictions.parquet") if row["split"] == "test"}
    assert said.keys() == routes["predict"].keys()
    for path, row in said.items():
        assert row["truth"] == Path(path).parent.name
        assert len(row["top"]) == 5
        for route, answers in routes.items():
            assert row["label"] == CLASSES[np.argmax(answers[path])], (route, path)
            assert row["confidence"] == pytest.approx(answers[path].max(), abs=SAME), (route, path)
            for guess in row["top"]:
                found = answers[path][CLASSES.index(guess["label"])]
                assert guess["confidence"] == pytest.approx(found, abs=SAME), (route, path)


def test_the_mistakes_that_the_report_shows_are_mistakes_of_every_route(
    trained: Ended, routes: dict[str, Answers]
) -> None:
    kept = trained.json("evaluation.json")["splits"]["test"]["mistakes"]
    assert len(kept) > 0
    for mistake in kept:
        assert CLASSES[mistake["true"]] == Path(mistake["path"]).parent.name
        for route, answers in routes.items():
            assert mistake["predicted"] == np.argmax(answers[mistake["path"]]), (route, mistake["path"])


def test_the_jobs_tell_the_accuracy_of_the_evaluation(
    launch_once: Launcher, trained: Ended, routes: dict[str, Answers]
) -> None:
    for job in routes.keys() & {"predict", "stream"}:
        told = json.loads((launch_once.folder / job / "_summary.json").read_text())
        assert told["correct"] == trained.summary["test"]["correct"], job
        assert told["accuracy"] == pytest.approx(trained.summary["test"]["accuracy"]), job
