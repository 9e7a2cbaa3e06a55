"""A search by ask and tell: the sampler is asked for a trial when there is room for it, and told of each that ends.

What a sampler draws depends on what it knew by then, and with several trials at once that depends on their speed. So
the row of a trial has the results that were told since the trial before it. A search that goes on repeats the
conversation from its beginning: the sampler, with a seed, says the same again.
"""

from collections.abc import Sequence
from typing import Protocol

from distributed_cls.contracts.trials_table import TrialRow
from launch.sweep_state import Sweep


class Sampler(Protocol):
    """What draws the settings of trials."""

    def ask(self) -> Sequence[str]:
        """The overrides of the next trial."""

    def tell(self, place: int, row: TrialRow) -> None:
        """How the trial ended that was asked for as number ``place``, from 0 on."""


class AskTell:
    """The conversation with ``sampler`` about ``trials`` trials of ``sweep``, from its first word on."""

    def __init__(self, sampler: Sampler, sweep: Sweep, trials: int) -> None:
        self._sampler, self._sweep, self._trials = sampler, sweep, trials
        self._before = [row for row in sweep.rows if row.refit_of is None]  # of the command that this one goes on with
        self._places: dict[int, int] = {}  # of trials, by number
        self._ended: dict[int, TrialRow] = {}  # of which the sampler has not been told, in the order of their ends

    @property
    def left(self) -> int:
        """Trials that have not been asked for."""
        return self._trials - len(self._places)

    def next(self) -> tuple[int, Sequence[str]] | None:
        """Number and overrides of the next trial that is to run; None when there are no more."""
        while self.left:
            told = self._tell()
            overrides = self._sampler.ask()
            found = self._sweep.ask(overrides, told=told)
            number = found.trial if isinstance(found, TrialRow) else found
            self._places[number] = len(self._places)
            if not isinstance(found, TrialRow):
                return number, overrides
            self._ended[number] = found
        return None

    def end(self, number: int) -> None:
        """The trial has ended; its row says how."""
        row = next((row for row in self._sweep.rows if row.trial == number), None)
        if row is not None and (row.ended or row.failed):  # otherwise it is to go on later
            self._ended[number] = row

    def end_all(self) -> None:
        """Tell the sampler what it has not been told."""
        self._tell_of(list(self._ended))

    def _tell(self) -> list[int]:
        """Tell what the sampler is to know before it is asked again; the numbers of these trials."""
        place = len(self._places)
        noted = self._before[place].told if place < len(self._before) else None
        numbers = list(self._ended) if noted is None else [number for number in noted if number in self._ended]
        return self._tell_of(numbers)

    def _tell_of(self, numbers: list[int]) -> list[int]:
        for number in numbers:
            self._sampler.tell(self._places[number], self._ended.pop(number))
        return numbers
