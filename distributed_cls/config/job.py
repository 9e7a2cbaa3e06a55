"""What to do."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting

JOBS = ("pipeline", "prepare", "verify", "train", "evaluate", "predict", "stream", "serve", "suspects", "doctor")


@dataclass
class JobConfig(Section):
    """What to do."""

    section = "job"

    name: str = setting("pipeline", "which job", choices=JOBS)
    json: bool = setting(False, "job=doctor: print JSON instead of a table; --json is the same")
    console: str = setting(
        "auto", "progress as a bar, as lines, or by what the terminal is", choices=("auto", "bar", "lines")
    )
