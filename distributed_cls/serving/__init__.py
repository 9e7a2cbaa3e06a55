"""The web page and the HTTP API of one exported model. Neither Spark nor Java is needed here."""

import os

from distributed_cls.config import Config
from distributed_cls.errors import UserError


def serve(config: Config) -> None:
    """Serve the model of ``config.model_dir`` until SIGTERM or Ctrl-C; open requests are finished first.

    Raises UserError when the model, the address or the extra ``serve`` is missing.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before its import: TensorFlow's greetings are no news
    try:
        # Only this job needs the web libraries; they are an extra.
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401

        from distributed_cls.serving.server import run
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "prometheus_client", "python_multipart"):
            raise
        raise UserError(
            f"Expected the extra 'serve' to be installed. Received: no module {error.name}. "
            "Run: pip install 'distributed-cls[serve]'."
        ) from None
    run(config)
