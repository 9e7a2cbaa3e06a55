"""Composes the trials that run side by side: what ``hydra.core.utils.run_job`` does, but for the job itself.

Hydra keeps in globals which job it is in. So a trial is composed, and its folder made, in Hydra's own thread; what is
then left to do needs none of these.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from distributed_cls.config import ClusterConfig
from distributed_cls.errors import UserError
from distributed_cls.job_checks import OF_RANKS
from launch import logs
from launch.admission import EVERYTHING, Need
from launch.side_by_side import Running, Waiting
from launch.sweep_trial import Trial
from launch.trial import HydraJob, Launcher


class HydraTrials:
    """The trials of one sweep, composed one after the other when their time has come."""

    def __init__(self, home: Launcher, config: DictConfig, context: HydraContext) -> None:
        """Raises UserError for settings by which Hydra would change the process for one job."""
        self._home, self._config, self._context = home, config, context
        if config.hydra.job.chdir or config.hydra.job.env_set:
            raise UserError(
                "Expected no hydra.job.chdir and no hydra.job.env_set for trials side by side, which share a process. "
                f"Received: sweep.parallel={config.sweep.parallel}. Leave them out, or set sweep.parallel=1."
            )

    def compose(
        self, number: int, overrides: Sequence[str], late: Callable[[], bool], done: Callable[[JobReturn], None]
    ) -> Waiting:
        """A trial that may begin, unless it is then too ``late``. Raises what Hydra raises for unknown settings."""
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        cluster = _cluster_of(config)
        need = Need(0)
        if cluster is not None:
            workers = cluster.workers if config.job.name in OF_RANKS else EVERYTHING
            need = Need(workers, cluster.gpus_per_worker)
        return Waiting(number, need, cluster, lambda: None if late() else self._begin(config, done))

    def _begin(self, config: DictConfig, done: Callable[[JobReturn], None]) -> Running:
        """Make its folder and its row."""
        begun: list[Trial] = []
        starts: Any = _StartsAlone(self._context.callbacks)

        def begin(composed: DictConfig) -> None:
            begun.append(self._home.trial(HydraJob.current(composed)))

        returned = run_job(
            task_function=begin,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=dataclasses.replace(self._context, callbacks=starts),
            configure_logging=False,  # of the process; each trial adds its own log to that of the sweep
        )
        if not begun:
            _ = returned.return_value  # raises what went wrong
        (trial,) = begun

        def run(on_free: Callable[[], None]) -> float | None:
            with _log_of(config, trial.job.number):
                return trial.run(on_free)

        def end(accuracy: float | None) -> None:
            returned.return_value = accuracy
            self._context.callbacks.on_job_end(config=config, job_return=returned)
            done(returned)

        return Running(trial, run, end)


class _StartsAlone:
    """Hydra's callbacks without the end of a job, which comes later."""

    def __init__(self, callbacks: Any) -> None:
        self._callbacks = callbacks

    def on_job_start(self, config: DictConfig, *, task_function: TaskFunction, **more: Any) -> None:
        self._callbacks.on_job_start(config=config, task_function=task_function, **more)

    def on_job_end(self, **_: Any) -> None:
        """Not yet."""


def _cluster_of(config: DictConfig) -> ClusterConfig | None:
    try:
        cluster = OmegaConf.to_object(config.cluster)
    except Exception:  # whatever is wrong with it: the trial, which makes all of its settings, fails and tells
        return None
    assert isinstance(cluster, ClusterConfig)
    return cluster


def _log_of(config: DictConfig, number: int) -> contextlib.AbstractContextManager[None]:
    """The log file of a trial, where Hydra's settings want one (hydra/job_logging)."""
    file = OmegaConf.select(config, "hydra.job_logging.handlers.file.filename")
    if file is None:
        return contextlib.nullcontext()
    return logs.of_trial(number, Path(file), OmegaConf.select(config, "hydra.job_logging.formatters.file.format"))
