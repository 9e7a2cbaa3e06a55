"""The story of the serve job: load the model, listen, answer until told to stop."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator

import uvicorn

from distributed_cls.config import Config
from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.contracts.export import Export, load_export
from distributed_cls.errors import UserError
from distributed_cls.models.tensorflow_import import import_tensorflow
from distributed_cls.serving.connections import ACCEPTED_AT_ONCE, QUEUE, bounded_protocol, most_connections
from distributed_cls.serving.prometheus import Metrics


def run(config: Config) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the open requests and return. Raises UserError."""
    assert config.model_dir, "the configuration asks for model_dir when job=serve"
    settings = config.serve
    # What a user can get wrong comes first: a port in use should not be found out after a minute of loading.
    most = most_connections()
    with _listening(settings) as listener:
        load_export(config.model_dir)
        with _without_greetings():
            # TensorFlow only from here on: its import takes seconds.
            import_tensorflow()
            from distributed_cls.predictor.classifier import bound_threads
            from distributed_cls.serving.app import create_app
            from distributed_cls.serving.service import Service
            from distributed_cls.serving.versions import Versions

            bound_threads(settings.threads or os.cpu_count() or 1)
            metrics = Metrics()
            versions = Versions(config.model_dir, (1, settings.max_batch), metrics.on_load)
        app = create_app(lambda: Service(settings, versions, metrics))
        server = _Server(
            _banner(versions.current.export, versions.name, listener),
            uvicorn.Config(
                app,
                http=bounded_protocol(most),
                backlog=ACCEPTED_AT_ONCE,
                lifespan="on",
                log_level="warning",
                access_log=False,  # the guard has one of its own, without names of visitors' pictures
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_keep_alive=30,
                timeout_graceful_shutdown=int(settings.drain) or 1,
            ),
        )
        with _quiet_stop(server):
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Prints ``banner`` once it answers: whoever reads it may send requests, or a signal."""

    def __init__(self, banner: str, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._banner = banner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(QUEUE)  # asyncio has one number for two things
        print(self._banner, flush=True)


def _banner(export: Export, name: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    return (
        f"Serving {name} ({len(export.classes)} classes, version {export.version}) "
        f"at http://{address}:{port}/ · API at /docs · stop with Ctrl-C"
    )


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    """Keep what TensorFlow writes to file descriptor 2 while it starts, and show it only when the start fails.

    Its first lines come before any log level of its own counts, and tell a visitor of the terminal nothing.
    """
    with tempfile.TemporaryFile() as kept:
        shown = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except UserError:
            raise
        except BaseException:
            kept.seek(0)
            os.write(shown, kept.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


@contextlib.contextmanager
def _listening(settings: ServeConfig) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches the delay of small packets (Nagle, 40 ms) off only where the protocol is named.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(QUEUE)
        except OSError as error:
            raise UserError(
                f"Expected to listen on {settings.host}:{settings.port}. Received: {error.strerror or error}. "
                "Set serve.port to a free port (0: any), and serve.host to an address of this machine."
            ) from error
        yield listener


@contextlib.contextmanager
def _quiet_stop(server: uvicorn.Server) -> Iterator[None]:
    """Let the server end on SIGTERM, Ctrl-C and SIGHUP (a terminal that was closed) as a job that is done, exit code 0.

    The server catches the first two while it runs and raises them again when it has drained. One that comes just before
    must not be lost.
    """

    def stop(*_: object) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
