"""A job from another program or a notebook, with the settings of the command line:

from launch.program import run

summary = run("model=dense", "train.epochs=3", "hydra.run.dir=runs/mine")
summary = run("data=dataframe", "model=cnn", "hydra.run.dir=runs/frame", spark=spark, images=frame)
"""

import shlex
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from distributed_cls import api
from distributed_cls.contracts.summary import Summary
from distributed_cls.errors import UserError
from launch import resume, schema
from launch.composition import compose, settings_given
from launch.composition_errors import one_line

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def run(*overrides: str, spark: "SparkSession | None" = None, images: "DataFrame | None" = None) -> Summary:
    """Do one job in this process; its summary, which also lies in the run folder (``hydra.run.dir``).

    overrides: as on the command line, ``"model=cnn"`` or ``"train.epochs=3"``. spark: the session to use, which stays;
    None: the active one, or else one that is started for this job and stopped after it. images: the DataFrame of
    ``data=dataframe``. Raises UserError for what the caller can put right, in one line, and RunError for a job that
    failed. ``distributed_cls.api.run`` does the same with a ``Config`` made by hand.
    """
    schema.register()
    try:
        overrides = tuple(resume.expanded(overrides))
        composed, folder = compose(overrides)
        config = schema.to_config(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from None
    command = shlex.join(["python", "-m", "launch", *overrides])
    given = settings_given(overrides)
    return api.run(config, folder, spark=spark, images=images, command=command, given=given)
