"""How the model is trained."""

import dataclasses
from dataclasses import dataclass

from distributed_cls.config.section import Section, setting

MOST_LANES = 64  # by default
LIGHT_SHIFT = 0.1  # of augment=light


@dataclass
class TrainConfig(Section):
    """How the model is trained."""

    section = "train"

    epochs: int = setting(10, "passes over the train split", at_least=1)
    time_budget: float | None = setting(
        None,
        "seconds of training, start of the ranks and validation included: as many epochs as fit, instead of epochs; "
        "null: off",
        above=0,
    )
    batch_size: int = setting(128, "GLOBAL batch: images per step over all workers", at_least=1)
    accumulate: int = setting(
        1,
        "parts in which a replica computes its share of the batch, one after the other: less memory, the same weights "
        "(but for BatchNorm, which sees a part at a time)",
        at_least=1,
    )
    lanes: int | None = setting(
        None,
        "parts of the train split, each with an order of its own, that are dealt to the replicas; null: the largest "
        "divisor of batch_size up to 64, with mixup or cutmix up to half of batch_size too",
        at_least=1,
        at_most=2**20,
    )
    learning_rate: float = setting(1e-3, "peak learning rate", above=0)
    optimizer: str = setting("adam", "which Keras optimizer", choices=("adam", "adamw", "sgd"))
    scale_rate_from: int | None = setting(
        None, "batch size that learning_rate is meant for: it then grows with batch_size; null: as it is", at_least=1
    )
    momentum: float = setting(0.9, "momentum of optimizer=sgd", at_least=0, below=1)
    nesterov: bool = setting(False, "optimizer=sgd: Nesterov's momentum")
    weight_decay: float = setting(
        0.0, "decoupled weight decay of adamw and sgd, of kernels alone (no biases, no normalisation)", at_least=0
    )
    schedule: str = setting(
        "cosine",
        "learning rate over the run; all but constant warm up first",
        choices=("constant", "cosine", "one_cycle", "step"),
    )
    warmup_fraction: float = setting(
        0.05, "fraction of all steps in which the rate rises to its peak", at_least=0, below=1
    )
    decay_at: list[float] = setting(
        [0.5, 0.75], "schedule=step: fractions of all steps at which the rate falls", above=0, below=1
    )
    decay_factor: float = setting(0.1, "schedule=step: what the rate is multiplied by", above=0, below=1)
    clip_norm: float | None = setting(
        None, "largest global norm of the whole batch's gradient; what is longer is shortened; null: any", above=0
    )
    class_weights: str | None = setting(
        None, "weights of the classes in the loss; balanced: inverse to their images; null: none", choices=("balanced",)
    )
    ema: float | None = setting(
        None,
        "decay of a running average of the weights, which is what is validated, kept and exported; null: the weights",
        above=0,
        below=1,
    )
    sampling: str = setting(
        "plain",
        "plain: each image once an epoch; balanced: those of smaller classes repeat until each has as many as the "
        "largest",
        choices=("plain", "balanced"),
    )
    label_smoothing: float = setting(0.0, "probability mass spread over the other classes", at_least=0, below=1)
    augment: str = setting(
        "none",
        "augmentation beside flip and shift: light is flip, and a shift of 0.1 where none is set; photo: crops, "
        "brightness and contrast; randaugment: random changes of place, colour and sharpness",
        choices=("none", "light", "photo", "randaugment"),
    )
    flip: bool = setting(False, "augmentation: mirror half of the training images left to right")
    shift: float = setting(
        0.0, "augmentation: largest shift in each direction, fraction of the edge", at_least=0, below=1
    )
    randaugment_changes: int = setting(2, "augment=randaugment: changes of each image", at_least=1)
    randaugment_magnitude: float = setting(
        5.0, "augment=randaugment: how strong each is, up to 10", at_least=0, at_most=10
    )
    erase: float = setting(
        0.0, "augmentation: part of the images in which a random box is erased", at_least=0, at_most=1
    )
    mixup: float = setting(
        0.0, "augmentation: mix images and labels, with weights of Beta(mixup, mixup); 0: off", at_least=0
    )
    cutmix: float = setting(
        0.0, "augmentation: paste a box of one image into another, areas of Beta(cutmix, cutmix); 0: off", at_least=0
    )
    seed: int = setting(
        0, "seed of initialisation, data order, augmentation and dropout", at_least=0, at_most=2**32 - 1
    )
    shuffle_buffer: int = setting(
        16384, "shuffle buffer of all ranks together, images; 0 keeps the stored order", at_least=0
    )
    cache_megabytes: int = setting(
        1024, "memory per rank for decoded images; a split that needs more is decoded again each epoch", at_least=0
    )
    steps_per_call: int = setting(50, "maximum training steps per graph call", at_least=1)
    monitor: str = setting(
        "accuracy",
        "validation metric that says which epoch is the best; between equals the other one counts",
        choices=("accuracy", "loss"),
    )
    patience: int | None = setting(
        None, "early stopping: epochs without a better validation (monitor); null: off", at_least=1
    )
    fine_tune_epochs: int = setting(
        0,
        "second phase of a training with a frozen backbone: epochs in which its top is trained as well, from the best "
        "of the first phase on; 0: none",
        at_least=0,
    )
    fine_tune_rate: float = setting(1e-5, "second phase: peak learning rate", above=0)
    fine_tune_patience: int | None = setting(
        None, "second phase: early stopping after epochs without a better validation; null: off", at_least=1
    )
    checkpoint_seconds: float | None = setting(
        30.0, "seconds between checkpoints within an epoch; null: at the end of epochs only", above=0
    )
    checkpoint_steps: int | None = setting(
        None,
        "steps between checkpoints within an epoch, beside checkpoint_seconds; null: by the clock only",
        at_least=1,
    )
    snapshot_seconds: float | None = setting(
        1.0,
        "seconds between states kept in memory, from which a rank that died goes on; less often where taking one would "
        "cost more than 2 % of the time; null: none",
        above=0,
    )
    keep_checkpoints: int = setting(
        2, "checkpoints of the latest state that are kept; of a damaged one the one before is used", at_least=1
    )
    checkpoint_dir: str | None = setting(
        None,
        "URL of this run's own folder in a store, to which its checkpoints are copied; an empty run folder goes on "
        "from there; null: in the run folder alone",
    )
    deterministic: bool = setting(False, "bit-for-bit repeatable kernels, somewhat slower")
    sync_batch_norm: bool = setting(
        False, "normalise over the global batch, not each replica's part: the same for any number of workers, slower"
    )
    mixed_precision: bool = setting(False, "compute in float16 or bfloat16 (GPUs)")
    jit_compile: bool = setting(False, "compile the step with XLA; far slower for convolutions on CPUs")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lanes and self.batch_size % self.lanes:
            advice = f"Set train.lanes={self.lane_count_for(self.lanes)}, or leave it out."
            self.refuse("lanes", self.lanes, f"a divisor of train.batch_size={self.batch_size}", advice)
        if self.mixes and self.batch_size // self.lane_count < 2:
            # An image is mixed with others of its lane.
            self.refuse(
                "lanes", self.lane_count, f"at most half of train.batch_size={self.batch_size} with mixup or cutmix"
            )
        if self.jit_compile and self.accumulate > 1:
            # XLA needs parts whose sizes are known.
            self.refuse("accumulate", self.accumulate, "1 with jit_compile", "Set train.jit_compile=false.")
        if self.time_budget is not None and self.fine_tune_epochs:
            advice = "Leave one of them out."
            self.refuse("time_budget", self.time_budget, "null with a second phase, whose epochs are given", advice)
        if self.class_weights and self.sampling == "balanced":
            advice = "Leave one of them out."
            self.refuse("class_weights", self.class_weights, "null with sampling=balanced, which does the same", advice)
        # Neither would do anything, without a word.
        if self.weight_decay and self.optimizer == "adam":
            self.refuse("weight_decay", self.weight_decay, "0 with optimizer=adam", "Set train.optimizer=adamw.")
        if self.nesterov and self.optimizer != "sgd":
            self.refuse("nesterov", True, f"false with optimizer={self.optimizer}", "Set train.optimizer=sgd.")

    @property
    def peak_rate(self) -> float:
        """The highest learning rate; where wanted, scaled linearly with the global batch (Goyal et al. 2017)."""
        return self.learning_rate * self.batch_size / (self.scale_rate_from or self.batch_size)

    def second_phase(self) -> "TrainConfig":
        """These settings as they are in the second phase."""
        return dataclasses.replace(
            self,
            epochs=self.fine_tune_epochs,
            learning_rate=self.fine_tune_rate,
            patience=self.fine_tune_patience,
            fine_tune_epochs=0,
        )

    @property
    def mirrors(self) -> bool:
        """Whether half of the training images are mirrored."""
        return self.flip or self.augment == "light"

    @property
    def largest_shift(self) -> float:
        """Of training images in each direction, fraction of the edge."""
        return self.shift or (LIGHT_SHIFT if self.augment == "light" else 0.0)

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    @property
    def augments(self) -> bool:
        """Whether a training image is another one each time that it comes."""
        return bool(self.mirrors or self.largest_shift or self.augment != "none" or self.erase or self.mixes)

    @property
    def lane_count(self) -> int:
        """How many lanes the train split has (``training/sharding.py``), whatever the number of ranks."""
        most = min(MOST_LANES, max(1, self.batch_size // 2)) if self.mixes else MOST_LANES
        return self.lanes or self.lane_count_for(most)

    def lane_count_for(self, most: int) -> int:
        """The largest divisor of the global batch up to ``most``."""
        return next(lanes for lanes in range(min(most, self.batch_size), 0, -1) if self.batch_size % lanes == 0)
