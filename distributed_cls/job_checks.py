"""What is refused before Spark has started, which takes seconds, or before the ranks have started, which takes more."""

import logging
from pathlib import Path

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts import checkpoint, checkpoint_store
from distributed_cls.contracts.manifest import Dataset
from distributed_cls.errors import UserError

log = logging.getLogger(__name__)

TRAINING = ("pipeline", "train")  # one run's: what one of them has begun the other goes on with
OF_RANKS = (*TRAINING, "evaluate", "suspects")  # hold a slot of the cluster for each of their workers
PREPARING = (*OF_RANKS, "prepare")
# Settings that a resumed run may change; all others would mix two runs into one.
_MAY_CHANGE = (
    *("train.epochs", "train.patience", "train.fine_tune_epochs", "train.fine_tune_patience"),
    *("train.cache_megabytes", "cluster.workers", "model.feature_cache"),
    *("train.checkpoint_seconds", "train.checkpoint_steps", "train.keep_checkpoints", "train.checkpoint_dir"),
)


def check_run_folder(config: Config, folder: Path) -> None:
    """Refuse a run folder that cannot be made or written, or that is a training's, whose summary would be lost."""
    storage.check_writable(str(folder), "hydra.run.dir")
    if config.job.name not in TRAINING and checkpoint.kept(folder / "checkpoints"):
        raise UserError(
            f"Expected a run folder of its own for job={config.job.name}. Received: {folder}, which a training is in. "
            "Choose another run folder (hydra.run.dir), or leave it out."
        )


def check_paths(config: Config) -> None:
    """Refuse a job without images, or without a place for prepared ones."""
    if config.job.name not in PREPARING:
        return
    root = storage.absolute(config.dataset_root)
    if config.data.path:
        storage.check_readable(storage.absolute(config.data.path), "data.path")
    if not storage.is_url(root):
        storage.check_place(root, "dataset_root")


def bring_back_checkpoints(config: Config, folder: Path) -> None:
    """Let a run folder without checkpoints go on from those in ``train.checkpoint_dir``, which can be written."""
    url = config.train.checkpoint_dir
    if url is None:
        return
    if not storage.is_url(url):
        raise UserError(
            f"Expected train.checkpoint_dir to be the URL of a folder in a store. Received: {url}. "
            "Write scheme://bucket/folder, or leave it out: the run folder has its checkpoints in any case."
        )
    storage.check_writable(storage.absolute(url), "train.checkpoint_dir")
    if checkpoint.kept(folder / "checkpoints"):
        return
    damaged: list[str] = []
    step = checkpoint_store.bring_back(url, folder / "checkpoints", damaged)
    for text in damaged:
        log.warning("A damaged checkpoint is passed over. %s", text)
    if step is not None:
        log.info("The run folder has no checkpoints: the one of step %d was fetched from %s", step, url)


def check_resume(config: Config, folder: Path) -> None:
    """Refuse to go on with a run in ``folder`` under settings that would make it another run."""
    found = checkpoint.newest_position(folder / "checkpoints")
    if found is None:
        return
    position = found[1]
    before, now = position.settings, checkpoint.settings_of(config)
    changed = {name: (before[name], now.get(name)) for name in before if before[name] != now.get(name)}
    if config.train.time_budget is not None:
        changed.pop("train.epochs", None)  # it was decided when the run began, and stays
    refused = {name: values for name, values in changed.items() if name not in _MAY_CHANGE}
    if refused:
        was = ", ".join(f"{name}={values[0]}" for name, values in refused.items())
        received = ", ".join(f"{name}={values[1]}" for name, values in refused.items())
        raise UserError(
            f"Expected the settings of the run that is in {folder}: {was}. Received: {received}. "
            "Choose another run folder (hydra.run.dir), or the same settings to go on."
        )
    first = position.first_phase is None
    name, epochs = ("epochs", config.train.epochs) if first else ("fine_tune_epochs", config.train.fine_tune_epochs)
    if (epochs < position.epoch and config.train.time_budget is None) or (not first and not epochs):
        raise UserError(
            f"Expected train.{name} of at least {max(1, position.epoch)}: the run in {folder} is that far. "
            f"Received: train.{name}={epochs}. Choose another run folder (hydra.run.dir)."
        )
    if not first and "train.epochs" in changed:
        raise UserError(
            f"Expected train.epochs={changed['train.epochs'][0]}: the run in {folder} is in its second phase. "
            f"Received: train.epochs={config.train.epochs}. Set train.fine_tune_epochs to train longer."
        )
    log.info("Going on after epoch %d, step %d of the run in %s", position.epoch, position.step, folder)
    if not before:
        log.warning(
            "An earlier release made its checkpoint, which does not say with which settings: keep them the same"
        )
    for name, (old, new) in changed.items():
        note = ": the learning-rate schedule now spans all of them" if name.endswith("epochs") else ""
        log.warning("%s=%s was %s when this run began%s", name, new, old, note)


def check_resumed_data(folder: Path, dataset: Dataset) -> None:
    """Refuse to go on with a run in ``folder`` on another data set, before the ranks start."""
    found = checkpoint.newest_position(folder / "checkpoints")
    if found is None:
        return
    before, now = found[1].dataset, dataset.manifest.fingerprint
    if before != now:
        raise UserError(
            f"Expected data set {before}, which the run in {folder} was trained on. Received: {now} ({dataset.path}). "
            "Choose another run folder (hydra.run.dir), or the same data settings to go on."
        )


def check_enough_images(config: Config, dataset: Dataset) -> None:
    """Refuse a train split with fewer images than there are ranks: some would have none."""
    images, ranks = dataset.manifest.records("train"), config.cluster.workers
    if images < ranks:
        raise UserError(
            f"Expected at least one train image per worker. Received: {images} train images for cluster.workers="
            f"{ranks}. Set cluster.workers={max(1, images)}, or add images."
        )
