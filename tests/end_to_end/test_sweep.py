"""Sweeps: one Spark session, one preparation, a table of the trials; a failed trial does not end them; what was killed
goes on.

Trials of one rank: a sweep adds nothing to what several ranks do together.
"""

import csv
import json
import signal

import numpy as np

from distributed_cls.contracts import checkpoint
from tests.end_to_end.conftest import Launcher, wait_for


def test_trials_in_one_session_one_of_which_fails(launch: Launcher) -> None:
    short = ("cluster.workers=1", "model=dense", "train.epochs=2", "data.image_size=16")
    ended = launch("-m", "train.learning_rate=1e30,1e-2", "sweep.refit=1", *short)
    assert ended.code == 0, ended.output
    assert ended.folder is not None
    rows = ended.trials
    assert [row["status"] for row in rows] == ["failed", "done", "done"]
    assert [row["refit_of"] for row in rows] == [None, None, 1]
    seeds = [
        json.loads((ended.folder / trial / "summary.json").read_text())["config"]["train"]["seed"] for trial in "12"
    ]
    assert seeds[1] == seeds[0] + 1 and "Trial 1 again with 1 other seed: validation" in ended.output
    page = (ended.folder / "trials.html").read_text()
    assert "Best trial: 1" in page and 'http-equiv="refresh"' not in page and "<svg" in page
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
        assert len(list(csv.DictReader(stream))) == 3
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

    # The search goes on where its sampler stood: the two trials that are done are asked for again, and not run again.
    written = [(ended.folder / trial / "summary.json").read_bytes() for trial in ("0", "1")]
    longer = launch("-m", f"resume={ended.folder}", "hydra.sweeper.n_trials=4", "sweep.parallel=2")
    assert longer.code == 0, longer.output
    assert longer.trials[:2] == rows and [row["status"] for row in longer.trials[2:]] == ["done", "done"]
    drawn = [row["overrides"]["train.learning_rate"] for row in longer.trials]
    assert len(set(drawn)) == 4
    told = [row["told"] for row in longer.trials]
    assert told[:3] == [[], [0], [1]] and told[3] in ([], [2])  # the last one was asked for when there was room
    assert written == [(ended.folder / trial / "summary.json").read_bytes() for trial in ("0", "1")]


def test_a_sweep_that_was_killed_goes_on_with_more_trials_and_stops_a_hopeless_one(launch: Launcher) -> None:
    short = ("job=train", "cluster.workers=1", "model=dense", "train.epochs=30", "data.image_size=16")
    same = ("train.deterministic=true", "train.checkpoint_steps=3")
    process, folder = launch.start("-m", "train.learning_rate=1e-2,1e-2", *short, *same)
    try:
        # The second trial computes what the first does, until its driver is gone.
        wait_for(lambda: (folder / "1" / "checkpoints" / "last.npz").exists() or process.poll() is not None, "a trial")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    interrupted = {row["trial"]: row["status"] for row in json.loads((folder / "trials.json").read_text())["trials"]}
    assert interrupted == {0: "done", 1: "unfinished"}
    first = (folder / "0" / "summary.json").read_bytes()

    more = "train.learning_rate=1e-2,1e-2,1e-7"
    ended = launch("-m", f"resume={folder}", more, "sweep.stop=asha", "sweep.reduction=2")
    assert ended.code == 0, ended.output
    assert "Resumed from last.npz" in ended.output
    assert [row["status"] for row in ended.trials] == ["done", "done", "stopped"]
    assert (folder / "0" / "summary.json").read_bytes() == first
    done, resumed, stopped = ended.trials
    assert resumed["val_accuracy"] == done["val_accuracy"] and resumed["curve"] == done["curve"]
    weights = [checkpoint.read(folder / trial / "checkpoints" / "best.npz")[0] for trial in ("0", "1")]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert stopped["reason"].startswith("sweep.stop=asha: accuracy") and len(stopped["curve"]) == 1
    at_end = checkpoint.newest_position(folder / "2" / "checkpoints")
    assert at_end is not None and at_end[1].epoch < 30  # written when it was told to end


def test_trials_side_by_side_one_of_which_fails_compute_what_single_runs_do(launch: Launcher) -> None:
    short = ("job=train", "cluster.workers=1", "cluster.cores_per_worker=1", "model=dense", "train.epochs=2")
    same = (*short, "data.image_size=16", "train.deterministic=true")
    ended = launch(
        "-m", "train.learning_rate=1e-2,1e30,1e-3", "sweep.parallel=auto", "cluster.master='local[2]'", *same
    )
    assert ended.code == 0, ended.output
    assert ended.folder is not None
    assert [row["status"] for row in ended.trials] == ["done", "failed", "done"]
    assert "with up to 2 trials at once" in ended.output and ended.output.count("Spark 4") == 1
    assert ended.output.count("Prepared train") <= 1  # both wanted the same data; one prepared them
    for number in (0, 1, 2):
        said = (ended.folder / str(number) / "launch.log").read_text()
        assert {line.partition("Trial ")[2][0] for line in said.splitlines() if "Trial " in line} == {str(number)}

    alone = launch("train.learning_rate=1e-3", "cluster.master='local[2]'", *same)
    assert alone.code == 0 and alone.folder is not None, alone.output
    weights = [checkpoint.read(run / "checkpoints" / "best.npz")[0] for run in (ended.folder / "2", alone.folder)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_trials_side_by_side_all_write_a_checkpoint_on_sigterm(launch: Launcher) -> None:
    short = ("job=train", "cluster.workers=1", "cluster.cores_per_worker=1", "model=dense", "train.epochs=100000")
    process, folder = launch.start(
        "-m", "train.learning_rate=1e-3,1e-4,1e-5", "sweep.parallel=2", "cluster.master='local[2]'", *short
    )

    def both_train() -> bool:
        metrics = [folder / trial / "metrics.jsonl" for trial in "01"]
        return all(path.exists() for path in metrics) or process.poll() is not None

    try:
        wait_for(both_train, "two trials at once")
        steps = [checkpoint.newest_position(folder / trial / "checkpoints") for trial in "01"]
        process.send_signal(signal.SIGTERM)
        ended = launch.end(process, folder)
    finally:
        process.kill()
        process.communicate()
    assert ended.code == 143 and f"-m resume={folder.name}" in ended.output, ended.output
    assert [row["status"] for row in ended.trials] == ["unfinished", "unfinished"]
    for trial, before in zip("01", steps, strict=True):
        after = checkpoint.newest_position(folder / trial / "checkpoints")
        assert after is not None and (before is None or after[1].step > before[1].step)
