"""How a line of the ledger is bound to all lines before it. Pure; see docs/reference/ledger.md.

hash of a line = SHA-256(hash of the line before ‖ the line as JSON). A line that is changed, taken out or
put in between breaks every hash after it, and a ledger cut short does not reach a head that was kept
elsewhere.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

GENESIS = hashlib.sha256(b"cctv-storaged ledger 1").digest()
"""Stands for the line before the first."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


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


class BoundLine(NamedTuple):
    """A line with its hash; None where a line of an earlier version was carried over without."""

    line: Line
    hash: bytes | None


class Wrong(StrEnum):
    """What can be wrong with lines of a ledger."""

    CHANGED = "changed"
    MISSING = "missing"
    PUT_IN = "put in"
    CUT_SHORT = "cut short"
    OTHER_CHAIN = "another chain"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Lines `first` to `last` are not as they were written."""

    first: int
    last: int
    wrong: Wrong
    why: str


def canonical(line: Line) -> bytes:
    """The line as a JSON array without spaces, UTF-8; ids as 32 hexadecimal digits."""
    facts = [*line[:3], line.segment_id.hex(), line.camera_id.hex(), *line[5:]]
    return _encode(facts).encode("utf-8", "surrogatepass")


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


class Walk:
    """Follows lines in their order. Behind a break it goes on from what the lines themselves say."""

    def __init__(self, no: int = 0, last_hash: bytes = GENESIS) -> None:
        """From the line `no` with that hash on."""
        self.no = no
        self.last_hash = last_hash

    def step(self, bound: BoundLine) -> Break | None:
        """What the next line shows to be wrong; it is the next one to be found."""
        line, before = bound.line, self.no
        if line.no <= before:
            return Break(first=line.no, last=line.no, wrong=Wrong.PUT_IN, why="its number was there before")
        follows = linked(self.last_hash, line) == bound.hash
        self.no, self.last_hash = line.no, bound.hash or GENESIS
        if line.no > before + 1:
            why = f"line {line.no} comes next" if before else f"line {line.no} is the first"
            return Break(first=before + 1, last=line.no - 1, wrong=Wrong.MISSING, why=why)
        if bound.hash is None:
            return Break(first=line.no, last=line.no, wrong=Wrong.CHANGED, why="it has no hash")
        if not follows:
            why = f"its hash does not follow from line {before} and what it says"
            return Break(first=line.no, last=line.no, wrong=Wrong.CHANGED, why=why)
        return None
