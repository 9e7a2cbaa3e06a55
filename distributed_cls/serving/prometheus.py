"""What an operator watches, in Prometheus's text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from distributed_cls.contracts.export import Export

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one service; every service has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter("requests", "Answered requests.", ["route", "code"], registry=registry)
        self.seconds = Histogram(
            "request_seconds", "From first byte to answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.images = Counter("images", "Images by what became of them.", ["outcome"], registry=registry)
        self.batch = Histogram(
            "batch_images", "Images per call of the model.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.model_seconds = Histogram("model_seconds", "One call of the model.", buckets=_SECONDS, registry=registry)
        self.waiting = Gauge("images_waiting", "Images admitted and not yet answered.", registry=registry)
        self.open_requests = Gauge("open_requests", "Requests being handled.", registry=registry)
        self.body_bytes = Gauge("body_bytes", "Bytes of request bodies held in memory.", registry=registry)
        self.loads = Counter("model_loads", "Versions of the model loaded since the start.", registry=registry)
        self.model = Info("model", "The version that answers.", registry=registry)

    def on_batch(self, images: int, seconds: float) -> None:
        """Note one call of the model."""
        self.batch.observe(images)
        self.model_seconds.observe(seconds)

    def on_load(self, export: Export) -> None:
        """Note that another version answers from now on."""
        self.loads.inc()
        self.model.info({"name": export.name, "version": export.version, "created": export.created})

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)
