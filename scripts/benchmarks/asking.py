"""One client of the daemon's API, with one kept connection: what it is answered, and how soon."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

PREFIX = "/api/v1/storage"
BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that came bit by bit; seconds are from before the request was sent."""

    status: int
    size_bytes: int
    first_byte_s: float  # of the body
    whole_s: float


@dataclass(frozen=True, slots=True)
class Client:
    """Asks; one request after the other."""

    connection: http.client.HTTPConnection

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, float]:
        """Status, body, and the seconds from before the request is sent until the answer is read."""
        begun = time.perf_counter()
        self._send(method, path, body)
        answer = self.connection.getresponse()
        data = answer.read()
        return answer.status, data, time.perf_counter() - begun

    def stream(self, path: str) -> Streamed:
        """Gets what is too large to be kept, and forgets it."""
        begun = time.perf_counter()
        self._send("GET", path, None)
        answer = self.connection.getresponse()
        size_bytes = len(answer.read(1))
        first_byte_s = time.perf_counter() - begun
        while block := answer.read(BLOCK_BYTES):
            size_bytes += len(block)
        return Streamed(answer.status, size_bytes, first_byte_s, time.perf_counter() - begun)

    def create(self, path: str, body: object) -> tuple[dict[str, object], float]:
        """Posts JSON; what was made or accepted, and the seconds. Raises RuntimeError for anything else."""
        status, data, took_s = self.ask("POST", path, json.dumps(body).encode())
        if status not in (http.client.CREATED, http.client.ACCEPTED):
            raise RuntimeError(f"POST {path} answered {status}: {data[:500]!r}")
        return json.loads(data), took_s

    def _send(self, method: str, path: str, body: bytes | None) -> None:
        headers = {"Content-Type": "application/json"} if body else {}
        self.connection.request(method, PREFIX + path, body=body, headers=headers)


@contextlib.contextmanager
def client(url: str) -> Iterator[Client]:
    """A client of the API at this address."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    with contextlib.closing(connection):
        yield Client(connection)
