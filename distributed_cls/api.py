"""Jobs from a program or a notebook, on the Spark session that it has: settings in, summary out.

from distributed_cls import api
from distributed_cls.config import Config, DataConfig, TrainConfig

config = Config(data=DataConfig(name="cars", source="dataframe", image_size=64), train=TrainConfig(epochs=5))
summary = api.run(config, "/shared/runs/cars", spark=spark, images=frame)

``launch.program.run`` takes the settings as on the command line instead.
"""

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_cls import storage
from distributed_cls.config import Config
from distributed_cls.contracts.summary import Summary
from distributed_cls.errors import UserError
from distributed_cls.jobs import perform
from distributed_cls.run_context import Run
from distributed_cls.spark.session import Session, running_session, versions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def run(
    config: Config,
    folder: str | Path,
    *,
    spark: "SparkSession | None" = None,
    images: "DataFrame | None" = None,
    command: str = "",
    given: frozenset[str] = frozenset(),
) -> Summary:
    """Do one job in this process; its summary, which also lies in ``folder`` with all that the job leaves.

    spark: a classic session, which stays; None: the one that is active, or else one that is started for this job and
    stopped after it. images: for ``data.source=dataframe``, a row per image with its encoded bytes
    (``data.bytes_column``) or its path (``data.path_column``), its class (``data.label_column``), and perhaps its split
    and group. command, given: what the summary calls the command, and the settings in it, by dotted name.

    Raises UserError for what the caller can put right, in one line, and RunError for a job that failed.
    """
    if (images is not None) != (config.data.source == "dataframe"):
        received = "images" if images is not None else "no images"
        raise UserError(
            "Expected a DataFrame (images=…) together with data.source=dataframe. "
            f"Received: {received}, and data.source={config.data.source}. Give both, or neither."
        )
    folder = Path(folder).absolute()
    spark = spark or running_session()
    if spark is not None:  # what follows from the master follows from the one that is really used
        cluster = dataclasses.replace(config.cluster, master=spark.sparkContext.master)
        config = dataclasses.replace(config, cluster=cluster)
    session = Session(config.cluster, folder, spark)
    try:
        with _saved(config, images, session) as complete:
            if images is not None:  # also when a model is evaluated that was trained on other data
                given |= {"data.source", "data.path"}
            return perform(Run(complete, folder, lambda: session.spark, command, versions(), given=given))
    finally:
        session.stop()


@contextlib.contextmanager
def _saved(config: Config, images: "DataFrame | None", session: Session) -> Iterator[Config]:
    """The configuration with the path of the DataFrame's rows, which are there until the block ends."""
    if images is None:
        yield config
        return
    from distributed_cls.dataset.sources import dataframe

    session.spark  # noqa: B018 - from now on its executors have this package
    place = storage.join(storage.absolute(config.dataset_root), ".frames", uuid.uuid4().hex)
    try:
        dataframe.save(images, config.data, place)
        yield dataclasses.replace(config, data=dataclasses.replace(config.data, path=place))
    finally:
        storage.remove_folder(place)
