"""``launch.program.run``: a job from another program, in the Spark session that the program has."""

from pathlib import Path

from launch.program import run
from tests.spark.prepare_support import small_spark


def test_a_program_trains_in_its_own_session_which_stays(tmp_path: Path) -> None:
    given = ["model=dense", "train.epochs=1", f"dataset_root={tmp_path}/datasets", f"hydra.run.dir={tmp_path}/run"]
    with small_spark() as spark:
        summary = run(*given)
        assert spark.range(3).count() == 3
    assert summary.train is not None and summary.train.epochs == 1
    assert summary.test is not None and summary.test.examples == 268
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "run" / "model" / "model.json").is_file()
    assert summary.command == " ".join(["python -m launch", *given])
