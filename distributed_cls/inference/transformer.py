"""An exported model as a transformer of pyspark.ml: a column of images in, a column of answers out."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import keyword_only
from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql.types import DataType, StructField, StructType

from distributed_cls.config import PredictConfig
from distributed_cls.contracts.export import load_export
from distributed_cls.contracts.predict_output import Prediction
from distributed_cls.errors import UserError
from distributed_cls.inference.broadcast import ship_package, ship_to_executors
from distributed_cls.inference.bulk import Item, PredictTask, classify, file_item
from distributed_cls.spark.frames import map_batches

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# An answer, as Arrow and as Spark call its type.
_LIKELY = pa.struct([("label", pa.string()), ("confidence", pa.float32())])
_ANSWER = pa.struct([*_LIKELY, ("top", pa.list_(_LIKELY)), ("accepted", pa.bool_()), ("error", pa.string())])
_ANSWER_DDL = (
    "struct<label: string, confidence: float, top: array<struct<label: string, confidence: float>>, "
    "accepted: boolean, error: string>"
)
_DEFAULTS = PredictConfig()


class ImageClassifier(
    Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable["ImageClassifier"], DefaultParamsWritable
):
    """Adds a column with the model's answer to each image of ``inputCol``.

    modelDir: the run folder of a training, or the model folder in it, on the driver; its files travel to the executors.
    inputCol: encoded images (binary), or their paths (string). outputCol: a struct of ``label`` (string, the likeliest
    class), ``confidence`` (float, its probability), ``top`` (the ``topK`` likeliest classes with their probabilities),
    ``accepted`` (boolean; false: none of the classes) and ``error`` (string). A row whose image cannot be read has its
    reason in ``error``, and nulls. batchSize: images that the model gets at once; threads: of the model, in each task.
    """

    # Named in the style of pyspark.ml, whose code looks for a parameter by the name of its attribute.
    modelDir: Param[str] = Param(  # noqa: N815
        Params._dummy(), "modelDir", "run folder or model folder", TypeConverters.toString
    )
    topK: Param[int] = Param(  # noqa: N815
        Params._dummy(), "topK", "number of likeliest classes", TypeConverters.toInt
    )
    batchSize: Param[int] = Param(  # noqa: N815
        Params._dummy(), "batchSize", "batch size of the model", TypeConverters.toInt
    )
    threads: Param[int] = Param(Params._dummy(), "threads", "threads of the model", TypeConverters.toInt)

    @keyword_only
    def __init__(
        self,
        *,
        modelDir: str = "",  # noqa: N803 - pyspark.ml's style
        inputCol: str = "image",  # noqa: N803
        outputCol: str = "prediction",  # noqa: N803
        topK: int = _DEFAULTS.top_k,  # noqa: N803
        batchSize: int = _DEFAULTS.batch_size,  # noqa: N803
        threads: int = _DEFAULTS.threads,
    ) -> None:
        super().__init__()
        self._setDefault(
            modelDir="",
            inputCol="image",
            outputCol="prediction",
            topK=_DEFAULTS.top_k,
            batchSize=_DEFAULTS.batch_size,
            threads=_DEFAULTS.threads,
        )
        self._set(**self._input_kwargs)  # type: ignore[attr-defined]  # keyword_only makes it

    def _transform(self, dataset: "DataFrame") -> "DataFrame":
        """``dataset`` with the column of answers. Raises UserError: no model, no such column, or another type."""
        column, name, spark = self.getInputCol(), self.getOutputCol(), dataset.sparkSession
        kind = dict(dataset.dtypes).get(column)
        if kind not in ("binary", "string"):
            raise UserError(
                f"Expected encoded images (binary) or their paths (string) in the column {column}. "
                f"Received: {kind or 'no such column'}. Set inputCol, or convert the column."
            )
        export = load_export(self.getOrDefault(self.modelDir))
        ship_package(spark)
        task = PredictTask(
            ship_to_executors(spark, export),
            self.getOrDefault(self.batchSize),
            min(self.getOrDefault(self.topK), len(export.classes)),
            self.getOrDefault(self.threads),
        )
        kept = dataset.drop(name)
        answered = StructType([*kept.schema.fields, StructField(name, DataType.fromDDL(_ANSWER_DDL))])
        return map_batches(kept, functools.partial(_answer, column=column, name=name, task=task), answered)


def _answer(batches: Iterator[pa.RecordBatch], column: str, name: str, task: PredictTask) -> Iterator[pa.RecordBatch]:
    """The rows of ``batches`` with one more column, in a Spark task."""
    for batch in batches:
        images = batch.column(batch.schema.get_field_index(column)).to_pylist()
        answers = pa.array([_fields(found) for found in classify(map(_item, images), task)], _ANSWER)
        yield pa.RecordBatch.from_arrays([*batch.columns, answers], [*batch.schema.names, name])


def _item(image: bytes | str | None) -> Item:
    """An image by its bytes or by its path; none where the row has none."""
    if isinstance(image, str):
        return file_item(image)
    return Item("", functools.partial(bytes, image or b""))


def _fields(found: Prediction) -> dict[str, Any]:
    top = None if found.top is None else [{"label": name, "confidence": share} for name, share in found.top]
    return {
        "label": found.label,
        "confidence": found.confidence,
        "top": top,
        "accepted": found.accepted,
        "error": found.error,
    }
