"""The daemon's events, followed over HTTP as any client would, with the time each one arrived."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

SEGMENTS = "/api/v1/storage/events"


class Arrivals:
    """When the word of each registered segment arrived: segment id to monotonic seconds."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.missed = False

    def follow(self, stream: http.client.HTTPResponse) -> None:
        """Until the stream ends."""
        kind = ""
        for line in stream:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
                self.missed = self.missed or kind == "missed"
            elif line.startswith(b"data: ") and kind == "segment":
                self.at[json.loads(line[6:])["segment_id"]] = time.monotonic()


@contextlib.contextmanager
def following(url: str) -> Iterator[Arrivals]:
    """Arrivals from now on, until the block is left."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    connection.request("GET", SEGMENTS)
    stream = connection.getresponse()
    if stream.status != http.client.OK:
        raise RuntimeError(f"{SEGMENTS} answered {stream.status}")
    arrivals = Arrivals()
    thread = threading.Thread(target=_until_cut, args=(arrivals, stream), daemon=True)
    thread.start()
    try:
        yield arrivals
    finally:
        if connection.sock is not None:
            connection.sock.shutdown(2)
        thread.join()
        connection.close()


def _until_cut(arrivals: Arrivals, stream: http.client.HTTPResponse) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        arrivals.follow(stream)
