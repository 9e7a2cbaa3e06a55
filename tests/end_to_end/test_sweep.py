"""Sweeps: one Spark session, one preparation, a table of the trials; a failed trial does not end them.

Trials of one rank: a sweep adds nothing to what several ranks do together.
"""

import csv
import json

from tests.end_to_end.conftest import Launcher


def test_trials_in_one_session_one_of_which_fails(launch: Launcher) -> None:
    short = ("cluster.workers=1", "model=dense", "train.epochs=2", "data.image_size=16")
    ended = launch("-m", "train.learning_rate=1e30,1e-2", *short)
    assert ended.code == 0, ended.output
    assert ended.folder is not None
    rows = ended.trials
    assert [row["status"] for row in rows] == ["failed", "done"]
    assert ended.output.count("Spark 4") == 1
    assert ended.output.count("Prepared train") <= 1  # another test may have prepared the same
    for row in rows:
        if row["status"] == "failed":
            assert "train.learning_rate" in row["reason"]
        else:
            summary = json.loads((ended.folder / str(row["trial"]) / "summary.json").read_text())
            assert row["val_accuracy"] == summary["val"]["accuracy"]
            assert row["test_accuracy"] == summary["test"]["accuracy"]
    with (ended.folder / "trials.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 2
    assert "failed" in ended.output
    assert not (ended.folder / ".spark").exists()


def test_optuna_looks_for_the_best_val_accuracy(launch: Launcher) -> None:
    short = ("job=train", "cluster.workers=1", "model=dense", "train.epochs=1")
    ended = launch("-m", "experiment=search", "hydra.sweeper.n_trials=2", *short)
    assert ended.code == 0, ended.output
    rows = ended.trials
    assert [row["status"] for row in rows] == ["done", "done"]
    rates = [float(row["overrides"]["train.learning_rate"]) for row in rows]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert rates[0] != rates[1]
    assert ended.folder is not None
    best = (ended.folder / "optimization_results.yaml").read_text()
    assert str(max(row["val_accuracy"] for row in rows))[:6] in best
