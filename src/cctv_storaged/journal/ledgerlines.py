"""The ledger as a chain: its lines in order, which of them have gone into archives, what heads are known.

Lines of most kinds leave the table once they stand in an archive (auditing/archiving.py); those that others
ask the table for stay. What was archived is a number in `meta`, written in commits of its own: first the
archive counts, then lines go, in slices.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from cctv_storaged import __version__
from cctv_storaged.clock import to_us
from cctv_storaged.journal.chain import GENESIS, BoundLine, Break, Chain, Line, Walk
from cctv_storaged.journal.ledger import Kind, add, note
from cctv_storaged.journal.store import Store
from cctv_storaged.model import TimeSpan

LINE_COLUMNS = "no, at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail, hash"
KEPT = frozenset({Kind.LOST, Kind.FOUND, Kind.DELETED, Kind.REPLACED})
"""Kinds that stay in the table: coverage asks for them, and a salvage for what is not to come back."""
KEPT_SQL = "('lost', 'found', 'deleted', 'replaced')"
BEGUN = "chain_begun"
RECOVERED = "journal_recovered"
"""Causes of `noted` lines."""
SLICE = 500
"""Lines read, looked through or removed in one operation of the journal: a few milliseconds."""
MOST_RANGES = 500

CHAIN, ARCHIVED, REMOVED, STORED = "ledger_chain", "ledger_archived", "ledger_removed", "ledger_stored"
HEAD, CONTRADICTION, EARLIER = "ledger_head", "ledger_contradiction", "ledger_earlier"
"""Keys of `meta`."""
LASTING = (CHAIN, ARCHIVED, REMOVED, STORED, HEAD, CONTRADICTION, EARLIER)
"""Those that a recovered journal takes over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sift:
    """Which lines somebody wants; None: whichever."""

    camera_id: UUID | None = None
    kind: Kind | None = None

    def takes(self, line: Line) -> bool:
        return (self.camera_id is None or line.camera_id == self.camera_id.bytes) and (
            self.kind is None or line.kind == self.kind
        )


EVERYTHING = Sift()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesPage:
    """Lines of the table behind a number."""

    lines: tuple[BoundLine, ...]
    archived: int  # up to this number the archives have them all, and the table some
    at_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEnd:
    """The ledger's last line, and what chain it is of (the hash of line 1; empty where that was lost)."""

    no: int
    hash: bytes
    chain: str
    archived: int  # the last line that is in an archive that counts, and its hash
    archived_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """An export that somebody fetched, or was given an address for."""

    export_id: UUID
    camera_ids: tuple[UUID, ...]
    span: TimeSpan
    what: str
    detail: str


