"""The settings of the jobs that use a trained model: predict, stream and serve. Sections of ``config.Config``."""

import re
from dataclasses import dataclass

from distributed_cls.config.section import Section, setting


@dataclass
class PredictConfig(Section):
    """How images are classified in bulk; the stream job uses it as well."""

    section = "predict"

    batch_size: int = setting(64, "batch size of the model", at_least=1)
    top_k: int = setting(5, "number of most probable classes in each row", at_least=1)
    part_images: int = setting(
        2000, "maximum images per output file; a restarted job repeats at most one file per task", at_least=1
    )
    part_megabytes: int = setting(512, "maximum input size per output file, MiB", at_least=1)
    threads: int = setting(
        1, "threads of the model in each Python worker; a Spark slot is usually one core", at_least=1
    )


@dataclass
class StreamConfig(Section):
    """How arriving images are classified."""

    section = "stream"

    once: bool = setting(False, "classify the images that are there and end; false: wait for more")
    batch_images: int = setting(512, "maximum images per micro-batch", at_least=1)
    interval: float = setting(1.0, "polling interval for new images, seconds", above=0)
    checkpoint: str | None = setting(None, "folder of Spark's progress log; null: _checkpoint in the output")


@dataclass
class ServeConfig(Section):
    """The web page and the HTTP API."""

    section = "serve"

    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 opens the service to the network")
    port: int = setting(8000, "port to listen on; 0: any free one", at_least=0, at_most=65535)
    root_path: str = setting("", "path under which a proxy serves the page, such as /cars")
    threads: int | None = setting(None, "threads of the model; null: every core", at_least=1)
    max_batch: int = setting(32, "maximum batch size of the model", at_least=1)
    max_wait: float = setting(0.02, "maximum batching delay, seconds", at_least=0, at_most=1)
    queue: int = setting(256, "maximum images waiting for the model; beyond it requests get 503", at_least=1)
    timeout: float = setting(30.0, "maximum time from a request's last byte to its response, seconds", above=0)
    receive_timeout: float = setting(30.0, "maximum time to receive a request body, seconds", above=0)
    max_requests: int = setting(512, "maximum concurrent requests; beyond it 503", at_least=1)
    max_body_megabytes: float = setting(16.0, "maximum size of a request body, MiB", above=0)
    max_bodies_megabytes: float = setting(256.0, "maximum total size of all request bodies in memory, MiB", above=0)
    max_images: int = setting(32, "maximum images per request", at_least=1)
    unclear_below: float = setting(
        0.5,
        "confidence below which the page calls a picture unclear; the API responds the same either way",
        at_least=0,
        at_most=1,
    )
    access_log: bool = setting(False, "print a line per request: time, caller, method, path, status, duration")
    reload: float = setting(2.0, "polling interval for a new model version, seconds", above=0)
    drain: float = setting(20.0, "maximum time to finish open requests after SIGTERM, seconds", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"(/[\w.~-]+)*", self.root_path):
            self.refuse("root_path", self.root_path, "empty, or a path such as /cars without a / at its end")
