"""An earlier run's backbone under a new head, and then its top trained as well: one command, two phases."""

import json
from pathlib import Path

import keras
import numpy as np

from distributed_cls.contracts import checkpoint, features
from tests.end_to_end.conftest import Launcher

_NETWORK = ("model.filters=[8,16]", "model.units=32", "model.dropout=0", "cluster.workers=1")


def test_the_backbone_of_an_earlier_run_is_used_and_then_tuned(launch: Launcher) -> None:
    earlier = launch(*_NETWORK, "train.epochs=8", "train.learning_rate=1e-2")
    assert earlier.summary["train"]["epochs"] == 8 and earlier.folder is not None
    tuned = launch(
        *_NETWORK,
        f"model.weights={earlier.folder}",
        "train.epochs=6",
        "train.learning_rate=3e-2",
        "train.fine_tune_epochs=2",
        "train.fine_tune_rate=1e-3",
        "model.fine_tune_from=block_1",
    )
    summary = tuned.summary
    assert "SHA-256" in tuned.output and "Second phase: 2 epochs" in tuned.output
    # The head was trained on features that Spark computed once, into a place that the next run finds.
    assert "Features of the frozen backbone: 1,797 images computed in " in tuned.output
    assert summary["seconds"]["features"] > 0 and "features" not in earlier.summary["seconds"]
    [stored] = (Path(summary["dataset"]["path"]) / features.FOLDER).iterdir()
    assert features.load(str(stored)).length == 32
    assert (summary["train"]["epochs"], summary["attempts"]) == (8, 1)
    assert summary["test"]["accuracy"] >= 0.85  # 0.98 of the earlier run; this one has 0.96
    assert tuned.folder is not None
    lines = [json.loads(line) for line in (tuned.folder / "metrics.jsonl").read_text().splitlines()]
    ended = [line["epoch"] for line in lines if line["event"] == "epoch" and line["split"] == "val"]
    assert ended == list(range(1, 9))
    position = checkpoint.read_position(tuned.folder / "checkpoints" / checkpoint.LAST)
    assert position.first_phase is not None and position.first_phase.epochs == 6 and position.epoch == 2

    before, after = (
        keras.saving.load_model(folder / "model" / "model.keras", compile=False)
        for folder in (earlier.folder, tuned.folder)
    )
    for name in ("block_0_conv", "block_0_norm", "block_1_norm"):
        for one, other in zip(before.get_layer(name).get_weights(), after.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
