"""A client of a Kubernetes API server, in plain HTTP: objects are the JSON that the server speaks."""

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from tests.clusters.kubernetes.network_namespace import GATEWAY, NetworkNamespace

JSON, MERGE_PATCH, APPLY_PATCH = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"
_ANSWER_SECONDS = 60.0
_AGAIN_SECONDS = 0.5

Object = dict[str, Any]


class Refused(Exception):
    """The server's answer is an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text[:1000]}")
        self.code = code


class ApiClient:
    """Asks the server of ``network`` with ``token``; ``certificate``: the path of the server's own."""

    def __init__(self, network: NetworkNamespace, token: str, certificate: str) -> None:
        self._network, self._token = network, token
        self._context = ssl.create_default_context(cafile=certificate)

    def ask(self, method: str, path: str, body: Object | None = None, kind: str = JSON) -> Object:
        """The server's answer. Raises Refused, OSError."""
        connection, answer = self._open(method, path, body, kind, _ANSWER_SECONDS)
        try:
            text = answer.read()
        finally:
            connection.close()
        return dict(json.loads(text or b"{}"))

    def items(self, path: str) -> list[Object]:
        return list(self.ask("GET", path)["items"])

    def make(self, path: str, body: Object) -> None:
        """Make an object, unless it is there."""
        try:
            self.ask("POST", path, body)
        except Refused as error:
            if error.code != 409:
                raise

    def remove(self, path: str, options: Object | None = None) -> None:
        """Delete an object, unless it is gone (404) or another one of the same name (409)."""
        try:
            self.ask("DELETE", path, options)
        except Refused as error:
            if error.code not in (404, 409):
                raise

    def events(self, path: str, stop: threading.Event) -> Iterator[tuple[str, Object]]:
        """(ADDED, MODIFIED or DELETED, object) of every object at ``path`` and every change, until ``stop`` is set."""
        while not stop.is_set():
            try:
                listed = self.ask("GET", path)
                yield from (("ADDED", item) for item in listed["items"])
                yield from self._changes(f"{path}?watch=true&resourceVersion={listed['metadata']['resourceVersion']}")
            except (OSError, http.client.HTTPException, Refused):  # the server starts, ends, or has forgotten
                stop.wait(_AGAIN_SECONDS)

    def _changes(self, path: str) -> Iterator[tuple[str, Object]]:
        connection, answer = self._open("GET", path, None, JSON, None)
        try:
            for line in answer:
                change = json.loads(line)
                if change["type"] == "ERROR":
                    return
                yield change["type"], change["object"]
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: Object | None, kind: str, timeout: float | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(GATEWAY)
        plain = self._network.connect(443, timeout)
        connection.sock = self._context.wrap_socket(plain, server_hostname=GATEWAY)
        headers = {"Accept": JSON, "Content-Type": kind, "Authorization": f"Bearer {self._token}"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status >= 300:
            text = answer.read().decode(errors="replace")
            connection.close()
            raise Refused(answer.status, text)
        return connection, answer
