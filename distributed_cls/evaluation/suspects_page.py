"""``suspects.csv`` and ``suspects.html``: which labels a person should look at, the most suspicious first."""

import base64
import io
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from distributed_cls import storage
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.evaluation import view
from distributed_cls.evaluation.confident_learning import Suspects
from distributed_cls.evaluation.labels import number, percent, plural, readable
from distributed_cls.evaluation.report import render

TABLE = "suspects.csv"
PAGE = "suspects.html"
_MOST_PAIRS = 12


def write(folder: Path, dataset: Dataset, images: pa.Table, found: Suspects, pictures: int) -> None:
    """Write both files. ``images``: of ``stored_images``; ``found``: of its train images, in their order."""
    train = images.filter(pc.equal(images["split"], "train"))
    others = images.filter(pc.not_equal(images["split"], "train"))
    names = pa.array(dataset.manifest.classes)
    order = found.order
    looked_at = pa.table(
        {
            "path": train["path"].take(order),
            "label": train["truth"].take(order),
            "split": train["split"].take(order),
            "suggested": names.take(found.suggested[order]),
            "margin": found.margin[order],
            "suspected": found.suspected[order],
        }
    )
    rest = pa.table({"path": others["path"], "label": others["truth"], "split": others["split"]})
    sink = io.BytesIO()
    pa.csv.write_csv(pa.concat_tables([looked_at, rest], promote_options="default"), sink)
    storage.write_bytes(folder / TABLE, sink.getvalue())
    shown = order[:pictures]
    encoded = _pictures(dataset, train.take(shown))
    storage.write_text(folder / PAGE, _page(dataset, train, found, shown, encoded))


def _page(dataset: Dataset, train: pa.Table, found: Suspects, shown: np.ndarray, encoded: list[str]) -> str:
    names = [readable(name) for name in dataset.manifest.classes]
    labels = pc.index_in(train["truth"], pa.array(dataset.manifest.classes)).to_numpy()
    paths = train["path"].take(shown).to_pylist()
    items = [
        {
            **view.picture(image),
            "label": names[labels[row]],
            "suggested": names[found.suggested[row]],
            "margin": number(round(float(found.margin[row]), 3)),
            "path": readable(path),
            "file": "/".join(readable(path).rsplit("/", 2)[-2:]),
        }
        for row, path, image in zip(shown, paths, encoded, strict=True)
    ]
    suspected = int(found.suspected.sum())
    pairs = np.stack([labels, found.suggested])[:, found.suspected]
    kinds, counts = np.unique(pairs, axis=1, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    return render(
        "suspects.html",
        dataset_name=readable(dataset.manifest.name),
        suspected=plural(suspected, "label"),
        images=plural(train.num_rows, "training image"),
        share=percent(suspected / train.num_rows),
        pairs=[(names[kinds[0, at]], names[kinds[1, at]], plural(int(counts[at]), "image")) for at in most],
        items=items,
        table=TABLE,
        files=not any("#" in path for path in paths),
    )


def _pictures(dataset: Dataset, rows: pa.Table) -> list[str]:
    """The prepared images of these rows, as PNG in base64."""
    encoded = []
    for file, offset, length in zip(*(rows[name].to_pylist() for name in ("file", "offset", "length")), strict=True):
        with storage.open_read(storage.join(dataset.path, file)) as stream:
            stream.seek(offset)
            data = stream.read(length)
        encoded.append(base64.b64encode(_png(data, dataset)).decode("ascii"))
    return encoded


def _png(data: bytes, dataset: Dataset) -> bytes:
    if dataset.manifest.encoding == "png":
        return data
    if dataset.manifest.encoding == "raw":
        edge = dataset.manifest.image_size
        pixels = cv2.cvtColor(np.frombuffer(data, np.uint8).reshape(edge, edge, 3), cv2.COLOR_RGB2BGR)
    else:
        pixels = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    return cv2.imencode(".png", pixels)[1].tobytes()
