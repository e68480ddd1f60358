"""Settings name other backends than before: what each segment lacks becomes due, what nobody needs goes off.

In slices of some milliseconds, each noting where it ended: a process that dies goes on from there, and one
whose settings are as they were has nothing to do. Two walks: over all sources, which any backend can still be
given, then over what other backends still owe of segments without a source.

Nothing that was verified is touched, nothing is delivered twice, and no copy goes off the books that may be
the last: without a source only where every backend that is required now has the segment.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cctv_storaged.journal.copies import UNDELIVERED
from cctv_storaged.journal.store import Store

SLICE = 100
"""Segments looked at in one commit."""
KEY = "required"
"""In `meta`: which backends the walk is for, and how far it is."""
NOT_NAMED = "the settings no longer name this backend"
_OWING = frozenset({"pending", "stored", "failed", "gap"})
_AT_SOURCE = "source_state IN ('present', 'pruning')"
"""Word for word the condition of the partial index segment_at_source, or SQLite will not use it."""
_LISTS = (
    (UNDELIVERED, "copy.start_us, copy.segment_no"),
    ("copy.state = 'gap'", "copy.start_us, copy.segment_no"),
    ("copy.state = 'failed'", "copy.segment_no, 0"),
)
"""What a backend still owes, each list in the order of its index."""
_BEGIN = (-1, "", -1, -(2**62))
_FIRST = (-(2**62), -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What came of a slice."""

    due: int  # copies that became due
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """How far it is."""

    backends: tuple[str, ...]
    sources: tuple[int, str, int, int] | None  # the last source looked at; None: all were
    owing: tuple[str, int, int, int] | None  # backend, list, and the last row of it; None: all were

    @property
    def over(self) -> bool:
        return self.sources is None and self.owing is None


class Requirement:
    """Brings the journal in line with the backends that are required now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def is_settled(self, backends: Sequence[str]) -> bool:
        """Whether nothing is left to do for these; a look-up."""
        wanted = tuple(sorted(set(backends)))
        return not wanted or await self._store.read(lambda db: _walk(db, wanted).over)

    async def require(self, backends: Sequence[str]) -> int:
        """All that is left of it; how many copies became due."""
        due, more = 0, not await self.is_settled(backends)
        while more:
            settled = await self.settle(backends)
            due, more = due + settled.due, settled.more
        return due

    async def settle(self, backends: Sequence[str]) -> Settled:
        """A slice of it."""
        wanted = tuple(sorted(set(backends)))
        if not wanted:
            return Settled(due=0, more=False)
        return await self._store.write(lambda db: _settle(db, wanted))


def _walk(db: sqlite3.Connection, wanted: tuple[str, ...]) -> _Walk:
    """As noted; from the start where the note is of other backends, or cannot be read."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
    anew = _Walk(backends=wanted, sources=_BEGIN, owing=("", 0, *_FIRST))
    try:
        noted: dict[str, Any] = json.loads(row[0]) if row is not None else {}
        if tuple(noted.get("backends", ())) != wanted:
            return anew
        sources, owing = noted["sources"], noted["owing"]
        return _Walk(
            backends=wanted,
            sources=None if sources is None else _source_place(*sources),
            owing=None if owing is None else _owing_place(*owing),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return anew


def _source_place(folder: int, name: str, size: int, mtime: int) -> tuple[int, str, int, int]:
    bytes.fromhex(name)  # raises ValueError
    return (int(folder), name, int(size), int(mtime))


def _owing_place(backend: str, number: int, first: int, second: int) -> tuple[str, int, int, int]:
    return (str(backend), int(number), int(first), int(second))


def _settle(db: sqlite3.Connection, wanted: tuple[str, ...]) -> Settled:
    walk = _walk(db, wanted)
    due = 0
    if walk.sources is not None:
        due, sources = _look_at_sources(db, wanted, walk.sources)
        walk = _Walk(backends=wanted, sources=sources, owing=walk.owing)
    elif walk.owing is not None:
        owing = _look_at_owing(db, wanted, walk.owing)
        walk = _Walk(backends=wanted, sources=None, owing=owing)
    noted = json.dumps({"backends": wanted, "sources": walk.sources, "owing": walk.owing})
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (KEY, noted))
    return Settled(due=due, more=not walk.over)


# Sources


