"""A run in MLflow: parameters, metrics, report and model, through MLflow's client and without its global state."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Nothing of a run is told to anyone but the store that the user named, nor what MLflow does inside to the terminal.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from distributed_cls.config import Config, to_dict
from distributed_cls.contracts.events import Metrics
from distributed_cls.contracts.status import State
from distributed_cls.contracts.summary import FILE, Summary

LOCAL_STORE = "sqlite:///mlflow.db"
_FOLDER_TAG = "distributed_cls.folder"
_SWEEP_TAG = "distributed_cls.sweep"
_PARAMS_AT_ONCE = 100  # what MLflow takes in one call
_SECTIONS = ("data", "model", "train", "cluster")  # what decides a run; the rest is in its summary.json
_ARTIFACTS = (FILE, "report.html", "evaluation.json", "model")  # of the run folder
_ENDS = {State.DONE: "FINISHED", State.FAILED: "FAILED", State.INTERRUPTED: "KILLED"}


class MlflowTracker:
    """One MLflow run for a run folder: a resumed run goes on in it. Trials are nested in the run of their sweep."""

    def __init__(self, config: Config, folder: Path, sweep: Path | None) -> None:
        self._folder, self._artifacts = folder.absolute(), config.tracking.artifacts
        self._client = MlflowClient(config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_STORE)
        self._experiment = self._experiment_id(config.tracking.experiment or config.data.name)
        parent = None if sweep is None else self._run(_SWEEP_TAG, str(sweep.absolute()), f"sweep {sweep.name}", {})
        tags = {} if parent is None else {MLFLOW_PARENT_RUN_ID: parent}
        if parent is not None:  # how a trial ends says nothing of the sweep
            self._client.set_terminated(parent)
        self._id = self._run(_FOLDER_TAG, str(self._folder), self._folder.name, tags)
        self._client.update_run(self._id, status="RUNNING")
        known = self._client.get_run(self._id).data.params
        # MLflow never changes a parameter: of a resumed run the first values stay.
        params = [Param(name, value) for name, value in _flat(to_dict(config)) if name not in known]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=params[start : start + _PARAMS_AT_ONCE])

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found is not None else str(self._client.create_experiment(name))

    def _run(self, tag: str, value: str, name: str, tags: dict[str, str]) -> str:
        """The run that has this tag, which is made where there is none."""
        key = hashlib.sha256(value.encode()).hexdigest()  # a search takes no quotes in what it looks for
        found = self._client.search_runs([self._experiment], f"tags.`{tag}_sha256` = '{key}'", max_results=1)
        tags = {tag: value, f"{tag}_sha256": key, **tags}
        run = found[0] if found else self._client.create_run(self._experiment, run_name=name, tags=tags)
        return str(run.info.run_id)

    def metrics(self, split: str, epoch: int, step: int, values: Metrics) -> None:
        named = {f"{split}_{name}": value for name, value in dataclasses.asdict(values).items()}
        self._log({**named, "epoch": float(epoch)}, step)

    def result(self, summary: Summary) -> None:
        values = {f"seconds_{stage}": seconds for stage, seconds in summary.seconds.items()}
        for split, entry in (("val", summary.val), ("test", summary.test)):
            if entry is not None:
                best = {"accuracy": entry.accuracy, "loss": entry.loss, "macro_f1": entry.macro_f1}
                values |= {f"best_{split}_{name}": value for name, value in best.items() if value is not None}
        self._log(values, summary.train.steps if summary.train else 0)
        if summary.dataset is not None:
            self._client.set_tag(self._id, "dataset", f"{summary.dataset.name}-{summary.dataset.fingerprint}")
        if not self._artifacts:
            return
        for name in _ARTIFACTS:
            path = self._folder / name
            if path.is_dir():
                self._client.log_artifacts(self._id, str(path), name)
            elif path.is_file():
                self._client.log_artifact(self._id, str(path))

    def end(self, state: State) -> None:
        self._client.set_terminated(self._id, _ENDS[state])

    def _log(self, values: dict[str, Any], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items() if value is not None]
        self._client.log_batch(self._id, metrics=metrics)


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for section in _SECTIONS:
        for name, value in values[section].items():
            yield f"{section}.{name}", "null" if value is None else str(value)
