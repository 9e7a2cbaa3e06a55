"""What the ranks of a run would have left behind: counts, pictures and events."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MakeRun = Callable[..., Path]


def png(pixels: np.ndarray) -> str:
    """Base64 of a PNG of uint8 pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def count(
    split: str, probabilities: np.ndarray, labels: np.ndarray, images: np.ndarray | None = None
) -> dict[str, Any]:
    """What the ranks of a run would have summed; probabilities (images, classes), labels (images,)."""
    classes, predicted, confidence = probabilities.shape[1], probabilities.argmax(1), probabilities.max(1)
    right = predicted == labels
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    likeliest = np.argsort(-probabilities, axis=1)[:, :5]
    wrong = np.flatnonzero(~right)
    pictures = (
        []
        if images is None
        else [
            {
                "image": png(images[index]),
                "key": f"{index:08x}",
                "true": int(labels[index]),
                "predicted": int(predicted[index]),
                "confidence": float(confidence[index]),
            }
            for index in wrong[np.argsort(-confidence[wrong])][:24]
        ]
    )
    return {
        "split": split,
        "examples": len(labels),
        "correct": int(right.sum()),
        "confusion": confusion.tolist(),
        "loss_sum": float(-np.log(probabilities[np.arange(len(labels)), labels]).sum()),
        "top5_correct": int((likeliest == labels[:, None]).any(1).sum()),
        "bins": {
            "count": np.bincount(bins, minlength=15).tolist(),
            "correct": np.bincount(bins, right, 15).astype(int).tolist(),
            "confidence": np.bincount(bins, confidence, 15).tolist(),
        },
        "mistakes": pictures,
    }


def events(epochs: int) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl: each epoch four calls, then train and val."""
    lines: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        for call in range(1, 5):
            step = 10 * (epoch - 1) + call
            lines.append(
                {
                    "event": "progress",
                    "split": "train",
                    "epoch": epoch,
                    "epochs": epochs,
                    "step": step,
                    "steps": 10 * epochs,
                    "time": 1.7e9 + step,
                    "values": {"loss": 2 / epoch, "accuracy": 0.5, "images_per_second": 2400.0 + call},
                }
            )
        for split in ("train", "val"):
            values = {"loss": 2 / epoch, "accuracy": 1 - 0.5 / epoch}
            values |= {"learning_rate": 0.001 / epoch} if split == "train" else {}
            lines.append(
                {
                    "event": "epoch",
                    "split": split,
                    "epoch": epoch,
                    "step": 10 * epoch,
                    "time": 1.7e9 + 10 * epoch,
                    "values": values,
                }
            )
    return lines
