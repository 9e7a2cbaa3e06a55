"""``python -m benchmarks.peer NAME task.json result.json``: train with ``benchmarks/peer_NAME.py`` in this process.

Each peer is a module with ``train(task)``. It is imported, never ``__main__``: Spark's tasks import it too.
"""

import importlib
import sys
from pathlib import Path

from benchmarks.peer_task import PeerResult, PeerTask


def main() -> None:
    """Run one peer and write its result."""
    name, task, result = sys.argv[1:]
    trained: PeerResult = importlib.import_module(f"benchmarks.peer_{name}").train(PeerTask.read(Path(task)))
    trained.write(Path(result))


if __name__ == "__main__":
    main()
