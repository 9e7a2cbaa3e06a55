"""dataset.html: what to look at before training on a dataset. One file, no script, nothing loaded from elsewhere."""

import base64
import itertools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls import storage
from distributed_cls.contracts import index
from distributed_cls.contracts.manifest import SPLITS, Manifest
from distributed_cls.dataset import class_table, curate, reading
from distributed_cls.dataset.listing import Listing
from distributed_cls.images import headers
from distributed_cls.images.decode import Prepared, Reject, Spec, prepare_image
from distributed_cls.text import printable

_SHEETS = 60  # classes that get a contact sheet
_SAMPLES = 12  # pictures in one
_TILE = 72  # edge of a picture in it, pixels
_REJECTS = 24
_REJECT_TILE = 64
_REJECT_READ = 8 * 2**20  # larger rejects are named, not shown
_REJECT_BYTES = 100_000  # what goes into the page of a file that cannot be decoded
_BARS = 24


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: its label, its height from 0 to 1, the number it stands for."""

    label: str
    height: float
    count: int


def render(content: Manifest, table: pa.Table, folder: str, listing: Listing) -> str:
    """The page of a dataset. table: its finished index; folder: where its shards lie."""
    rows = class_table.class_rows(table, content.classes)
    kept = index.kept(table)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distributed_cls.dataset", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["shown"] = printable
    return environment.get_template("dataset_page.html").render(
        content=content,
        splits=SPLITS,
        rows=rows,
        whole=class_table.total(rows),
        largest=max(row.listed for row in rows),
        sheets=_contact_sheets(content, kept, folder),
        edges=_histogram(np.maximum(kept["width"].to_numpy(), kept["height"].to_numpy())),
        shapes=_aspects(kept["width"].to_numpy(), kept["height"].to_numpy()),
        formats=sorted(
            ((row["counts"], row["values"]) for row in kept["format"].value_counts().to_pylist()), reverse=True
        ),
        rejects=_reject_samples(table, listing),
    )


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _contact_sheets(content: Manifest, kept: pa.Table, folder: str) -> list[tuple[str, str, int]]:
    """(class, its pictures as one JPEG, how many there are) for each class."""
    sheets = []
    for name in content.classes[:_SHEETS]:
        members = kept.filter(pc.equal(kept["label"], name))
        # Evenly over the keys, which are random: the same pictures on every run.
        chosen = members.take(np.argsort(np.array(members["key"].to_pylist(), "V16"))[:_SAMPLES])
        files = pa.array([storage.join(folder, file) for file in chosen["file"].to_pylist()], pa.string())
        places = pa.table({"file": files, "offset": chosen["offset"], "length": chosen["length"]})
        tiles = [_tile(data, content) for data in reading.ranges(places)]
        tiles += [np.full((_TILE, _TILE, 3), 255, np.uint8)] * (_SAMPLES - len(tiles))
        jpeg = cv2.imencode(".jpg", np.concatenate(tiles, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        sheets.append((name, _data_url(jpeg, "jpeg"), members.num_rows))
    return sheets


def _tile(data: bytes, content: Manifest) -> np.ndarray:
    """A prepared image as a BGR tile."""
    size = content.image_size
    if content.encoding == "raw":
        pixels = np.frombuffer(data, np.uint8).reshape(size, size, content.channels)
        image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if content.channels == 3 else cv2.COLOR_GRAY2BGR)
    else:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None, "a stored image cannot be read"
        image = decoded
    small = cv2.resize(
        image, (_TILE - 4, _TILE - 4), interpolation=cv2.INTER_AREA if size > _TILE else cv2.INTER_NEAREST
    )
    return cv2.copyMakeBorder(small, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _bars(labels: list[str], counts: list[int]) -> list[Bar]:
    highest = max(1, *counts) if counts else 1
    return [Bar(label, count / highest, count) for label, count in zip(labels, counts, strict=True)]


def _histogram(values: np.ndarray) -> list[Bar]:
    """How often each longest edge occurs, in steps that grow with the edge."""
    low, high = max(1, int(values.min())), int(values.max()) + 1
    borders = np.unique(np.rint(np.geomspace(low, max(high, low + 1), min(_BARS, high - low + 1) + 1)).astype(int))
    counts, _ = np.histogram(values, borders)
    labels = [f"{a} px" if b - a == 1 else f"{a} to {b - 1} px" for a, b in itertools.pairwise(borders.tolist())]
    return _bars(labels, counts.tolist())


def _aspects(widths: np.ndarray, heights: np.ndarray) -> list[Bar]:
    """How often each shape occurs, from tall to wide."""
    ratios = widths / heights
    shapes = {
        "taller than 1:2": (0, 0.5),
        "1:2 to 3:4": (0.5, 0.75),
        "3:4 to square": (0.75, 0.999),
        "square": (0.999, 1.001),
        "square to 4:3": (1.001, 1.334),
        "4:3 to 2:1": (1.334, 2.001),
        "wider than 2:1": (2.001, math.inf),
    }
    counts = [int(((ratios >= low) & (ratios < high)).sum()) for low, high in shapes.values()]
    return _bars(list(shapes), counts)


def _reject_samples(table: pa.Table, listing: Listing) -> list[dict[str, Any]]:
    """Some rejects of every reason, with their picture where a browser may show something of it."""
    rejected = curate.Curated(table, []).rejected()
    reasons = sorted(rejected["reason"].unique().to_pylist())
    samples: list[dict[str, Any]] = []
    for reason in reasons:
        members = rejected.filter(pc.equal(rejected["reason"], reason)).slice(0, max(2, _REJECTS // len(reasons)))
        described = members.select(["path", "row", "reason", "detail"]).to_pylist()
        contents = reading.contents(listing.root, members, listing.bytes_column, _REJECT_READ)
        samples += [{**row, "picture": _picture(data)} for row, data in zip(described, contents, strict=True)]
    return samples


def _picture(data: bytes | Reject) -> str | None:
    """A small picture of a reject; a browser may still show a part of what cannot be decoded."""
    if isinstance(data, Reject):
        return None
    kind = headers.sniff(data)
    outcome = prepare_image(data, Spec(_REJECT_TILE, "pad", min_edge=1))
    if isinstance(outcome, Prepared):
        bgr = cv2.cvtColor(outcome.rgb, cv2.COLOR_RGB2BGR)
        return _data_url(cv2.imencode(".jpg", bgr)[1].tobytes(), "jpeg")
    shown = kind in ("jpeg", "png", "gif", "webp", "bmp") and len(data) <= _REJECT_BYTES
    return _data_url(data, str(kind)) if shown else None
