"""Images of a shard through a frozen backbone: what a Spark task does for the driver (``feature_cache.py``).

Nothing here is tied to Spark. The backbone is built once per process and computes with one thread: a task has one core.
"""

import functools
import itertools
import uuid
from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np
import tensorflow as tf

from distributed_cls import storage
from distributed_cls.contracts import features, manifest, tfrecord
from distributed_cls.contracts.features import BLOCK, FeatureJob, Images, WrittenFeatures
from distributed_cls.contracts.manifest import Manifest, Shard
from distributed_cls.errors import UserError
from distributed_cls.models.building import build
from distributed_cls.models.pretrained import backbone_of
from distributed_cls.predictor.classifier import bound_threads
from distributed_cls.training import start_weights
from distributed_cls.training.augment import augment
from distributed_cls.training.draws import Draws
from distributed_cls.training.input import Source


class Extractor:
    """The backbone of a job, ready to compute."""

    def __init__(self, job: FeatureJob, content: Manifest) -> None:
        self._train = job.config.train
        model = build(job.config.model, content.image_size, len(content.classes), content.channels)
        start_weights.read(job.weights).assign_to(model)
        self._backbone = backbone_of(model)
        self._source = Source([], [], content.encoding, content.image_size, content.channels)
        records = tf.TensorSpec([None], tf.string)
        self._of_images = tf.function(self._image_features, input_signature=[records], autograph=False)
        signature = [records, tf.TensorSpec([], tf.int64)]
        self._of_view = tf.function(self._view_features, input_signature=signature, autograph=False)

    def of_images(self, records: list[bytes]) -> np.ndarray:
        """The features of the images in serialised ``records``: float32 [N, D]."""
        computed: np.ndarray = self._of_images(tf.constant(records, tf.string)).numpy()
        return computed

    def of_views(self, records: list[bytes], first: int, views: int) -> np.ndarray:
        """Those of ``views`` augmented views of each image: float32 [N, V, D].

        ``first``: number of the first record in its split. A view is a function of it and of the training's seed.
        """
        whole = tf.constant([*records, *records[-1:] * (BLOCK - len(records))], tf.string)
        computed = [self._of_view(whole, first * views + view).numpy() for view in range(views)]
        return np.stack(computed, axis=1)[: len(records)]

    def _image_features(self, records: tf.Tensor) -> tf.Tensor:
        return self._features(self._decoded(records))

    def _view_features(self, records: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        draws = Draws(self._train.seed, step, range(BLOCK), BLOCK)
        return self._features(augment(self._decoded(records), self._train, draws))

    @tf.autograph.experimental.do_not_convert
    def _decoded(self, records: tf.Tensor) -> tf.Tensor:
        pixels = tf.TensorSpec(self._source.shape, tf.uint8)
        return tf.map_fn(lambda record: self._source.decode(record)[0], records, fn_output_signature=pixels)

    def _features(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._backbone(tf.cast(images, tf.float32), training=False), tf.float32)


@functools.lru_cache(maxsize=1)
def _extractor(job: FeatureJob) -> Extractor:
    """Made once per process: Spark keeps its workers for the next tasks."""
    bound_threads(1)
    try:
        tf.config.set_visible_devices([], "GPU")  # they belong to the ranks
    except RuntimeError as error:
        if "after being initialized" not in str(error):
            raise
    return Extractor(job, manifest.load(job.dataset))


def write_all(job: FeatureJob, items: Iterable[Images]) -> Iterator[WrittenFeatures]:
    """Write the features of the images of tasks; what the user can put right is a result, not an error."""
    for images in items:
        try:
            yield write(job, images)
        except UserError as error:
            yield WrittenFeatures(refused=str(error))


def write(job: FeatureJob, images: Images) -> WrittenFeatures:
    """Write the features of a task's images. Raises UserError: a damaged shard, weights that do not fit."""
    manifest.check_shard(job.dataset, images.shard)
    extractor, views = _extractor(job), job.config.feature_views
    augmented = images.split == "train" and job.config.train.augments
    file = features.file_name(images, uuid.uuid4().hex[:8])
    crc = size = count = length = 0
    with (
        storage.open_read(storage.join(job.dataset, images.shard.file)) as stream,
        storage.writing(storage.join(job.target, file)) as target,
    ):
        records = itertools.islice(tfrecord.read_frames(stream), images.start, images.start + images.records)
        while batch := list(itertools.islice(records, BLOCK)):
            first = images.first + count
            vectors = extractor.of_views(batch, first, views) if augmented else extractor.of_images(batch)
            length = vectors.shape[-1]
            for record, vector in zip(batch, vectors, strict=True):
                framed = tfrecord.frame(_with_features(record, vector))
                target.write(framed)
                crc, size, count = google_crc32c.extend(crc, framed), size + len(framed), count + 1
    assert count == images.records, (images, count)
    return WrittenFeatures(Shard(file, count, size, crc), length)


def _with_features(record: bytes, vectors: np.ndarray) -> bytes:
    """The serialised ``record`` with features, float32 [D] or [V, D], in the place of its image."""
    found = tfrecord.parse_example(record)
    label, key = found["label"], found["key"]
    assert isinstance(label, int) and isinstance(key, bytes)
    return tfrecord.example(vectors.astype("<f4").tobytes(), label, key)
