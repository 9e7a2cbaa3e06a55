"""What one rank of a run works with."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from distributed_cls.config import Config, TrainConfig
from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.events import Noted
from distributed_cls.contracts.manifest import Manifest
from distributed_cls.contracts.rank_task import TrainResult
from distributed_cls.training.balance import balanced_records
from distributed_cls.training.checkpoint_copies import CheckpointCopies
from distributed_cls.training.input import Source
from distributed_cls.training.latest_state import LatestState
from distributed_cls.training.replicated import ReplicatedModel
from distributed_cls.training.reporter import Reporter
from distributed_cls.training.run_state import Saver
from distributed_cls.training.sharding import RankLanes


def epoch_records(manifest: Manifest, train: TrainConfig) -> int:
    """How many records an epoch has to take from: those of the train split, and the copies that balance its classes."""
    return balanced_records(manifest.counts["train"]) if train.sampling == "balanced" else manifest.records("train")


@dataclass
class RankContext:
    """One rank: its settings, its part of the data, its replicas of the model, and where it reports."""

    config: Config
    manifest: Manifest
    sources: dict[str, Source]  # this rank's part of each split: images, or their features
    replicated: ReplicatedModel
    reporter: Reporter
    rank: int
    world_size: int
    threads: int
    run_folder: Path
    settings: dict[str, Json]  # of the run, both phases: what its checkpoints say
    first_phase: TrainResult | None = None  # in the second phase: what the first one came to
    images: dict[str, Source] = field(default_factory=dict)  # of evaluated splits, where ``sources`` has features
    began_here: bool = False  # whether a run whose checkpoints are all damaged begins again
    latest: LatestState | None = None  # states in memory, of this attempt and those before it
    # tf.data iterators that must live as long as the process: see ``loop.train``.
    kept_alive: list[object] = field(default_factory=list)

    @functools.cached_property
    def saver(self) -> Saver:
        """Of rank 0, which alone uses it."""
        url, keep = self.config.train.checkpoint_dir, self.config.train.keep_checkpoints
        copies = CheckpointCopies(self.checkpoints, url, keep, self.note) if url else None
        return Saver(self.checkpoints, keep, self.note, copies, self.replicated.frozen_variables)

    def note(self, text: str) -> None:
        """Send a line to the person who watches."""
        self.reporter.send(Noted(text=text))

    def pictures(self, split: str) -> Source:
        """This rank's part of a split as images."""
        return self.images.get(split, self.sources[split])

    @property
    def is_chief(self) -> bool:
        """Rank 0 alone writes files and reports numbers, after they were summed over all ranks."""
        return self.rank == 0

    @property
    def checkpoints(self) -> Path:
        return self.run_folder / "checkpoints"

    @property
    def lanes(self) -> RankLanes:
        """The part of every global batch that this rank computes."""
        local = self.replicated.local_replicas
        return RankLanes.of([self.epoch_records], self.config.train, self.world_size, self.rank, local)

    @property
    def epoch_records(self) -> int:
        """How many records a training epoch has to take from."""
        return epoch_records(self.manifest, self.config.train)

    def records(self, split: str) -> list[int]:
        """Records of each shard of a split."""
        return [shard.records for shard in self.manifest.shards[split]]
