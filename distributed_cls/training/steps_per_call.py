"""How many steps the next graph call takes."""

# A graph call should be short enough for the progress to move and a stall to show, long enough to hide Python.
_SECONDS_PER_CALL = 1.0
_FIRST_GUESS = 5  # steps of a call while nothing was timed


class StepsPerCall:
    """``_SECONDS_PER_CALL`` worth of steps, once ``calibrate`` has told how long one takes.

    Calls that contain collectives must be cut alike on every rank: TensorFlow finds the peer's part of a collective by
    the loop's iteration number, among others, so ranks that count their iterations differently wait for ever. Such
    calls are calibrated with numbers that are the same everywhere, never with a rank's own clock.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds_per_step: float | None = None

    @property
    def calibrated(self) -> bool:
        return self._seconds_per_step is not None

    def calibrate(self, seconds_per_step: float) -> None:
        """From now on a step is taken to last that long."""
        self._seconds_per_step = max(seconds_per_step, 1e-6)

    def next(self, left: int) -> int:
        """Steps of the next call, when ``left`` are to be done."""
        most = min(left, self._most)
        if self._seconds_per_step is None:
            return min(most, _FIRST_GUESS)
        return max(1, min(most, int(_SECONDS_PER_CALL / self._seconds_per_step)))
