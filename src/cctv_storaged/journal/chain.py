"""How a line of the ledger is bound to all lines before it. Pure; see docs/reference/ledger.md.

hash of a line = SHA-256(hash of the line before ‖ the line as JSON). A line that is changed, taken out or
put in between breaks every hash after it, and a ledger cut short does not reach a head that was kept
elsewhere.
"""

import hashlib
import json
from typing import NamedTuple

GENESIS = hashlib.sha256(b"cctv-storaged ledger 1").digest()
"""Stands for the line before the first."""


class Line(NamedTuple):
    """A line as it is stored: times in microseconds since 1970 UTC, ids as 16 bytes."""

    no: int
    at_us: int
    kind: str
    segment_id: bytes
    camera_id: bytes
    start_us: int
    end_us: int
    cause: str
    detail: str


def canonical(line: Line) -> bytes:
    """The line as a JSON array without spaces, UTF-8; ids as 32 hexadecimal digits."""
    facts = [*line[:3], line.segment_id.hex(), line.camera_id.hex(), *line[5:]]
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def linked(previous: bytes, line: Line) -> bytes:
    """The hash of a line, 32 bytes."""
    return hashlib.sha256(previous + canonical(line)).digest()


class Chain:
    """Links lines in their order, for tables that had none."""

    def __init__(self) -> None:
        self._last = GENESIS

    def __call__(
        self,
        no: int,
        at_us: int,
        kind: str,
        segment_id: bytes,
        camera_id: bytes,
        start_us: int,
        end_us: int,
        cause: str,
        detail: str,
    ) -> bytes:
        line = Line(no, at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail)
        self._last = linked(self._last, line)
        return self._last
