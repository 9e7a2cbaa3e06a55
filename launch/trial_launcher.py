"""``hydra/launcher=trials``: Hydra's own launcher, which leaves out the trials that have ended already, and runs those
that are left one after the other or side by side (``sweep.parallel``).

Whatever the sweeper is, it asks for the same trials again when a sweep goes on, and is told the same accuracies: a
sampler with a seed then stands where it stood.
"""

import functools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from distributed_cls.config import SweepConfig
from distributed_cls.contracts import summary
from distributed_cls.contracts.trials_table import TrialRow
from distributed_cls.errors import UserError
from distributed_cls.evaluation import trials
from launch.ask_tell import AskTell, Sampler
from launch.hydra_trials import HydraTrials
from launch.side_by_side import LOOK_AHEAD, SideBySide, Waiting
from launch.sweep_state import Sweep, settings_of
from launch.trial import Launcher

log = logging.getLogger(__name__)

_REMEDY = "Leave the folders of the trials in that of the sweep, or set sweep.refit=0."


class TrialLauncher(BasicLauncher):
    """Runs the trials of a sweep in this process."""

    __module__ = "hydra_plugins.distributed_cls"  # Hydra takes launchers from packages of this name alone

    home: ClassVar[Launcher]
    latest: ClassVar["TrialLauncher | None"] = None  # of this command's sweep

    def __init__(self) -> None:
        super().__init__()
        self._of_all: list[str] = []  # overrides that say nothing of a trial: those of the sweep, the tracker, Hydra

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One result for each list of overrides, in their order. The numbers are those of the sweep's folder."""
        sweep = self._sweep()
        TrialLauncher.latest = self
        for overrides in job_overrides[-1:]:
            self._note_of_all(overrides)
        return self._run_all(sweep, job_overrides)

    def search(self, sampler: Sampler, count: int) -> None:
        """Run ``count`` trials that ``sampler`` draws: each is asked for when there is room for it."""
        sweep = self._sweep()
        TrialLauncher.latest = self
        talk = AskTell(sampler, sweep, count)

        def asked() -> Iterator[tuple[int, Sequence[str]]]:
            while talk.left and not self._is_late(sweep, talk.left) and (following := talk.next()) is not None:
                self._note_of_all(following[1])
                yield following

        if self._one_at_a_time:
            for number, overrides in asked():
                _ = super().launch([overrides], number)[0].return_value  # raises what is no failure of the trial's
                talk.end(number)
        else:
            # A trial that waits is drawn already, with what was known before it waited: one at most.
            self._run_side_by_side(sweep, asked(), lambda number, _: talk.end(number), look_ahead=1)
        talk.end_all()

    def refit(self) -> None:
        """Train the best trial again with the ``sweep.refit`` seeds after its own. Raises UserError when the folder of
        that trial does not tell its seed."""
        assert self.config is not None
        sweep, count = self._sweep(), self.config.sweep.refit
        best = trials.best(sweep.rows)
        if not count or best is None:
            return
        train = summary.read(Path(best.run), _REMEDY).config["train"]
        assert isinstance(train, dict) and isinstance(train["seed"], int), train
        seed = train["seed"]
        log.info("Trial %d is the best; it is trained again with %d other seeds (sweep.refit)", best.trial, count)
        # A repetition is trained to its end: it measures, and competes with no other trial.
        kept = [item for item in self._of_all if item.partition("=")[0] != "sweep.stop"]
        seeds = [best.overrides | {trials.SEED: str(number)} for number in range(seed + 1, seed + 1 + count)]
        self._run_all(sweep, [[*trials.as_given(given), *kept, "sweep.stop=null"] for given in seeds], best.trial)

    def _sweep(self) -> Sweep:
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        sweep = self.home.sweep_in(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Only one of Hydra's sweepers writes it; it holds the command that ``resume=`` goes on with.
        OmegaConf.save(self.config, folder / "multirun.yaml")
        return sweep

    def _run_all(
        self, sweep: Sweep, asked: Sequence[Sequence[str]], refit_of: int | None = None
    ) -> Sequence[JobReturn]:
        assert self.config is not None
        returned: list[JobReturn] = []
        places: dict[int, int] = {}  # in ``asked``, of the trials that are to run, by their numbers
        for place, overrides in enumerate(asked):
            found = sweep.ask(overrides, refit_of)
            if isinstance(found, TrialRow):
                returned.append(_returned(overrides, found.val_accuracy))
            else:
                returned.append(_returned(overrides, None))  # unless it begins in time
                places[found] = place
        if self._one_at_a_time:
            for number, place in places.items():
                if not self._is_late(sweep):
                    returned[place] = super().launch([asked[place]], number)[0]
            return returned

        def put(number: int, got: JobReturn) -> None:
            returned[places[number]] = got

        self._run_side_by_side(sweep, ((number, asked[place]) for number, place in places.items()), put)
        return returned

    @property
    def _one_at_a_time(self) -> bool:
        assert self.config is not None
        return bool(self.config.sweep.parallel == "1")

    def _run_side_by_side(
        self,
        sweep: Sweep,
        wanted: Iterator[tuple[int, Sequence[str]]],
        done: Callable[[int, JobReturn], None],
        look_ahead: int = LOOK_AHEAD,
    ) -> None:
        """Run the trials of these numbers and overrides, composed as they are taken. ``done`` gets what Hydra gets."""
        assert self.config is not None and self.hydra_context is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        hydra_trials = HydraTrials(self.home, self.config, self.hydra_context)
        self.home.side_by_side = True

        def compose(number: int, overrides: Sequence[str]) -> Waiting:
            return hydra_trials.compose(
                number, overrides, lambda: self._is_late(sweep), functools.partial(done, number)
            )

        limit, spark = SweepConfig(parallel=self.config.sweep.parallel).at_once, self.home.spark
        runner = SideBySide(limit, spark.slots, spark.fits, self.home.busy, look_ahead)
        runner.run(compose(number, overrides) for number, overrides in wanted)

    def _note_of_all(self, overrides: Sequence[str]) -> None:
        self._of_all = [item for item in overrides if not settings_of([item])]

    def _is_late(self, sweep: Sweep, trials: int = 1) -> bool:
        """Whether no further trial begins; so many ``trials`` more are then left out."""
        assert self.config is not None
        budget = self.config.sweep.time_budget
        late = budget is not None and sweep.seconds >= budget
        sweep.left_out += trials * late
        return late


class SweepEnds(Callback):
    """Trains the best trial again when Hydra's sweeper is through with its own."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        if TrialLauncher.latest is None:
            if config.sweep.refit:
                log.warning("The best trial is not trained again: sweep.refit needs hydra/launcher=trials")
            return
        try:
            TrialLauncher.latest.refit()
        except UserError as error:  # the search is done all the same; Hydra would make a warning of it
            log.warning("The best trial is not trained again: %s", error)


def _returned(overrides: Sequence[str], accuracy: float | None) -> JobReturn:
    """What Hydra gets for a trial that is not run; a sampler takes None for a failure."""
    returned = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
    returned.return_value = accuracy
    return returned


def register(home: Launcher) -> None:
    """Let Hydra know this launcher, which keeps its trials in ``home``."""
    TrialLauncher.home, TrialLauncher.latest = home, None
    Plugins.instance().register(TrialLauncher)  # has imported hydra_plugins by now, where any is installed
    # Hydra looks it up by its name.
    sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    sys.modules[TrialLauncher.__module__] = sys.modules[__name__]
