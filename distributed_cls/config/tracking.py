"""Where else the metrics of a run go."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting


@dataclass
class TrackingConfig(Section):
    """Where the metrics and results of training and evaluation go beside the run folder."""

    section = "tracking"

    name: str = setting(
        "none",
        "tensorboard: event files in the run folder; mlflow: a run in MLflow's store",
        choices=("none", "tensorboard", "mlflow"),
    )
    uri: str | None = setting(
        None, "tracking=mlflow: its store or server; null: MLFLOW_TRACKING_URI, otherwise sqlite:///mlflow.db"
    )
    experiment: str | None = setting(None, "tracking=mlflow: name of the experiment; null: data.name")
    artifacts: bool = setting(True, "tracking=mlflow: keep report and exported model there too")
    timeout: float = setting(60.0, "longest wait for the store at the start and at the end of a run, seconds", above=0)
