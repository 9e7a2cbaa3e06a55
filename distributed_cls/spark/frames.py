"""A DataFrame's rows through Python, batch by batch as Arrow."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from distributed_cls.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType


def map_batches(
    frame: "DataFrame",
    function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: "StructType | str",
) -> "DataFrame":
    """What ``function`` makes of the batches of each partition, as a DataFrame of ``schema``.

    Raises UserError without pandas, which Spark asks for although nothing of it is used.
    """
    if importlib.util.find_spec("pandas") is None:
        raise UserError(
            "Expected the package pandas, which Spark needs for the rows of a DataFrame in Python. "
            "Received: not installed. Install the extra frames: pip install 'distributed-cls[frames]'."
        )
    return frame.mapInArrow(function, schema)
