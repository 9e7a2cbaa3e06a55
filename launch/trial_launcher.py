"""``hydra/launcher=trials``: Hydra's own launcher, which leaves out the trials that have ended already.

Whatever the sweeper is, it asks for the same trials again when a sweep goes on, and is told the same accuracies: a
sampler with a seed then stands where it stood.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from distributed_cls.contracts.trials_table import TrialRow
from launch.sweep_state import Sweep
from launch.trial import Launcher


class TrialLauncher(BasicLauncher):
    """Runs the trials of a sweep one after the other, in this process."""

    __module__ = "hydra_plugins.distributed_cls"  # Hydra takes launchers from packages of this name alone

    home: ClassVar[Launcher]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One result for each list of overrides, in their order. The numbers are those of the sweep's folder."""
        sweep = self._sweep()
        return [self._ended_or_run(sweep, overrides) for overrides in job_overrides]

    def _sweep(self) -> Sweep:
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        sweep = self.home.sweep_in(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Only one of Hydra's sweepers writes it; it holds the command that ``resume=`` goes on with.
        OmegaConf.save(self.config, folder / "multirun.yaml")
        return sweep

    def _ended_or_run(self, sweep: Sweep, overrides: Sequence[str]) -> JobReturn:
        assert self.config is not None
        found, budget = sweep.ask(overrides), self.config.sweep.time_budget
        if isinstance(found, TrialRow):
            return _returned(overrides, found.val_accuracy)
        if budget is not None and sweep.seconds >= budget:
            sweep.left_out += 1
            return _returned(overrides, None)
        return super().launch([overrides], found)[0]


def _returned(overrides: Sequence[str], accuracy: float | None) -> JobReturn:
    """What Hydra gets for a trial that is not run; a sampler takes None for a failure."""
    returned = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
    returned.return_value = accuracy
    return returned


def register(home: Launcher) -> None:
    """Let Hydra know this launcher, which keeps its trials in ``home``."""
    TrialLauncher.home = home
    Plugins.instance().register(TrialLauncher)  # has imported hydra_plugins by now, where any is installed
    # Hydra looks it up by its name.
    sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    sys.modules[TrialLauncher.__module__] = sys.modules[__name__]
