"""Ledgers made up for tests: lines bound as the journal binds them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cctv_storaged.auditing.heads import Head
from cctv_storaged.clock import to_us
from cctv_storaged.journal.chain import GENESIS, BoundLine, Line, linked

T0 = datetime(2026, 1, 23, 10, tzinfo=UTC)
HOST = "nvr-test"


def line(no: int, *, kind: str = "registered", cause: str = "", detail: str = "") -> Line:
    at_us = to_us(T0) + no * 1_000_000
    return Line(no, at_us, kind, bytes([no % 256]) * 16, b"c" * 16, at_us, at_us + 10, cause, detail)


def bound(lines: Iterable[Line]) -> list[BoundLine]:
    """The lines with the hashes that they have one after the other."""
    last, found = GENESIS, []
    for each in lines:
        last = linked(last, each)
        found.append(BoundLine(each, last))
    return found


def chain(length: int) -> list[BoundLine]:
    return bound(map(line, range(1, length + 1)))


def head_of(lines: Sequence[BoundLine], no: int | None = None) -> Head:
    """A head of one of the lines, else the last."""
    chosen = lines[-1] if no is None else next(each for each in lines if each.line.no == no)
    assert chosen.hash is not None and lines[0].hash is not None
    return Head(no=chosen.line.no, hash=chosen.hash, at=T0, host=HOST, chain=lines[0].hash.hex())