class LedgerLines:
    """The ledger of an open journal."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, after: int, limit: int = 0, sift: Sift = EVERYTHING) -> LinesPage:
        """Of the next `limit` lines behind a number those that are wanted; 0 stands for `SLICE`, the most."""
        most = min(limit or SLICE, SLICE)
        return await self._store.read(lambda db: _page(db, after, most, sift))

    async def line(self, no: int) -> BoundLine | None:
        """One line, None where the table has it not, or not any more."""
        return await self._store.read(lambda db: _line(db, no))

    async def end(self) -> LedgerEnd | None:
        """None before the first line."""
        return await self._store.read(_end)

    async def note(self, cause: str, now: datetime, detail: str = "") -> None:
        """Adds a line on the host or the journal itself."""
        await self._store.write(lambda db: note(db, cause, now, detail))

    async def delivered(self, what: Delivered, now: datetime) -> None:
        """Adds the lines of an export that was fetched, one for each camera."""
        await self._store.write(lambda db: _deliver(db, what, now))

    # Archives

    async def due_to(self, most: int, before: datetime, at_last: datetime) -> int | None:
        """Up to which number an archive may be made: `most` lines older than `before`; fewer where the first
        of them is older than `at_last`. None: there is nothing to do. The last line always stays.
        """
        limits = to_us(before), to_us(at_last)
        return await self._store.read(lambda db: _due_to(db, most, *limits))

    async def archived(self, last: int, last_hash: bytes) -> None:
        """The lines up to `last` are in archives that were proven: those that need not stay may go."""
        await self._store.write(lambda db: _archived(db, last, last_hash))

    async def drop(self) -> bool:
        """Removes a slice of what is archived; whether there may be more."""
        return await self._store.write(_drop)

    async def recall(self, key: str) -> str | None:
        """What was remembered under one of the keys above."""
        return await self._store.read(lambda db: recalled(db, key))

    async def remember(self, key: str, value: str) -> None:
        await self._store.write(lambda db: _remember(db, key, value))


# Beginnings


def begin(db: sqlite3.Connection, host_id: str, now: datetime) -> None:
    """The first line of a new chain says whose it is; nothing where there is one. No two are alike."""
    if db.execute("SELECT max(no) FROM ledger").fetchone()[0] is None:
        facts = {"host": host_id, "software": f"cctv-storaged {__version__}", "nonce": uuid4().hex}
        note(db, BEGUN, now, json.dumps(facts))


def note_recovery(db: sqlite3.Connection, damage: str, rows: int, now: datetime) -> None:
    """Says in the ledger of a recovered journal that it was, and which of its lines do not hold together."""
    if db.execute("SELECT 1 FROM ledger WHERE hash IS NOT NULL LIMIT 1").fetchone() is None:
        _bind(db)
    lacking = _ranges([[each.first, each.last] for each in breaks_in(db)])
    note(db, RECOVERED, now, json.dumps({"damage": damage, "rows": rows, "lacking": lacking}))


def _bind(db: sqlite3.Connection) -> None:
    """Lines of a version that had no chain."""
    chain = Chain()
    rows = db.execute(
        "SELECT no, at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail"
        " FROM ledger ORDER BY no"
    ).fetchall()
    db.executemany("UPDATE ledger SET hash = ? WHERE no = ?", [(chain(*row), row[0]) for row in rows])


def breaks_in(db: sqlite3.Connection) -> Iterator[Break]:
    """Where the lines behind the archives do not follow from each other."""
    no, last_hash = archived_to(db)
    walk = Walk(no, last_hash)
    for row in db.execute(f"SELECT {LINE_COLUMNS} FROM ledger WHERE no > ? ORDER BY no", (no,)):
        found = walk.step(bound_from(row))
        if found is not None:
            yield found


def _ranges(found: list[list[int]]) -> list[list[int]]:
    """As many as a line may hold; what is too much is taken together."""
    if len(found) <= MOST_RANGES:
        return found
    return [*found[: MOST_RANGES - 1], [found[MOST_RANGES - 1][0], found[-1][1]]]


# Reading


def bound_from(row: tuple[object, ...]) -> BoundLine:
    """A line of LINE_COLUMNS."""
    *facts, line_hash = row
    return BoundLine(Line(*facts), line_hash)  # type: ignore[arg-type]  # the schema is STRICT


def _page(db: sqlite3.Connection, after: int, limit: int, sift: Sift) -> LinesPage:
    query = f"SELECT {LINE_COLUMNS} FROM ledger WHERE no > ? ORDER BY no LIMIT ?"
    lines = tuple(map(bound_from, db.execute(query, (after, limit))))
    wanted = tuple(bound for bound in lines if sift.takes(bound.line))
    return LinesPage(lines=wanted, archived=archived_to(db)[0], at_end=len(lines) < limit)


def _line(db: sqlite3.Connection, no: int) -> BoundLine | None:
    row = db.execute(f"SELECT {LINE_COLUMNS} FROM ledger WHERE no = ?", (no,)).fetchone()
    return None if row is None else bound_from(row)


def _end(db: sqlite3.Connection) -> LedgerEnd | None:
    """See LedgerLines.end."""
    query = "SELECT no, hash FROM ledger WHERE no = (SELECT max(no) FROM ledger)"
    row = db.execute(query).fetchone()
    if row is None:
        return None
    archived, archived_hash = archived_to(db)
    return LedgerEnd(
        no=row[0],
        hash=row[1] or GENESIS,
        chain=_chain(db),
        archived=archived,
        archived_hash=archived_hash,
    )


def recalled(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _chain(db: sqlite3.Connection) -> str:
    known = recalled(db, CHAIN)
    if known is not None:
        return known
    row = db.execute("SELECT hash FROM ledger WHERE no = 1").fetchone()
    return "" if row is None or row[0] is None else row[0].hex()


def archived_to(db: sqlite3.Connection) -> tuple[int, bytes]:
    """The last line that is in an archive, and its hash."""
    told = recalled(db, ARCHIVED)
    if told is None:
        return 0, GENESIS
    no, _, digits = told.partition(":")
    return int(no), bytes.fromhex(digits)


# Writing


def _remember(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _deliver(db: sqlite3.Connection, what: Delivered, now: datetime) -> None:
    for camera_id in what.camera_ids:
        add(db, Kind.DOWNLOADED, what.export_id, camera_id, what.span, what.what, now, what.detail)


def _due_to(db: sqlite3.Connection, most: int, before_us: int, at_last_us: int) -> int | None:
    """Clocks grow, but for their jumps: a younger line among older ones goes along with them."""
    low = archived_to(db)[0] + 1
    at = (
        "SELECT no, at_us FROM ledger WHERE no >= ? AND no < (SELECT max(no) FROM ledger) ORDER BY no LIMIT 1"
    )
    full = db.execute(at, (low + most - 1,)).fetchone()
    if full is not None and full[1] < before_us:
        return int(full[0])
    first = db.execute(at, (low,)).fetchone()
    if first is None or first[1] >= at_last_us:
        return None
    old = """SELECT max(no) FROM ledger WHERE no >= ? AND no < ? AND no < (SELECT max(no) FROM ledger)
               AND at_us < ?"""
    last: int | None = db.execute(old, (low, low + most, before_us)).fetchone()[0]
    return last


def _archived(db: sqlite3.Connection, last: int, last_hash: bytes) -> None:
    _remember(db, CHAIN, _chain(db))  # line 1 may go now
    _remember(db, ARCHIVED, f"{last}:{last_hash.hex()}")


def _drop(db: sqlite3.Connection) -> bool:
    archived, _ = archived_to(db)
    removed = int(recalled(db, REMOVED) or 0)
    window = "SELECT max(no) FROM (SELECT no FROM ledger WHERE no > ? AND no <= ? ORDER BY no LIMIT ?)"
    up_to = db.execute(window, (removed, archived, SLICE)).fetchone()[0]
    if up_to is None:
        return False
    db.execute(f"DELETE FROM ledger WHERE no > ? AND no <= ? AND kind NOT IN {KEPT_SQL}", (removed, up_to))
    _remember(db, REMOVED, str(up_to))
    return True
