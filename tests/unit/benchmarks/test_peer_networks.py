"""The network of the peers is the framework's CNN, in every library that is installed; and a peer really trains it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import keras_cnn, peer_torch
from benchmarks.peer_task import PeerResult, PeerTask

# Convolutions; scales and offsets of the normalisations; 4 × 4 × 128 features into 128 units; 10 logits.
PARAMETERS = 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + (2048 + 1) * 128 + (128 + 1) * 10


def test_keras_has_the_variables_of_the_frameworks_model() -> None:
    keras = pytest.importorskip("keras")
    from distributed_cls.models.building import build
    from distributed_cls.models.cnn import CnnConfig

    theirs = [tuple(variable.shape) for variable in keras_cnn.cnn(keras, 32, 10).trainable_variables]
    assert theirs == [tuple(variable.shape) for variable in build(CnnConfig(), 32, 10).trainable_variables]
    assert sum(int(np.prod(shape)) for shape in theirs) == PARAMETERS


def test_legacy_keras_has_as_many_parameters() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    assert sum(int(np.prod(v.shape)) for v in keras_cnn.cnn(tf_keras, 32, 10).trainable_variables) == PARAMETERS


def test_torch_has_as_many_parameters() -> None:
    torch = pytest.importorskip("torch")
    network = peer_torch.cnn(32, 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_peer_trains_and_reports_all_epochs_but_the_first(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        images=random.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8),
        labels=random.integers(0, 3, 16),
    )
    task = PeerTask(str(tmp_path / "data.npz"), classes=3, epochs=3, steps=2, global_batch=8, learning_rate=1e-3)
    task.write(tmp_path / "task.json")
    command = [
        sys.executable,
        "-m",
        "benchmarks.peer",
        "keras",
        str(tmp_path / "task.json"),
        str(tmp_path / "out.json"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    result = PeerResult.read(tmp_path / "out.json")
    assert result.images == 2 * 2 * 8
    assert result.seconds > 0
    assert 0 < result.loss < 10
    assert result.parameters == 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + (128 + 1) * 128 + 129 * 3
