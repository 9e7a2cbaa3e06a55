"""Stand-in pictures for the stories, for machines without the real photos.

    python docs/stories/stand_in.py cars cars/            # 1,200 pictures in four folders
    python docs/stories/stand_in.py new-cars new-cars/    # eight others, and one that is cut off in its middle
    python docs/stories/stand_in.py clothes clothes/      # 1,500 pictures in five folders

Each picture differs in place, size, colour, light and background, so that a model has to learn the shape. The drawings
are no substitute for photos: they show the commands at work and let the pages hold real output.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Points = list[tuple[float, float]]

# Outlines in a square from 0 to 1; y grows downwards.
_CARS: dict[str, Points] = {
    "beetle": [(0.08, 0.7), (0.1, 0.52), (0.25, 0.46), (0.35, 0.3), (0.6, 0.28), (0.74, 0.42), (0.9, 0.5), (0.94, 0.7)],
    "coupe": [
        (0.04, 0.68),
        (0.06, 0.54),
        (0.34, 0.5),
        (0.5, 0.38),
        (0.66, 0.38),
        (0.84, 0.5),
        (0.96, 0.54),
        (0.97, 0.68),
    ],
    "pickup": [(0.05, 0.7), (0.05, 0.5), (0.26, 0.48), (0.34, 0.3), (0.55, 0.3), (0.57, 0.5), (0.95, 0.5), (0.95, 0.7)],
    "van": [(0.06, 0.72), (0.07, 0.5), (0.2, 0.26), (0.92, 0.24), (0.95, 0.3), (0.95, 0.72)],
}
_CLOTHES: dict[str, Points] = {
    "bag": [
        (0.2, 0.45),
        (0.35, 0.45),
        (0.38, 0.25),
        (0.62, 0.25),
        (0.65, 0.45),
        (0.8, 0.45),
        (0.86, 0.82),
        (0.14, 0.82),
    ],
    "boot": [(0.3, 0.15), (0.55, 0.15), (0.56, 0.55), (0.85, 0.68), (0.87, 0.82), (0.28, 0.82)],
    "dress": [(0.4, 0.12), (0.6, 0.12), (0.58, 0.4), (0.78, 0.88), (0.22, 0.88), (0.42, 0.4)],
    "shirt": [
        *[(0.36, 0.18), (0.64, 0.18), (0.92, 0.4), (0.8, 0.52), (0.7, 0.44)],
        *[(0.7, 0.84), (0.3, 0.84), (0.3, 0.44), (0.2, 0.52), (0.08, 0.4)],
    ],
    "trousers": [(0.32, 0.12), (0.68, 0.12), (0.74, 0.88), (0.58, 0.88), (0.5, 0.36), (0.42, 0.88), (0.26, 0.88)],
}


def _background(chance: np.random.Generator, edge: int) -> np.ndarray:
    grey = chance.uniform(110, 220)
    coarse = np.clip(grey + chance.normal(0, 22, (4, 4, 3)), 0, 255).astype(np.uint8)
    return cv2.resize(coarse, (edge, edge), interpolation=cv2.INTER_CUBIC)


def _place(chance: np.random.Generator, points: Points, edge: int) -> Callable[[Points], np.ndarray]:
    scale, angle = chance.uniform(0.62, 0.95), chance.normal(0, 0.1)
    shift = chance.uniform(-0.1, 0.1, 2) + 0.5
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.array([chance.choice([-1, 1]), 1])

    def place(shape: Points) -> np.ndarray:
        moved = ((np.array(shape) - 0.5) * flip * scale) @ turn.T + shift
        return (moved * edge).astype(np.int32)

    return place


def draw(chance: np.random.Generator, points: Points, wheels: bool, edge: int = 128) -> np.ndarray:
    """One picture, uint8 [edge, edge, 3]."""
    image = _background(chance, edge)
    place = _place(chance, points, edge)
    colour = tuple(int(part) for part in chance.integers(0, 256, 3))
    cv2.fillPoly(image, [place(points)], colour, cv2.LINE_AA)
    if wheels:
        for centre in place([(0.26, 0.72), (0.76, 0.72)]):
            cv2.circle(image, tuple(int(part) for part in centre), edge // 12, (20, 20, 20), -1, cv2.LINE_AA)
    noisy = image.astype(np.float32) * chance.uniform(0.6, 1.2) + chance.normal(0, 8, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def write_classes(folder: Path, shapes: dict[str, Points], wheels: bool, per_class: int = 300) -> None:
    """Write ``per_class`` JPEG files into one folder per class."""
    chance = np.random.default_rng(0)
    for name, points in shapes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            cv2.imwrite(str(folder / name / f"{name}-{number:03d}.jpg"), draw(chance, points, wheels))


def write_new_cars(folder: Path, per_class: int = 2) -> None:
    """Write cars that are in no training set, in the order of their classes, and the first half of one more file."""
    chance = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [draw(chance, points, wheels=True) for points in _CARS.values() for _ in range(per_class)]
    for number, picture in enumerate(pictures, start=1):
        cv2.imwrite(str(folder / f"photo-{number}.jpg"), picture)
    whole = (folder / "photo-1.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])


def main(kind: str, folder: Path) -> None:
    """Make the pictures of ``kind``: cars, new-cars or clothes."""
    if kind == "new-cars":
        write_new_cars(folder)
        return
    shapes, wheels = {"cars": (_CARS, True), "clothes": (_CLOTHES, False)}[kind]
    write_classes(folder, shapes, wheels)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
