"""Every setting of the framework: its type, default, meaning and limits.

A setting exists once, as a field of one of the sections. YAML files under ``conf/`` choose values; they cannot add
settings. The classes are plain dataclasses: the launcher composes them with Hydra, but anything may build them by hand.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from distributed_cls.config import registry
from distributed_cls.config.cluster import ClusterConfig
from distributed_cls.config.data import DataConfig
from distributed_cls.config.evaluate import EvaluateConfig
from distributed_cls.config.inference_sections import PredictConfig, ServeConfig, StreamConfig
from distributed_cls.config.job import JOBS, JobConfig
from distributed_cls.config.section import Section, setting
from distributed_cls.config.suspects import SuspectsConfig
from distributed_cls.config.sweep import SweepConfig
from distributed_cls.config.tracking import TrackingConfig
from distributed_cls.config.train import MOST_LANES, TrainConfig

__all__ = [
    "JOBS",
    "ClusterConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "JobConfig",
    "PredictConfig",
    "ServeConfig",
    "StreamConfig",
    "SuspectsConfig",
    "SweepConfig",
    "TrackingConfig",
    "TrainConfig",
    "from_dict",
    "from_saved",
    "to_dict",
]

DEFAULT_MODEL = "cnn"
_TRAINING = ("pipeline", "train", "suspects")


@dataclass
class Config(Section):
    """The whole configuration of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    # One of the registered models, each of which is a class of its own.
    model: registry.ModelSettings = field(default_factory=lambda: registry.models()[DEFAULT_MODEL]())
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    job: JobConfig = field(default_factory=JobConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    suspects: SuspectsConfig = field(default_factory=SuspectsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    dataset_root: str = setting("datasets", "folder of prepared data sets, which driver and executors can reach")
    model_dir: str | None = setting(None, "jobs that use a trained model: its run folder, or the model folder in it")
    output: str | None = setting(None, "job=predict and job=stream: folder of the results (path or URL)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.job.name in ("evaluate", "predict", "stream", "serve") and not self.model_dir:
            self.refuse("model_dir", self.model_dir, "the run folder of a trained model", "Set model_dir=runs/….")
        if self.job.name in ("predict", "stream"):
            if not self.data.path:
                self.data.refuse("path", self.data.path, "the images to classify", "Set data.path=/path/to/images.")
            if not self.output:
                self.refuse("output", self.output, "the folder of the results", "Set output=/path/to/results.")
        least = 0 if self.model is None else self.model.least_image_size
        if self.data.image_size < least:
            self.data.refuse(
                "image_size",
                self.data.image_size,
                f"at least {least} for model={self.model.name}",
                f"Set data.image_size={least} or more.",
            )
        if self.train.fine_tune_epochs and self.model is not None and not self.model.frozen:
            self.train.refuse(
                "fine_tune_epochs",
                self.train.fine_tune_epochs,
                "0 without a frozen backbone, whose head is trained first",
                "Set model.weights (and not model.freeze_backbone=false).",
            )
        self._check_features()
        if self.train.batch_size < self.cluster.workers:
            self.train.refuse(
                "batch_size",
                self.train.batch_size,
                f"at least cluster.workers={self.cluster.workers}, one image per rank",
                f"Set train.batch_size={self.cluster.workers} or more.",
            )
        replicas = self.cluster.workers * max(1, self.cluster.gpus_per_worker)
        if self.train.lane_count < replicas:
            # One lane at least for each. A multiple of the replicas has a divisor that is large enough.
            multiple = max(replicas * (1 + self.train.mixes), self.train.batch_size - self.train.batch_size % replicas)
            lanes = f" train.lanes={replicas}" if self.train.lanes or replicas > MOST_LANES else ""
            self.train.refuse(
                "batch_size",
                self.train.batch_size,
                f"at least {replicas} lanes (train.lanes), one for each replica, and has {self.train.lane_count}",
                f"Set train.batch_size={multiple}{lanes}.",
            )
        smallest = self.train.lane_count // replicas * (self.train.batch_size // self.train.lane_count)
        if self.train.accumulate > smallest:
            self.train.refuse(
                "accumulate",
                self.train.accumulate,
                f"at most {smallest}, the images of a replica in a step",
                f"Set train.accumulate={smallest}, or a larger train.batch_size.",
            )

    def _check_features(self) -> None:
        if self.model is not None and self.model.keeps_features == "on" and self.job.name in _TRAINING:
            hindrance = self.feature_hindrance
            if hindrance:
                self.model.refuse("feature_cache", "on", f"auto or off: {hindrance[0]}", hindrance[1])

    @property
    def feature_hindrance(self) -> tuple[str, str] | None:
        """Why a training cannot use stored features of its backbone, and what to do about it; None: it can."""
        if not self.model.frozen:
            return "the backbone is not frozen", "Set model.weights (and not model.freeze_backbone=false)."
        if self.train.mixes:
            return "train.mixup and train.cutmix mix images anew in every epoch", "Set both to 0."
        if self.train.augments and not self.model.stored_views:
            remedy = "Set model.feature_views=10, or no augmentation in train."
            return "augmentation makes another image of each one in every epoch (model.feature_views is null)", remedy
        if self.job.name == "suspects":
            return "job=suspects trains on folds, which are other data sets in every run", "Leave it out."
        return None

    @property
    def feature_views(self) -> int:
        """Of how many views of a training image features are stored."""
        return self.model.stored_views if self.train.augments else 1


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON values, as it travels to the executors and into summary.json."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The configuration again, every check included, from what ``to_dict`` gave."""
    sections: dict[str, Any] = {item.name: item.type for item in dataclasses.fields(Config)}
    made: dict[str, Any] = {}
    for name, value in values.items():
        kind: Any = registry.model(value["name"]) if name == "model" else sections[name]
        made[name] = kind(**value) if isinstance(value, dict) else value
    return Config(**made)


def from_saved(values: dict[str, Any]) -> tuple[Config, list[str]]:
    """The configuration that another release may have saved, and the settings in it that this release does not know.

    What it lacks takes its default; every check of this release runs.
    """
    sections: dict[str, Any] = {item.name: item.type for item in dataclasses.fields(Config)}
    known: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in values.items():
        if name not in sections:
            dropped.append(name)
        elif isinstance(value, dict):
            kind: Any = registry.model(value["name"]) if name == "model" else sections[name]
            fields = {item.name for item in dataclasses.fields(kind)}
            known[name] = {key: part for key, part in value.items() if key in fields}
            dropped += [f"{name}.{key}" for key in value if key not in fields]
        else:
            known[name] = value
    return from_dict(known), dropped
