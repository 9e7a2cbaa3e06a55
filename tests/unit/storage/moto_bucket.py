"""A bucket on a server of this process, and a second client that writes into it as another process would."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from distributed_cls import storage

NAME = "results"
URL = f"s3://{NAME}"


@contextlib.contextmanager
def bucket() -> Iterator[Any]:
    """A client of its own for the bucket ``URL``, which ``storage`` reaches by the environment."""
    pytest.importorskip("s3fs")
    moto_server = pytest.importorskip("moto.server")
    import boto3

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "a-key-for-tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        type(storage.filesystem(URL)[0]).clear_instance_cache()
        client = boto3.client("s3")
        client.create_bucket(Bucket=NAME)
        yield client
    server.stop()
