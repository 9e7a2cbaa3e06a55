"""``make chaos`` for a long run: a fault of a rank every half minute, against the same run without any.

``python -m benchmarks.storm``. Prints the goodput: the seconds of the undisturbed run, by those of the disturbed one,
each from its first step to its last; and whether both have the same bits.
"""

import argparse
import logging
import random
import time

from benchmarks import chaos, measure
from benchmarks.faults import FAULTS, Observed

_TRIAL_EPOCHS = 60
_KINDS = ("SIGKILL of a rank", "SIGTERM of a rank", "SIGKILL of a warm process", "SIGKILL of a Python worker")


class Storm:
    """A fault every so many seconds of a run."""

    def __init__(self, seconds: float, kinds: list[str]) -> None:
        self._seconds, self._kinds = seconds, kinds
        self._chosen = random.Random(1)
        self._next: float | None = None
        self.struck: list[str] = []

    def __call__(self, seen: Observed) -> None:
        now = time.monotonic()
        if not seen.trained or (self._next is not None and now < self._next):
            return
        if self._next is not None:
            kind = self._kinds[len(self.struck) % len(self._kinds)]
            measure.tell(f"storm: {kind}, at step {seen.trained[-1][1]:,}")
            FAULTS[kind](seen, self._chosen)
            self.struck.append(kind)
        self._next = now + self._seconds


def main(arguments: list[str] | None = None) -> int:
    """Measure both runs, print the table; 0 when they have the same bits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training without faults (default: 10)")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two faults (default: 30)")
    parser.add_argument("--only", choices=_KINDS, help="this fault alone")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    storm = Storm(given.every, [given.only] if given.only else list(_KINDS))
    with chaos.arena(_TRIAL_EPOCHS) as made:
        measure.tell("storm: a short run, for the length of the long ones")
        trial = made.run()
        # The first call of all traces the graph: the second half of the run tells the speed.
        half = trial.trained[len(trial.trained) // 2 :]
        speed = (half[-1][1] - half[0][1]) / (half[-1][0] - half[0][0])
        epochs = round(given.minutes * 60 * speed / (trial.trained[-1][1] / _TRIAL_EPOCHS))
        measure.tell(f"storm: the undisturbed run of {epochs:,} epochs")
        calm = made.run(epochs=epochs)
        expected = made.bits(calm)
        stormy = made.run(storm, epochs=epochs)
        same = made.bits(stormy) == expected
    seconds = calm.trained_seconds, stormy.trained_seconds
    measure.show(
        f"{epochs:,} epochs, {len(storm.struck)} faults, one every {given.every:g} s",
        ["undisturbed", "disturbed", "goodput (goal ≥ 0.75)", "the same bits"],
        [[f"{seconds[0]:.0f} s", f"{seconds[1]:.0f} s", f"{seconds[0] / seconds[1]:.2f}", "yes" if same else "no"]],
    )
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