def _look_at_sources(
    db: sqlite3.Connection, wanted: tuple[str, ...], after: tuple[int, str, int, int]
) -> tuple[int, tuple[int, str, int, int] | None]:
    folder, name, size, mtime = after
    rows = db.execute(
        f"""SELECT no, folder_no, name, size_bytes, mtime_ns, start_us, source_state, deletion_due_us
              FROM segment
             WHERE {_AT_SOURCE} AND (folder_no, name, size_bytes, mtime_ns) > (?, ?, ?, ?)
             ORDER BY folder_no, name, size_bytes, mtime_ns LIMIT ?""",
        (folder, bytes.fromhex(name), size, mtime, SLICE),
    ).fetchall()
    states = _states(db, [row[0] for row in rows])
    due = 0
    for no, _, _, size_bytes, _, start_us, source_state, deletion_due_us in rows:
        if deletion_due_us is None:
            due += sum(require(db, no, start_us, size_bytes, b, states[no].get(b)) for b in wanted)
            if source_state == "present":
                _take_off(db, no, [b for b, s in states[no].items() if b not in wanted and s in _OWING])
    if len(rows) < SLICE:
        return due, None
    last = rows[-1]
    return due, (last[1], last[2].hex(), last[3], last[4])


def _states(db: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, dict[str, str]]:
    states: dict[int, dict[str, str]] = {no: {} for no in numbers}
    query = "SELECT segment_no, backend, state FROM copy WHERE segment_no IN (SELECT value FROM json_each(?))"
    for no, backend, state in db.execute(query, (json.dumps(list(numbers)),)):
        states[no][backend] = state
    return states


def require(
    db: sqlite3.Connection, no: int, start_us: int, size_bytes: int, backend: str, state: str | None
) -> bool:
    """A pending copy where there is none, also where settings had given it up before."""
    if state is None:
        db.execute(
            "INSERT INTO copy (segment_no, backend, start_us, size_bytes) VALUES (?, ?, ?, ?)",
            (no, backend, start_us, size_bytes),
        )
    elif state == "gone":
        db.execute(
            """UPDATE copy SET state = 'pending', due_us = 0, attempts = 0, error = NULL, verified_us = NULL
                WHERE segment_no = ? AND backend = ?""",
            (no, backend),
        )
    return state in (None, "gone")


def _take_off(db: sqlite3.Connection, no: int, backends: Sequence[str]) -> None:
    for backend in backends:
        db.execute(
            "UPDATE copy SET state = 'gone', error = ? WHERE segment_no = ? AND backend = ?",
            (NOT_NAMED, no, backend),
        )


# What is owed without a source


def _look_at_owing(
    db: sqlite3.Connection, wanted: tuple[str, ...], after: tuple[str, int, int, int]
) -> tuple[str, int, int, int] | None:
    backend, number, *row = after
    if not backend:
        return _next_list(db, wanted, "", len(_LISTS))
    which, order = _LISTS[number]
    condition = f"copy.backend = ? AND {which} AND ({order}) > (?, ?)"
    if order.endswith("0"):
        condition = f"copy.backend = ? AND {which} AND copy.segment_no > ? AND ? < 1"
    rows = db.execute(
        f"""SELECT {order}, copy.segment_no, s.source_state FROM copy
             CROSS JOIN segment s ON s.no = copy.segment_no
             WHERE {condition} ORDER BY {order.removesuffix(", 0")} LIMIT ?""",
        (backend, *row, SLICE),
    ).fetchall()
    without = [no for _, _, no, source_state in rows if source_state != "present"]
    for no, states in _states(db, without).items():
        if all(states.get(each) == "verified" for each in wanted):
            _take_off(db, no, [backend])
    if len(rows) == SLICE:
        return (backend, number, rows[-1][0], rows[-1][1])
    return _next_list(db, wanted, backend, number + 1)


def _next_list(
    db: sqlite3.Connection, wanted: tuple[str, ...], backend: str, number: int
) -> tuple[str, int, int, int] | None:
    if backend and number < len(_LISTS):
        return (backend, number, *_FIRST)
    following = next((each for each in _others(db, wanted) if each > backend), None)
    return None if following is None else (following, 0, *_FIRST)


def _others(db: sqlite3.Connection, wanted: tuple[str, ...]) -> Iterator[str]:
    for (backend,) in db.execute("SELECT DISTINCT backend FROM tally ORDER BY backend").fetchall():
        if backend not in wanted:
            yield backend
