"""What to do."""

from dataclasses import dataclass

from distributed_cls.config.section import Section, setting

JOBS = ("pipeline", "prepare", "verify", "train", "evaluate", "predict", "stream", "serve")


@dataclass
class JobConfig(Section):
    """What to do."""

    section = "job"

    name: str = setting("pipeline", "which job", choices=JOBS)
    console: str = setting(
        "auto", "progress as a bar, as lines, or by what the terminal is", choices=("auto", "bar", "lines")
    )
