"""``python -m benchmarks.peer_data dataset-folder data.npz``: the decoded train split, as the peers read it."""

import sys
from pathlib import Path

import numpy as np

from benchmarks import bare_worker


def main() -> None:
    """Write ``images`` uint8 [N, S, S, C] and ``labels`` int64 [N] in the order of the shards."""
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    images, labels = bare_worker.read(folder, "train")
    np.savez(target, images=images.numpy(), labels=labels.numpy())


if __name__ == "__main__":
    main()
