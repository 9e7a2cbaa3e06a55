"""How the model is trained."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting


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
    warmup_fraction: float = setting(
        0.05, "fraction of all steps in which the learning rate rises from 0", at_least=0, below=1
    )
    label_smoothing: float = setting(0.0, "probability mass spread over the other classes", at_least=0, below=1)
    flip: bool = setting(False, "augmentation: mirror half of the training images left to right")
    shift: float = setting(
        0.0, "augmentation: largest shift in each direction, fraction of the edge", at_least=0, below=1
    )
    seed: int = setting(
        0, "seed of initialisation, data order, augmentation and dropout", at_least=0, at_most=2**32 - 1
    )
    shuffle_buffer: int = setting(16384, "shuffle buffer of each rank, images; 0 keeps the stored order", at_least=0)
    cache_megabytes: int = setting(
        1024, "memory per rank for decoded images; a split that needs more is decoded again each epoch", at_least=0
    )
    steps_per_call: int = setting(50, "maximum training steps per graph call", at_least=1)
    patience: int | None = setting(
        None, "early stopping: epochs without a better validation accuracy; null: off", at_least=1
    )
    deterministic: bool = setting(False, "bit-for-bit repeatable kernels, somewhat slower")
    mixed_precision: bool = setting(False, "compute in float16 or bfloat16 (GPUs)")
    jit_compile: bool = setting(False, "compile the step with XLA; far slower for convolutions on CPUs")
