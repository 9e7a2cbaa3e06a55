"""An earlier run whose model is evaluated again: its settings, its checkpoint, and the images it was trained on."""

import dataclasses
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from distributed_cls.config import Config, DataConfig, from_saved
from distributed_cls.contracts import index
from distributed_cls.contracts import summary as summaries
from distributed_cls.contracts.checkpoint import BEST
from distributed_cls.contracts.confidence import Confidence
from distributed_cls.contracts.export import ABOUT
from distributed_cls.contracts.manifest import SPLITS, Dataset
from distributed_cls.contracts.summary import DatasetEntry
from distributed_cls.errors import UserError

log = logging.getLogger(__name__)

_TRAIN = SPLITS.index("train")  # its number in the index
_REMEDY = "Set model_dir to the run folder of a finished training."
# How a picture becomes the model's input: another data set is prepared alike, unless the user says otherwise.
_OF_THE_MODEL = ("image_size", "resize")


@dataclass(frozen=True)
class EarlierRun:
    """A finished training."""

    folder: Path
    config: Config
    dataset: DatasetEntry
    checkpoint: Path
    confidence: Confidence | None  # of its exported model; None without one


def find(model_dir: str) -> EarlierRun:
    """The run of ``model_dir``, or of the model folder in it. Raises UserError when it is no finished training."""
    folder = Path(model_dir).absolute()
    if not (folder / summaries.FILE).is_file() and (folder.parent / summaries.FILE).is_file():
        folder = folder.parent
    summary = summaries.read(folder, _REMEDY)
    checkpoint = folder / "checkpoints" / BEST
    if summary.dataset is None or not checkpoint.is_file():
        raise UserError(f"Expected a checkpoint at {checkpoint}. Received: no such file. {_REMEDY}")
    config, dropped = from_saved(summary.config)
    if dropped:
        log.info("The run was made by another release; settings that no longer exist: %s", ", ".join(dropped))
    confidence = summary.confidence
    if confidence is None and (folder / "model" / ABOUT).is_file():
        confidence = Confidence()  # an earlier release exported it
    return EarlierRun(folder, config, summary.dataset, checkpoint, confidence)


def evaluated_config(config: Config, earlier: EarlierRun, given: Collection[str]) -> Config:
    """``config`` with the model of ``earlier`` and its data settings, except those that the command line gives.

    given: settings and groups of the command line, by dotted name.
    """
    fields = [item.name for item in dataclasses.fields(DataConfig)]
    own = {name for name in fields if f"data.{name}" in given}
    if "data" in given:  # other data, prepared for the same model
        own |= set(fields) - set(_OF_THE_MODEL)
    values = {name: getattr(config.data, name) for name in own}
    if "data" in given and "data.channels" not in given:
        values["channels"] = str(earlier.dataset.channels)
    data = dataclasses.replace(earlier.config.data, **values)
    changed = ", ".join(sorted(f"data.{name}" for name in own))
    log.info("Evaluating %s on its own data settings%s", earlier.folder, f", but for {changed}" if changed else "")
    evaluate = config.evaluate
    if "evaluate.mirror" not in given:
        evaluate = dataclasses.replace(evaluate, mirror=earlier.config.evaluate.mirror)
    return dataclasses.replace(config, model=earlier.config.model, data=data, evaluate=evaluate)


def confidence_of(earlier: EarlierRun, given: Collection[str]) -> Confidence | None:
    """What the exported model's answers are made with; None: fit it on the val split, as the command line asks."""
    asked = sorted(name for name in given if name.startswith("evaluate."))
    if asked and earlier.confidence is not None:
        log.warning("%s: fitted anew for this evaluation; the exported model stays as it is", ", ".join(asked))
    return None if asked else earlier.confidence


def check_data(earlier: EarlierRun, dataset: Dataset) -> None:
    """Refuse an evaluation on other classes, or on images that the model was trained on."""
    classes, trained = list(dataset.manifest.classes), earlier.dataset.classes
    if classes != trained:
        raise UserError(
            f"Expected the classes that the model was trained on: {', '.join(trained)}. "
            f"Received: {', '.join(classes)}. Choose data with these classes."
        )
    channels, expected = dataset.manifest.channels, earlier.dataset.channels
    if channels != expected:
        raise UserError(
            f"Expected images with as many channels as the model was trained on: {expected}. Received: {channels} in "
            f"{dataset.path}. Set data.channels={expected}."
        )
    if dataset.manifest.fingerprint == earlier.dataset.fingerprint:
        return
    log.warning(
        "The model was trained on data set %s and is evaluated on %s (%s)",
        earlier.dataset.fingerprint,
        dataset.manifest.fingerprint,
        dataset.path,
    )
    try:
        known = index.kept(index.of_dataset(earlier.dataset.path))
    except UserError as error:
        log.warning("Whether the evaluated images were trained on cannot be checked: %s", error)
        return
    seen = known.filter(pc.equal(known["split"], _TRAIN))["key"]
    own = index.kept(index.of_dataset(dataset.path))
    evaluated = own.filter(pc.not_equal(own["split"], _TRAIN))
    overlap = evaluated.filter(pc.is_in(evaluated["key"], value_set=seen.combine_chunks()))
    if overlap.num_rows:
        raise UserError(
            f"Expected images that the model was not trained on. Received: {overlap.num_rows} of {evaluated.num_rows} "
            f"val and test images of {dataset.path} are in its train split, for example {overlap['path'][0]}. "
            "Leave out the data settings to use the run's own splits, or choose other images."
        )
