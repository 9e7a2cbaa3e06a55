"""Rows of images below the model's threshold say so; the others, and those of a model without one, count."""

import dataclasses
from pathlib import Path

import cv2
import keras
import numpy as np

from distributed_cls.contracts.confidence import Confidence, RejectBy
from distributed_cls.contracts.export import load_export
from distributed_cls.inference.bulk import Item, PredictTask, classify
from distributed_cls.training.model_card import Card
from distributed_cls.training.saved_model import export_model


def _export(folder: Path) -> None:
    """A model whose logits are the mean brightness of the image and its negative."""
    pixels = keras.Input((16, 16, 3))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 128, offset=-1)(pixels))
    logits = keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros", name="logits")
    model = keras.Model(pixels, logits(mean))
    logits.set_weights([np.array([[1.0, -1.0]] * 3, np.float32)])
    export_model(model, folder, classes=["bright", "dark"], image_size=16, card=Card("mean"))


def test_a_row_says_whether_its_answer_counts(tmp_path: Path) -> None:
    _export(tmp_path / "model")
    export = load_export(str(tmp_path))
    images = [cv2.imencode(".png", np.full((16, 16, 3), level, np.uint8))[1].tobytes() for level in (0, 120, 250)]
    items = [Item(f"/{number}", lambda data=data: data) for number, data in enumerate([*images, b"no image"])]

    def rows(
        threshold: float | None, reject_by: RejectBy = RejectBy.CONFIDENCE
    ) -> list[tuple[str | None, bool | None]]:
        confidence = Confidence(threshold=threshold, coverage=0.9, reject_by=reject_by)
        chosen = dataclasses.replace(export, confidence=confidence)
        return [(row.label, row.accepted) for row in classify(items, PredictTask(chosen, 2, 2, 1))]

    assert rows(0.9) == [("dark", True), ("dark", False), ("bright", True), (None, None)]
    # The energies are ln(e³ + e⁻³), ln(e⁰·² + e⁻⁰·²) and ln(e²·⁹ + e⁻²·⁹).
    assert rows(2.95, RejectBy.ENERGY) == [("dark", True), ("dark", False), ("bright", False), (None, None)]
    assert rows(None) == [("dark", True), ("dark", True), ("bright", True), (None, None)]
