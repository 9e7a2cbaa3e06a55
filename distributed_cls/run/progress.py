"""What a person sees while a job runs: one progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from distributed_cls.contracts.events import (
    AttemptStarted,
    EpochEnded,
    Event,
    Metrics,
    Noted,
    Phase,
    PhaseProgressed,
    PhaseStarted,
    RankSlow,
    TrainProgressed,
)

# Off a terminal rich would wrap at 80 columns and cut paths in two.
console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=not sys.stdout.isatty())

_LINE_SECONDS = 10.0  # between two plain lines of the same work


class _Share(ProgressColumn):
    """How much is done, where that is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.percentage:>3.0f}%", style="progress.percentage")


class _Facts(ProgressColumn):
    """The numbers of the moment: throughput, loss, accuracy."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("facts", ""), style="cyan")


class Display:
    """Progress of one stage after the other, as a bar or as lines. Use it inside ``showing``."""

    def __init__(self, bar: Progress | None, name: str = "") -> None:
        """``name``: of the trial, before each line, where several run at once."""
        self._bar, self._name = bar, f"{name}  " if name else ""
        self._task: Any = None
        self._last_line = 0.0
        self._counted: tuple[float, float] | None = None  # done and the time, at the first count of a stage

    def begin(self, title: str, total: float | None = None, brief: bool = False) -> None:
        """A new stage; ``total`` units of work, None while unknown. One that is ``brief`` has no line of its own."""
        self.end()
        self._last_line, self._counted = time.monotonic(), None
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=total, facts="")
        elif not brief:
            self.line(f"{title} …")

    def update(self, title: str, done: float, total: float, facts: str = "") -> None:
        """The stage stands at ``done`` of ``total``."""
        if self._bar is not None:
            if self._task is None:
                self.begin(title, total)
            self._bar.update(self._task, description=title, completed=done, total=total, facts=facts)
        elif time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            count = "" if f"{done:,.0f}/{total:,.0f}" in title else f"{done:,.0f}/{total:,.0f}"
            self.line("  ".join(part for part in (title, count, facts) if part))

    def count(self, what: str, done: int, total: int) -> None:
        """The stage has done so many of ``total`` things of a kind: tells their throughput, and off a bar the rest."""
        now = time.monotonic()
        if self._counted is None:
            self._counted = (done, now)
        before, since = self._counted
        rate = (done - before) / max(now - since, 1e-9)
        facts = f"{rate:,.0f} {what}/s" if done > before else ""
        if facts and self._bar is None:
            facts += f"  {(total - done) / rate:,.0f} s left"
        self.update(what, done, total, facts)

    def line(self, text: str) -> None:
        """A line that stays."""
        stamp = time.strftime("%H:%M:%S")
        # In one piece: another thread's line must not come between.
        console.print(Text.assemble((stamp, "dim"), "  ", self._name, text))

    def epoch(self, text: str) -> None:
        """The metrics of an epoch that has ended."""
        self.line(text)

    def end(self) -> None:
        """The stage is over: its bar goes."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
        self._task = None


class Unseen(Display):
    """Progress of a trial that its sweep shows in a table of all trials; what a person must know still has its line."""

    def __init__(self, name: str = "") -> None:
        super().__init__(None, name)

    def begin(self, title: str, total: float | None = None, brief: bool = False) -> None:
        """Nothing: the table has the stage."""

    def update(self, title: str, done: float, total: float, facts: str = "") -> None:
        """Nothing: the table has the numbers."""

    def epoch(self, text: str) -> None:
        """Nothing: the table has the accuracy."""


def is_bar(mode: str) -> bool:
    """Whether ``mode`` (bar, lines, auto) shows something that moves: auto does on a terminal."""
    return mode == "bar" or (mode == "auto" and console.is_terminal)


@contextmanager
def showing(mode: str) -> Iterator[Display]:
    """Show progress while the block runs. ``mode``: bar, lines, or auto (a bar on a terminal)."""
    if not is_bar(mode):
        yield Display(None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        _Share(),
        _Facts(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Display(bar)


_PHASES = {
    Phase.RENDEZVOUS: "worker rendezvous",
    Phase.TENSORFLOW: "starting TensorFlow",
    Phase.CLUSTER: "connecting the workers",
    Phase.DATASET: "checking shards",
    Phase.MODEL: "building the model",
    Phase.INPUT: "reading images",
    Phase.TRACE: "tracing the training step",
    Phase.TRAIN: "training",
    Phase.EVALUATE: "evaluating",
    Phase.EXPORT: "exporting the model",
    Phase.FINISH: "finishing",
}


_BRIEF = {Phase.RENDEZVOUS, Phase.CLUSTER, Phase.DATASET, Phase.MODEL, Phase.INPUT, Phase.TRAIN, Phase.FINISH}


class TrainingView:
    """Turns the events of the ranks into progress and lines."""

    def __init__(self, progress: Display, workers: int = 1) -> None:
        self._progress, self._workers = progress, workers
        self._phase = Phase.STARTING  # of rank 0
        self._epochs = 0
        self._train: Metrics | None = None
        self._slow: set[tuple[int, str]] = set()  # ranks that were named, and their hosts

    def __call__(self, event: Event) -> None:
        match event:
            case AttemptStarted():
                number = f"{event.workers} of {self._workers}" if event.workers < self._workers else str(event.workers)
                self._progress.begin(f"starting {number} worker{'s' if self._workers > 1 else ''}")
            case PhaseStarted(rank=0):
                self._phase = event.phase
                self._progress.begin(_PHASES.get(event.phase, event.phase.value), brief=event.phase in _BRIEF)
            case PhaseProgressed(rank=0) if self._phase in _PHASES:
                # The steps of training have events of their own: what is counted between them is the validation.
                title = "validating" if self._phase is Phase.TRAIN else _PHASES[self._phase]
                self._progress.update(title, event.done, event.total)
            case Noted():
                self._progress.line(event.text)
            case RankSlow() if (event.rank, event.host) not in self._slow:
                self._slow.add((event.rank, event.host))
                self._progress.line(
                    f"Rank {event.rank} on {event.host} is {event.factor:.1f} times as slow as the others, which wait "
                    "for it in every step: look at what else that machine does, or give it fewer ranks"
                )
            case TrainProgressed():
                self._show_progress(event)
            case EpochEnded(split="train"):
                self._train = event.values
            case EpochEnded():
                self._show_epoch(event)

    def _show_progress(self, event: TrainProgressed) -> None:
        self._epochs = event.epochs
        facts = f"loss {event.values.loss:.3f}  accuracy {event.values.accuracy:.3f}"
        if event.values.images_per_second:
            facts = f"{event.values.images_per_second:,.0f} images/s  {facts}"
        title = f"epoch {event.epoch}/{event.epochs}  step {event.step:,}/{event.steps:,}"
        self._progress.update(title, event.step, event.steps, facts)

    def _show_epoch(self, event: EpochEnded) -> None:
        train, val = self._train, event.values
        assert train is not None, "the metrics of the train split are reported first"
        self._progress.epoch(
            f"epoch {event.epoch:>3}/{self._epochs}  step {event.step:>6,}  loss {train.loss:.4f}  "
            f"accuracy {train.accuracy:.4f}  |  val loss {val.loss:.4f}  accuracy {val.accuracy:.4f}  |  "
            f"{train.images_per_second or 0:,.0f} images/s"
        )
