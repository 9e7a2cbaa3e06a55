"""Which version of the model answers: the newest whole one in ``model_dir``, exchanged while requests run."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from distributed_cls.contracts.export import Export, find_export, load_export
from distributed_cls.errors import UserError
from distributed_cls.predictor.classifier import Classifier
from distributed_cls.predictor.heat_map import HeatMap, can_explain

log = logging.getLogger(__name__)
_LONGEST_PAUSE = 60.0  # seconds between two tries of a version that does not load


class Loaded:
    """One version in memory. Requests hold on to the one they began with."""

    def __init__(self, export: Export, warm_batches: tuple[int, ...]) -> None:
        self.export = export
        self.classifier = Classifier(export)
        self.classifier.warm_up(*warm_batches)
        self.can_explain = can_explain(export)
        self._heat_map: HeatMap | None = None
        self._heat_map_lock = threading.Lock()

    @property
    def version_names(self) -> list[str]:
        """What callers may call the version: its checksum, and the number of its folder where it has one."""
        folder = Path(self.export.folder)
        numbers = [part.name for part in (folder, folder.parent) if part.name.isdecimal()]
        return [self.export.version, *numbers[:1]]

    def heat_map(self) -> HeatMap:
        """The heat map of this version; built when it is first asked for, as most visits never do."""
        with self._heat_map_lock:
            if self._heat_map is None:
                self._heat_map = HeatMap(self.export)
            return self._heat_map


class Versions:
    """Holds the current version and looks for newer ones."""

    def __init__(
        self, model_dir: str, warm_batches: tuple[int, ...], on_load: Callable[[Export], None] = lambda _: None
    ) -> None:
        self._model_dir = model_dir
        self._warm_batches = warm_batches
        self._on_load = on_load
        self._seen = self._look()
        self.current = self._load()
        # The name is part of the addresses that callers use, so it stays when a new version calls itself otherwise.
        self.name = self.current.export.title

    def _look(self) -> tuple[str, int, int, int]:
        """What changes when another version is put there."""
        about = find_export(self._model_dir) / "model.json"
        state = about.stat()
        return str(about), state.st_mtime_ns, state.st_ino, state.st_size

    def _load(self) -> Loaded:
        loaded = Loaded(load_export(self._model_dir), self._warm_batches)
        self._on_load(loaded.export)
        return loaded

    def refresh(self) -> bool:
        """Load the newest version if it is not the current one; True when it was exchanged. Raises UserError."""
        try:
            seen = self._look()
            if seen == self._seen:
                return False
            self.current = self._load()
        except OSError as error:
            raise UserError(f"Expected a whole model in {self._model_dir}. Received: {error}.") from error
        self._seen = seen
        return True

    async def watch(self, interval: float) -> None:
        """Look every ``interval`` seconds, until cancelled. A version that does not load leaves the current one."""
        pause, last_complaint = interval, ""
        while True:
            await asyncio.sleep(pause)
            try:
                if await asyncio.to_thread(self.refresh):
                    export = self.current.export
                    log.warning("Now serving version %s, exported %s.", export.version, export.created)
                pause, last_complaint = interval, ""
            except UserError as error:
                # A copy in progress looks damaged until it is whole: keep answering, try again, more slowly each time.
                if str(error) != last_complaint:
                    log.warning("Keeping version %s. %s", self.current.export.version, error)
                pause, last_complaint = min(pause * 2, _LONGEST_PAUSE), str(error)
