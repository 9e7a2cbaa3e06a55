"""The life of a serving process: how it starts, is overloaded, takes a new version, and ends."""

import concurrent.futures
import json
import re
import resource
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.inference_support import (
    Server,
    address_of,
    digit_png,
    digits_model,
    serving,
    start_server,
    upload,
)
from tests.patience import PATIENCE


def test_beyond_the_queue_callers_are_asked_to_come_back() -> None:
    with serving(digits_model(), '{"queue": 4, "max_images": 4, "max_batch": 1}') as server:

        def call(_: int) -> httpx.Response:
            return httpx.post(f"{server.url}/classify", files=[("file", ("x.png", digit_png()))] * 4, timeout=PATIENCE)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(call, range(96)))
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 503}
        for answer in answers:
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) >= 1
        assert call(0).status_code == 200
        assert server.stop(signal.SIGINT) == 0  # as Ctrl-C


def test_a_signal_in_the_moment_after_the_start_is_not_lost() -> None:
    with serving(digits_model()) as server:
        assert server.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_what_was_begun(number: signal.Signals) -> None:
    with serving(digits_model(), '{"max_batch": 1}') as server:
        answers: list[int] = []
        begun = threading.Barrier(5)

        def call() -> None:
            with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
                client.get("/healthz")
                begun.wait(PATIENCE)
                answers.append(client.post("/classify", files=[("file", ("x.png", digit_png()))] * 32).status_code)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        begun.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        # All four have come in, or are answered; the one more that is open asks for the metrics.
        while _open_requests(server) - 1 + len(answers) < 4 and time.monotonic() < deadline:
            continue
        assert server.stop(number) == 0
        for caller in callers:
            caller.join(PATIENCE)
        assert answers == [200] * 4


def _open_requests(server: Server) -> int:
    metrics = httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text
    found = re.search(r"^distributed_cls_open_requests (\d+)", metrics, re.MULTILINE)
    assert found
    return int(found[1])


def test_a_new_version_takes_over_without_losing_a_request(tmp_path: Path) -> None:
    shutil.copytree(digits_model() / "model", tmp_path / "1")
    with serving(tmp_path, '{"reload": 0.1}') as server:
        codes: list[int] = []
        versions: list[str] = []
        ended = threading.Event()

        def call() -> None:
            with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
                while not ended.is_set():
                    answer = upload(client, ("x.png", digit_png()))
                    codes.append(answer.status_code)
                    versions.append(answer.json()["model"]["version"])

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        # First a version that is damaged: it is passed over. Then a whole one.
        shutil.copytree(tmp_path / "1", tmp_path / "2")
        (tmp_path / "2" / "labels.json").write_text("[]")
        shutil.copytree(tmp_path / "1", tmp_path / "3.part")
        about = json.loads((tmp_path / "1" / "model.json").read_text())
        (tmp_path / "3.part" / "model.json").write_text(json.dumps({**about, "created": "2030-01-01T00:00:00+00:00"}))
        (tmp_path / "3.part").rename(tmp_path / "3")
        deadline = time.monotonic() + PATIENCE
        while len(set(versions)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        ended.set()
        for caller in callers:
            caller.join(PATIENCE)
        assert set(codes) == {200}
        assert len(set(versions)) == 2
        told = httpx.get(f"{server.url}/v1/models/digits", timeout=PATIENCE).json()
        assert told["created"] == "2030-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("missing", "no such folder"),
        ("damaged", "Export the model again"),
        ("schema", "schema_version=99"),
    ],
)
def test_a_model_that_cannot_be_served_is_one_line(tmp_path: Path, prepare: str, words: str) -> None:
    folder = tmp_path / "model"
    if prepare != "missing":
        shutil.copytree(digits_model() / "model", folder)
    if prepare == "damaged":
        (folder / "model.keras").write_bytes(b"x")
    if prepare == "schema":
        about = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({**about, "schema_version": 99}))
    process = start_server(folder)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert words in said
    assert len(said.strip().splitlines()) == 1


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        process = start_server(digits_model(), json.dumps({"port": holder.getsockname()[1]}))
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "serve.port" in said
    assert len(said.strip().splitlines()) == 1


def test_idle_connections_beyond_the_limit_of_open_files_take_nothing_from_the_others() -> None:
    """As under ``ulimit -n 256``, which leaves room for 96 connections."""
    process = start_server(digits_model())
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, 256))  # before it has imported anything
    idle: list[socket.socket] = []
    try:
        url = address_of(process)
        host, port = url.removeprefix("http://").split(":")

        def open_idle(count: int) -> None:
            idle.extend(socket.create_connection((host, int(port)), PATIENCE) for _ in range(count))

        open_idle(80)
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            assert upload(client, ("x.png", digit_png())).status_code == 200
            open_idle(320)
            refused = httpx.get(f"{url}/healthz", timeout=PATIENCE)
            assert (refused.status_code, refused.json()) == (503, {"error": "The service is busy."})
            assert upload(client, ("x.png", digit_png())).status_code == 200  # who was there before is served on
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        for connection in idle:
            connection.close()
        process.kill()
        said, _ = process.communicate(timeout=PATIENCE)
    assert "Too many open files" not in said and "Traceback" not in said
