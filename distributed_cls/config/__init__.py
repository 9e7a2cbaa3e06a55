"""Every setting of the framework: its type, default, meaning and limits.

A setting exists once, as a field here. YAML files under ``conf/`` choose values; they cannot add settings.
The classes are plain dataclasses: the launcher composes them with Hydra, but anything may build them by hand.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from distributed_cls.config.inference_sections import PredictConfig, ServeConfig, StreamConfig
from distributed_cls.config.section import Section, setting

SOURCES = ("digits", "fashion_mnist", "folder", "split_folder", "table", "parquet")


@dataclass
class DataConfig(Section):
    """Where the images come from and how they are prepared."""

    section = "data"

    name: str = setting("digits", "name of the data set; the first part of its prepared folder's name")
    source: str = setting("digits", "where the images come from", choices=SOURCES)
    path: str | None = setting(None, "the images (all sources but digits and fashion_mnist): path or URL")
    image_size: int = setting(32, "edge of the square prepared images, pixels", at_least=8, at_most=2048)
    resize: str = setting(
        "stretch",
        "how a picture becomes square: stretched, cropped at its centre, or padded with white",
        choices=("stretch", "crop", "pad"),
    )
    split: list[float] = setting([0.7, 0.15, 0.15], "fractions of train, val and test; they sum to 1")
    split_salt: str = setting("", "any text; another one gives another split of the same images")
    seed: int = setting(0, "seed of the split and of the order in which classes are mixed into shards")
    encoding: str = setting("png", "how a prepared image is stored", choices=("png", "jpeg", "raw"))
    jpeg_quality: int = setting(95, "quality of encoding=jpeg", at_least=1, at_most=100)
    shards: int | None = setting(
        None, "TFRecord shards of the train split; null: by size, a multiple of the workers", at_least=1
    )
    shard_megabytes: float = setting(64.0, "size of a shard that shards=null aims for, MB", above=0)
    min_edge: int = setting(8, "images with a shorter edge are rejected, pixels", at_least=1)
    max_pixels: int = setting(64_000_000, "images with more pixels are rejected before they are decoded", at_least=1)
    max_bytes: int = setting(64 * 2**20, "image files with more bytes are rejected unread", at_least=1)
    max_reject_fraction: float = setting(0.05, "more rejects than this stop the run", at_least=0, at_most=1)
    near_duplicates: int | None = setting(
        12,
        "images whose perceptual hashes differ in at most so many of 256 bits share a split; null: do not look",
        at_least=0,
        at_most=24,
    )
    path_column: str = setting("path", "source=table, parquet: column with the path of an image")
    label_column: str = setting("label", "source=table, parquet: column with its class")
    split_column: str = setting("split", "source=table, parquet: column with train, val or test; may be missing")
    bytes_column: str = setting("image", "source=parquet: column with the encoded image")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.split = [float(part) for part in self.split]
        if len(self.split) != 3 or min(self.split) <= 0 or abs(sum(self.split) - 1) > 1e-6:
            self.refuse("split", self.split, "three fractions above 0 (train, val, test) that sum to 1")
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            self.refuse("name", self.name, "letters, digits, '.', '_' and '-' (it names a folder)")
        if self.path and re.match(r"\w+://[^/]*@", self.path):
            # The path is printed and saved; what stands before the @ must be neither.
            self.refuse(
                "path", "…@…", "a URL without credentials", "Set them in the environment, as the store expects."
            )
        if self.source not in ("digits", "fashion_mnist") and not self.path:
            expected = {
                "folder": "a folder with one sub-folder per class",
                "split_folder": "a folder with train, val and test inside or outside its class folders",
                "table": "a CSV or Parquet file with the columns path and label",
                "parquet": "a Parquet file or folder that holds encoded images and labels",
            }[self.source]
            self.refuse("path", self.path, expected, "Set data.path=/path/to/images.")


@dataclass
class DenseConfig(Section):
    """A stack of fully connected layers."""

    section = "model"

    name: str = setting("dense", "which model", choices=("dense",))
    units: list[int] = setting([256, 128], "width of each hidden layer", at_least=1)
    dropout: float = setting(0.2, "fraction of activations dropped before the head", at_least=0, below=1)


@dataclass
class CnnConfig(Section):
    """Convolution blocks (convolution, batch normalisation, ReLU, pooling) and a dense head."""

    section = "model"

    name: str = setting("cnn", "which model", choices=("cnn",))
    filters: list[int] = setting([32, 64, 128], "filters of each block; every block halves the resolution", at_least=1)
    units: int = setting(128, "width of the hidden layer before the head", at_least=1)
    dropout: float = setting(0.3, "fraction of activations dropped before the head", at_least=0, below=1)
    batch_norm: bool = setting(True, "normalise activations over the batch")


@dataclass
class ResnetConfig(Section):
    """ResNet50 with a new head (transfer learning)."""

    section = "model"

    name: str = setting("resnet", "which model", choices=("resnet",))
    weights: str | None = setting(
        None, "start of the backbone: null (random), imagenet (downloaded by Keras), or the path of a weights file"
    )
    freeze_backbone: bool | None = setting(None, "train only the new head; null: exactly when weights are given")
    dropout: float = setting(0.2, "fraction of activations dropped before the head", at_least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze_backbone and self.weights is None:
            self.refuse(
                "freeze_backbone",
                True,
                "false while model.weights is null (a random backbone cannot stay as it is)",
                "Set model.weights=imagenet, or model.freeze_backbone=false.",
            )


ModelConfig = DenseConfig | CnnConfig | ResnetConfig
MODELS: dict[str, type[ModelConfig]] = {"dense": DenseConfig, "cnn": CnnConfig, "resnet": ResnetConfig}


@dataclass
class TrainConfig(Section):
    """How the model is trained."""

    section = "train"

    epochs: int = setting(10, "passes over the train split", at_least=1)
    batch_size: int = setting(128, "GLOBAL batch: images per step over all workers", at_least=1)
    learning_rate: float = setting(1e-3, "peak learning rate", above=0)
    optimizer: str = setting("adam", "which Keras optimizer", choices=("adam", "adamw", "sgd"))
    momentum: float = setting(0.9, "momentum of optimizer=sgd", at_least=0, below=1)
    weight_decay: float = setting(0.0, "decoupled weight decay of optimizer=adamw", at_least=0)
    schedule: str = setting("cosine", "learning rate over the run, after warm-up", choices=("constant", "cosine"))
    warmup_fraction: float = setting(0.05, "fraction of all steps in which the rate rises from 0", at_least=0, below=1)
    label_smoothing: float = setting(0.0, "probability mass spread over the other classes", at_least=0, below=1)
    flip: bool = setting(False, "augmentation: mirror half of the training images left to right")
    shift: float = setting(
        0.0, "augmentation: largest shift in each direction, fraction of the edge", at_least=0, below=1
    )
    seed: int = setting(
        0, "seed of initialisation, data order, augmentation and dropout", at_least=0, at_most=2**32 - 1
    )
    shuffle_buffer: int = setting(
        16384, "images of a rank that are shuffled together; 0 keeps the stored order", at_least=0
    )
    cache_megabytes: int = setting(
        1024, "memory per rank for decoded images; a split that needs more is decoded again each epoch", at_least=0
    )
    steps_per_call: int = setting(50, "most training steps inside one graph call", at_least=1)
    patience: int | None = setting(
        None, "stop after this many epochs without a better val accuracy; null: never", at_least=1
    )
    deterministic: bool = setting(False, "bit-for-bit repeatable kernels, somewhat slower")
    mixed_precision: bool = setting(False, "compute in float16 or bfloat16 (GPUs)")
    jit_compile: bool = setting(False, "compile the step with XLA; far slower for convolutions on CPUs")


@dataclass
class ClusterConfig(Section):
    """Which Spark cluster runs the job, and the limit of every wait on it."""

    section = "cluster"

    name: str = setting("local", "name of this choice, for logs and reports")
    master: str | None = setting("local[*]", "Spark master URL; null: the one that spark-submit gives")
    workers: int = setting(2, "ranks that train together, one barrier task each", at_least=1)
    gpus_per_worker: int = setting(0, "GPUs of each rank", at_least=0)
    cores_per_worker: int | None = setting(
        None, "CPU threads of each rank; null: the cores of its Spark slot", at_least=1
    )
    python: str | None = setting(None, "interpreter of the executors; null: the driver's own")
    spark: dict[str, str] = setting({}, "further Spark properties, by their full names")
    slot_timeout: float = setting(60.0, "longest wait for the cluster to offer enough slots, seconds", above=0)
    rendezvous_timeout: float = setting(120.0, "longest wait for all ranks to meet, seconds", above=0)
    start_timeout: float = setting(
        300.0, "longest time for TensorFlow's import and for connecting the ranks, seconds", above=0
    )
    first_step_timeout: float = setting(
        900.0,
        "longest time for loading weights, for decoding images into memory, and for the first step each, seconds",
        above=0,
    )
    stall_timeout: float = setting(
        600.0, "longest time without progress of any rank before the attempt is ended, seconds", above=0
    )
    max_attempts: int = setting(2, "how often a failed stage is started, the first time included", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.master is not None and not re.match(r"local|spark://.|k8s://.|yarn$", self.master):
            self.refuse(
                "master",
                self.master or "(nothing)",
                "a Spark master: local[N], spark://host:port, yarn, or k8s://https://host:port",
                "Set cluster.master=….",
            )


JOBS = ("pipeline", "prepare", "verify", "train", "evaluate", "predict", "stream", "serve")


@dataclass
class JobConfig(Section):
    """What to do."""

    section = "job"

    name: str = setting("pipeline", "which job", choices=JOBS)
    console: str = setting(
        "auto", "progress as a bar, as lines, or by what the terminal is", choices=("auto", "bar", "lines")
    )


_RESNET_LEAST = 32


@dataclass
class Config(Section):
    """The whole configuration of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=CnnConfig)  # one of MODELS; a union of dataclasses is beyond OmegaConf
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    job: JobConfig = field(default_factory=JobConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
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
        if self.model is not None and self.model.name == "resnet" and self.data.image_size < _RESNET_LEAST:
            self.data.refuse(
                "image_size",
                self.data.image_size,
                f"at least {_RESNET_LEAST} for model=resnet, which halves it five times",
                f"Set data.image_size={_RESNET_LEAST} or more.",
            )
        if self.train.batch_size < self.cluster.workers:
            self.train.refuse(
                "batch_size",
                self.train.batch_size,
                f"at least cluster.workers={self.cluster.workers}, one image per rank",
                f"Set train.batch_size={self.cluster.workers} or more.",
            )
        replicas = self.cluster.workers * max(1, self.cluster.gpus_per_worker)
        if self.train.batch_size % replicas:
            self.train.refuse(
                "batch_size",
                self.train.batch_size,
                f"a multiple of the {replicas} replicas (workers, or their GPUs), which take equal shares",
                f"Set train.batch_size={max(replicas, self.train.batch_size - self.train.batch_size % replicas)}.",
            )


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON values, as it travels to the executors and into summary.json."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The configuration again, every check included, from what ``to_dict`` gave."""
    sections: dict[str, Any] = {item.name: item.type for item in dataclasses.fields(Config)}
    made: dict[str, Any] = {}
    for name, value in values.items():
        kind: Any = MODELS[value["name"]] if name == "model" else sections[name]
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
            kind: Any = MODELS[value["name"]] if name == "model" else sections[name]
            fields = {item.name for item in dataclasses.fields(kind)}
            known[name] = {key: part for key, part in value.items() if key in fields}
            dropped += [f"{name}.{key}" for key in value if key not in fields]
        else:
            known[name] = value
    return from_dict(known), dropped
