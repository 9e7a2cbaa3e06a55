"""What the machine's owner can put right about the output of a predict or stream job, in one line."""

import contextlib
from collections.abc import Iterator

from distributed_cls import storage
from distributed_cls.errors import RunError, UserError
from distributed_cls.spark.java_errors import task_reason


@contextlib.contextmanager
def output_named(output: str) -> Iterator[None]:
    """Turn a full disk, or missing permission, into a UserError; also when a Spark task or the driver's JVM met it."""
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        if storage.of_environment(error) is None:
            raise
        raise UserError(
            f"Expected output to have room, and the right to write it. Received: output={output} "
            f"({task_reason(error)}). Free some space or change its rights; the same command goes on from what is "
            "written."
        ) from None
