"""``hydra/sweeper=ask_tell``: Optuna's samplers, asked for one trial at a time, whenever there is room for one.

Hydra's Optuna sweeper waits for all trials of a batch before it asks for more. Its reading of what a setting is drawn
from is used here as it is.
"""

import contextlib
import functools
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from distributed_cls.contracts.trials_table import TrialRow, TrialStatus
from distributed_cls.errors import UserError
from launch.trial_launcher import TrialLauncher

if TYPE_CHECKING:
    from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl


class AskTellSweeper(Sweeper):
    """Draws ``n_trials`` trials, whose validation accuracy is to be as high as possible."""

    __module__ = "hydra_plugins.distributed_cls_ask_tell"  # Hydra takes sweepers from packages of this name alone

    def __init__(self, sampler: Any, n_trials: Any, params: DictConfig | None, custom_search_space: str | None) -> None:
        """``sampler``: Optuna's, or what makes one of a search space."""
        self._sampler, self._trials, self._params = sampler, n_trials, params
        self._custom = custom_search_space
        self._launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        if not isinstance(self._launcher, TrialLauncher):
            raise UserError(
                "Expected hydra/launcher=trials for hydra/sweeper=ask_tell. Received: "
                f"{config.hydra.launcher._target_}. Leave the launcher out, or choose hydra/sweeper=optuna."
            )

    def sweep(self, arguments: list[str]) -> None:
        assert isinstance(self._launcher, TrialLauncher) and self.config is not None
        search = _Search(self._reader(), arguments, self.config)
        self._launcher.search(search, search.trials)
        search.write_best()

    def _reader(self) -> "OptunaSweeperImpl":
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

        if not isinstance(self._trials, int) or self._trials < 1:
            raise UserError(
                f"Expected hydra.sweeper.n_trials to be a whole number >= 1. Received: {self._trials}. Set how many "
                "trials are drawn."
            )
        return OptunaSweeperImpl(
            self._sampler, "maximize", None, None, self._trials, 1, 1.0, None, self._custom, self._params
        )


class _Search:
    """A study of Optuna's that is asked and told."""

    def __init__(self, reader: "OptunaSweeperImpl", arguments: list[str], config: DictConfig) -> None:
        import optuna
        from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

        self._reader, self._folder = reader, config.hydra.sweep.dir
        reader.config = config
        reader._process_searchspace_config()
        drawn, self._fixed = create_params_from_overrides([*reader._parse_sweeper_params_config(), *arguments])
        self._space = {name: kind for name, kind in drawn.items() if name not in self._fixed}
        self.trials, sampler = reader.n_trials, reader.sampler
        self._is_grid = isinstance(sampler, functools.partial)
        if self._is_grid:
            grid = {name: reader._to_grid_sampler_choices(kind) for name, kind in self._space.items()}
            sampler = sampler(grid)
            self.trials = min(self.trials, math.prod(len(values) for values in grid.values()))
        self._study = optuna.create_study(sampler=sampler, direction="maximize")
        self._asked: list[optuna.trial.Trial] = []

    def ask(self) -> Sequence[str]:
        trial = self._study.ask()
        self._asked.append(trial)
        (overrides,) = self._reader._configure_trials([trial], self._space, self._fixed)
        return overrides

    def tell(self, place: int, row: TrialRow) -> None:
        from optuna.trial import TrialState

        trial = self._asked[place]
        for epoch, accuracy in enumerate(row.curve, 1):
            trial.report(accuracy, epoch)
        value, state = None, TrialState.FAIL
        if row.status is TrialStatus.STOPPED and row.curve:
            state = TrialState.PRUNED  # a sampler knows by the curve how far it came
        elif row.done and row.val_accuracy is not None:
            value, state = row.val_accuracy, TrialState.COMPLETE
        # At its end a grid stops the study, which is an error outside of Optuna's own loop; the trial is told by then.
        with contextlib.suppress(*[RuntimeError] * self._is_grid):
            self._study.tell(trial, value, state)

    def write_best(self) -> None:
        """What Hydra's Optuna sweeper leaves as well."""
        from optuna.trial import TrialState

        if any(trial.state is TrialState.COMPLETE for trial in self._study.trials):
            best = self._study.best_trial
            found = {"name": "optuna", "best_params": best.params, "best_value": best.value}
            OmegaConf.save(OmegaConf.create(found), f"{self._folder}/optimization_results.yaml")


def register() -> None:
    """Let Hydra know this sweeper."""
    Plugins.instance().register(AskTellSweeper)
    sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    sys.modules[AskTellSweeper.__module__] = sys.modules[__name__]
