"""What a sweep does with its trials."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting

AUTO = "auto"


@dataclass
class SweepConfig(Section):
    """A sweep (``-m``): how many trials run at once, which end early, and how long it may take."""

    section = "sweep"

    parallel: str = setting(
        "1",
        "how many trials run at once: a whole number, or auto, as many as there are slots for; each has its "
        "cluster.workers for itself",
    )
    stop: str | None = setting(
        None,
        "which trials end early: asha, all but the best part (1/reduction) at each rung of epochs; median, those below "
        "the median of the trials that are done; null: none",
        choices=("asha", "median"),
    )
    min_epochs: int = setting(1, "epochs of a trial before stop may end it; stop=asha: the first rung", at_least=1)
    reduction: int = setting(
        3, "stop=asha: one in so many goes on, and each rung has so many times the epochs of the one before", at_least=2
    )
    min_trials: int = setting(5, "stop=median: trials that are done before any is ended early", at_least=1)
    trial_timeout: float | None = setting(
        None, "seconds after which a trial ends, with a checkpoint; null: no limit", above=0
    )
    time_budget: float | None = setting(
        None,
        "seconds after which the sweep ends: the trials in progress with a checkpoint, the others do not begin; null: "
        "no limit",
        above=0,
    )
    refit: int = setting(
        0,
        "how often the best trial is trained again at the end, with the seeds after its own; their mean and standard "
        "deviation tell what to expect of it",
        at_least=0,
    )
    retries: int = setting(
        1, "how often a trial is started again, in a new Spark session, after the one it ran in was lost", at_least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parallel != AUTO and not (self.parallel.isdecimal() and int(self.parallel) >= 1):
            self.refuse("parallel", self.parallel, f"{AUTO} or a whole number >= 1")

    @property
    def at_once(self) -> int | None:
        """The most trials that run at once; None: as many as there are slots for."""
        return None if self.parallel == AUTO else int(self.parallel)
