"""A rank in this process, on a small data set of its own."""

import os
from pathlib import Path

import keras
import tensorflow as tf

from distributed_cls.config import Config, DataConfig, TrainConfig
from distributed_cls.contracts import manifest as manifests
from distributed_cls.models.building import build
from distributed_cls.models.cnn import CnnConfig
from distributed_cls.training.context import RankContext
from distributed_cls.training.replicated import ReplicatedModel
from distributed_cls.training.reporter import Reporter
from distributed_cls.training.start import open_sources
from tests.shards import records, write_dataset

EVENTS = "events.jsonl"  # what the rank reports


def only_rank(folder: Path, train: TrainConfig, steps: int) -> RankContext:
    """The only rank of a run in ``folder``, with data for ``steps`` steps an epoch."""
    data = str(folder / "data")
    splits = {"train": [records(train.batch_size * steps)], "val": [records(9, seed=1)], "test": [records(3, seed=2)]}
    write_dataset(folder / "data", splits)
    model = CnnConfig(filters=[4], units=8)
    config, manifest = Config(data=DataConfig(image_size=8), model=model, train=train), manifests.load(data)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    keras.utils.set_random_seed(0)
    return RankContext(
        config=config,
        manifest=manifest,
        sources=open_sources(manifest, data, config, 0, 1, lambda done, total: None),
        replicated=ReplicatedModel(strategy, lambda: build(model, 8, 3), train, steps * train.epochs),
        reporter=Reporter(os.open(folder / EVENTS, os.O_WRONLY | os.O_CREAT)),
        rank=0,
        world_size=1,
        threads=1,
        run_folder=folder,
        settings={},
    )
