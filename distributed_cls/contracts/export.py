"""What an exported model says about itself: written and checked here, without TensorFlow, so that a driver can ask."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed_cls import storage
from distributed_cls.contracts import codec
from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.errors import UserError

# 1 had no channels: they were three; and no confidence: the probabilities are the model's own. 2 had no energy score.
SCHEMA_VERSION = 3
ABOUT = "model.json"  # in the model's folder, written last
_REMEDY = "Set model_dir=<the run folder of a finished job=pipeline, or the model folder in it>."
_FIELDS = {"name": str, "created": str, "classes": list, "image_size": int, "resize": str, "files": dict}


@dataclasses.dataclass(frozen=True)
class Export:
    """One exported model on disk, checked."""

    folder: str
    name: str
    created: str  # ISO 8601, UTC
    version: str  # changes exactly when a file of the model changes
    classes: list[str]
    image_size: int  # edge, pixels
    resize: str  # how a picture becomes a square, as in images/pixels.py
    metrics: dict[str, dict[str, Json]]  # split → figure → value
    dataset: dict[str, Json]  # name and fingerprint
    channels: int = 3  # of the model's input: 1 for grey, 3 for RGB
    confidence: Confidence = dataclasses.field(default_factory=Confidence)

    def materialize(self) -> "Export":
        """The export with its files on this machine's disk; a sub-class may have to bring them first."""
        return self

    @property
    def title(self) -> str:
        """What it is called where it is used: its data set's name, which says more than that of its architecture."""
        return str(self.dataset.get("name") or self.name)

    @property
    def saved_model(self) -> str:
        """Path of the TensorFlow SavedModel."""
        return str(Path(self.folder) / "saved_model")

    @property
    def keras_file(self) -> str:
        """Path of the stock Keras model."""
        return str(Path(self.folder) / "model.keras")


def write_about(
    folder: Path,
    *,
    name: str,
    created: str,
    classes: list[str],
    image_size: int,
    resize: str,
    metrics: Mapping[str, Mapping[str, Json]],
    dataset: Mapping[str, Json],
    confidence: Confidence,
    channels: int = 3,
) -> None:
    """Write ``model.json`` beside the files of a model, with the size and the checksum of each. See ``Export``."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    about = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "created": created,
        "classes": classes,
        "image_size": image_size,
        "resize": resize,
        "channels": channels,
        "metrics": metrics,
        "dataset": dataset,
        "confidence": codec.to_plain(confidence),
        "files": {str(file.relative_to(folder)): _stamp(file) for file in files},
    }
    storage.write_json(folder / ABOUT, about)


def _stamp(file: Path) -> dict[str, Json]:
    return {"bytes": file.stat().st_size, "crc32c": f"{storage.crc32c(file):08x}"}


def find_export(model_dir: str) -> Path:
    """The model folder that ``model_dir`` means: itself, its ``model/``, or its highest-numbered sub-folder.

    Raises UserError when there is none.
    """
    root = Path(model_dir)
    for folder in (root, root / "model"):
        if (folder / ABOUT).is_file():
            return folder
    numbered = [child for child in root.glob("*") if child.name.isdecimal() and child.is_dir()]
    for child in sorted(numbered, key=lambda folder: int(folder.name), reverse=True):
        for folder in (child, child / "model"):
            if (folder / ABOUT).is_file():
                return folder
    received = "no model.json in it" if root.is_dir() else "no such folder"
    raise UserError(
        f"Expected model_dir to hold an exported model. Received: model_dir={model_dir}: {received}. {_REMEDY}"
    )


def load_export(model_dir: str) -> Export:
    """Find the model of ``model_dir`` and check it: schema, fields, and every file's size and checksum.

    Raises UserError that names what is missing, damaged or of another version.
    """
    folder = find_export(model_dir)
    about = storage.read_json(folder / ABOUT, "an exported model's model.json", _REMEDY)
    _check_schema(folder, about)
    for name, stamp in about["files"].items():
        _check_file(folder, name, stamp)
    version = f"{storage.crc32c(folder / ABOUT):08x}"
    return Export(
        folder=str(folder),
        name=about["name"],
        created=about["created"],
        version=version,
        classes=about["classes"],
        image_size=about["image_size"],
        resize=about["resize"],
        metrics=about.get("metrics", {}),
        dataset=about.get("dataset", {}),
        channels=about.get("channels") or 3,
        confidence=_confidence(folder, about),
    )


def _check_schema(folder: Path, about: Any) -> None:
    where = folder / ABOUT
    version = about.get("schema_version") if isinstance(about, dict) else None
    if version not in range(1, SCHEMA_VERSION + 1):
        raise UserError(
            f"Expected schema_version={SCHEMA_VERSION} or earlier in {where}. Received: schema_version={version}. "
            "Export the model again with this version of distributed_cls."
        )
    for name, kind in (_FIELDS if version == 1 else _FIELDS | {"channels": int}).items():
        if not isinstance(about.get(name), kind):
            raise UserError(
                f"Expected {where} to hold {name} ({kind.__name__}). Received: {name}={about.get(name)!r}. "
                "Export the model again."
            )


def _confidence(folder: Path, about: dict[str, Any]) -> Confidence:
    try:
        return codec.from_plain(Confidence, about.get("confidence", {}), "confidence")
    except ValueError as error:
        raise UserError(f"Expected {folder / ABOUT} as it was written. Received: {error}. Export again.") from None


def _check_file(folder: Path, name: str, stamp: dict[str, Any]) -> None:
    file = folder / name
    if not file.is_file():
        raise UserError(f"Expected {folder} to be a whole export. Received: {name} is missing. Export the model again.")
    found = _stamp(file)
    if found != stamp:
        raise UserError(
            f"Expected {file} as it was exported ({stamp['bytes']} bytes, crc32c {stamp['crc32c']}). Received: "
            f"{found['bytes']} bytes, crc32c {found['crc32c']}. Export the model again."
        )
