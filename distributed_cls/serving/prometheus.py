"""What an operator watches, in Prometheus's text format."""

from typing import TypedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from distributed_cls.contracts.export import Export

_IMAGES = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class _Common(TypedDict):
    namespace: str
    registry: CollectorRegistry


class Metrics:
    """The figures of one service; every service has its own registry. docs/serving.md says what each means."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common: _Common = {"namespace": "distributed_cls", "registry": self.registry}
        self.requests = Counter("requests", "Answered requests.", ["route", "code"], **common)
        self.seconds = Histogram(
            "request_seconds", "From a request's first byte to its answer.", ["route"], buckets=_SECONDS, **common
        )
        self.images = Counter("images", "Images, classified or unreadable.", ["outcome"], **common)
        self.batch = Histogram("batch_images", "Images per call of the model.", buckets=_IMAGES, **common)
        self.model_seconds = Histogram("model_seconds", "One call of the model.", buckets=_SECONDS, **common)
        self.waiting = Gauge("images_waiting", "Images admitted and not yet answered.", **common)
        self.open_requests = Gauge("open_requests", "Requests being handled.", **common)
        self.body_bytes = Gauge("body_bytes", "Bytes of request bodies held in memory.", **common)
        self.loads = Counter("model_loads", "Versions of the model loaded since the start.", **common)
        self.model = Info("model", "The version that answers.", **common)

    def on_batch(self, images: int, seconds: float) -> None:
        """Note one call of the model."""
        self.batch.observe(images)
        self.model_seconds.observe(seconds)

    def on_load(self, export: Export) -> None:
        """Note that another version answers from now on."""
        self.loads.inc()
        self.model.info(
            {"name": export.title, "architecture": export.name, "version": export.version, "created": export.created}
        )

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)
