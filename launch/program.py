"""A job from another program or a notebook, with the settings of the command line:

from launch.program import run

summary = run("model=dense", "train.epochs=3", "hydra.run.dir=runs/mine")
"""

import shlex

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from distributed_cls.contracts.summary import Summary
from distributed_cls.errors import UserError
from distributed_cls.jobs import perform
from distributed_cls.run_context import Run
from distributed_cls.spark.session import Session, versions
from launch import resume, schema
from launch.composition import compose, settings_given
from launch.composition_errors import one_line


def run(*overrides: str) -> Summary:
    """Do one job in this process; its summary, which also lies in the run folder (``hydra.run.dir``).

    overrides: as on the command line, ``"model=cnn"`` or ``"train.epochs=3"``. A Spark session that is active is used
    and stays; otherwise one is started for this job and stopped after it. Raises UserError for what the caller can put
    right, in one line, and RunError for a job that failed.
    """
    schema.register()
    try:
        overrides = tuple(resume.expanded(overrides))
        composed, folder = compose(overrides)
        config = schema.to_config(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from None
    session = Session(config.cluster, folder)
    command = shlex.join(["python", "-m", "launch", *overrides])
    try:
        return perform(Run(config, folder, lambda: session.spark, command, versions(), given=settings_given(overrides)))
    finally:
        session.stop()
