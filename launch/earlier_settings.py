"""A run folder keeps what it says of its run when a further command in it is refused.

Hydra writes a command's settings into the folder before the job begins, and ``resume=`` reads them there.
"""

import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from distributed_cls import storage
from distributed_cls.contracts import status

# What a command changes in its run folder before any work.
BEFORE_WORK = (".hydra", "launch.log", "multirun.yaml", status.FILE)

_noted: tuple[Path, float, dict[Path, bytes]] | None = None  # the folder, when this command began, what was there


class NotesEarlierSettings(Callback):
    """Notes what a run folder says of its run, before Hydra replaces it."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        global _noted
        folder = Path(OmegaConf.select(config, "hydra.run.dir"))
        files = [*(folder / ".hydra").glob("*.yaml"), *folder.glob(status.FILE)]
        _noted = folder, time.time(), {path: path.read_bytes() for path in files}


def put_back() -> None:
    """After a refusal: what the folder said before, unless this command has worked in it."""
    if _noted is None or not _noted[0].is_dir():  # of a folder that held nothing else, nothing is left
        return
    folder, began, files = _noted
    inside = [path for path in folder.iterdir() if path.name not in BEFORE_WORK]
    # A folder changes when something appears in it: checkpoints/, logs/.
    if all(path.stat().st_mtime < began for path in inside):
        for path, content in files.items():
            storage.write_bytes(path, content)
