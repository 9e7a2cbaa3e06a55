"""What each rank tells the others when they meet: its address, and what must be the same on all of them."""

import json
from dataclasses import dataclass

from distributed_cls.contracts import codec


@dataclass(frozen=True)
class RankFacts:
    """One rank, before it trains. Versions are those that it will import."""

    host: str  # IP address
    port: int
    python: str
    tensorflow: str
    keras: str
    distributed_cls: str  # of the code that runs, which travels from the driver, not of what is installed
    dataset: str  # fingerprint of the data set that it sees, or why it sees none
    run_folder: bool  # whether it sees the driver's run folder, and not another one of the same path
    gpus: int


def dumps(facts: RankFacts) -> str:
    """The facts as JSON text. No version of their own: all ranks run the driver's code."""
    return codec.dumps(facts)


def loads(text: str) -> RankFacts:
    """The facts again. Raises ValueError when they are damaged."""
    return codec.from_plain(RankFacts, json.loads(text))
