"""Exports as jobs: asked for, worked on, ended; each step is a commit, so that a kill loses none.

A row's bytes go in two phases: `removal` says that they must go, and is settled once they are gone. Whoever
asks for a deletion sees the row no more from the first phase on.
"""

import json
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.errors import NotFound
from cctv_storaged.journal import ledger, outbox
from cctv_storaged.journal.copies import waiting_us
from cctv_storaged.journal.exportrows import (
    UNENDED,
    Export,
    ExportRequest,
    ExportResult,
    ExportStatus,
    export_from,
    request_text,
    result_text,
)
from cctv_storaged.journal.holds import holding_export, require_free_export
from cctv_storaged.journal.idempotency import RepeatKey, forget, made_by, remember
from cctv_storaged.journal.rows import text
from cctv_storaged.journal.store import Store

log = logging.getLogger(__name__)

_COLUMNS = """no, id, request, status, starts, progress, error, due_us, waiting_us, result, created_us,
    completed_us, expires_us, removal"""
_SEEN = "(removal IS NULL OR removal IN ('asked', 'done'))"
_NEWEST = 2**62
PUT_OFF = timedelta(days=1)
"""So long the day of an export that is held is put off at a time."""
PUT_OFF_AHEAD = timedelta(hours=1)
"""And so long before it comes: it is never to be seen as expired."""
EXPIRED_AT_ONCE = 200
RightFrom = Callable[[datetime], datetime | None]
"""When a clock came to be right that was behind as it stamped a moment; None: it was not."""


class Ending(StrEnum):
    """What a deletion has to do."""

    CANCEL = "cancel"  # it was not over yet
    FORGET = "forget"  # it was: its bytes go, and so does its row


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPage:
    """Exports newest first, and the number the next page goes on from (None: there is none)."""

    exports: tuple[Export, ...]
    next: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportNews:
    """The next exports to tell the catalog of."""

    changed: tuple[Export, ...]
    forgotten: tuple[UUID, ...]


class Exports:
    """The exports of this host."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Asking for one

    async def add(
        self, export_id: UUID, request: ExportRequest, most: int, repeat: RepeatKey | None, now: datetime
    ) -> Export | None:
        """Keeps a new export; the earlier one where its key was used before; None with `most` waiting.

        Raises Conflict for a key that was used with another body.
        """
        return await self._store.write(lambda db: _add(db, export_id, request, most, repeat, now))

    async def made_by(self, repeat: RepeatKey) -> Export | None:
        """The export that a key's first request made. Raises Conflict as `add` does."""
        return await self._store.read(lambda db: _made_by(db, repeat))

    # Looking

    async def by_id(self, export_id: UUID) -> Export | None:
        """One export, None where there is none, or none any more."""
        return await self._store.read(lambda db: _one(db, f"id = ? AND {_SEEN}", export_id.bytes))

    async def page(self, limit: int, after: int | None, status: ExportStatus | None) -> ExportPage:
        """Exports newest first, by keyset."""
        return await self._store.read(lambda db: _page(db, limit, after, status))

    async def unended_ids(self) -> frozenset[UUID]:
        """Those that are waiting or worked on."""
        query = f"SELECT id FROM export WHERE {UNENDED}"
        rows = await self._store.read(lambda db: db.execute(query).fetchall())
        return frozenset(UUID(bytes=row[0]) for row in rows)

    # Working

    async def due(self, now: datetime, but: Collection[UUID]) -> Export | None:
        """The longest waiting export that may be worked on now, besides those."""
        return await self._store.read(lambda db: _due(db, now, but))

    async def begin(self, export_id: UUID) -> Export | None:
        """Work begins, and is counted before anything is done; None where it is not wanted any more."""
        return await self._store.write(lambda db: _begin(db, export_id))

    async def lay_down(self, export_id: UUID) -> None:
        """Work ends in order, unfinished: the process stops. It goes on with the next start."""
        change = f"UPDATE export SET status = 'PENDING', starts = 0 WHERE id = ? AND {UNENDED}"
        await self._store.write(lambda db: db.execute(change, (export_id.bytes,)))

    async def wait(self, export_id: UUID, error: str, now: datetime, due: datetime) -> None:
        """It waits for something that is away, in order; `waiting_since` stays at the first wait."""
        await self._store.write(lambda db: _wait(db, export_id, error, now, due))

    async def advance(self, export_id: UUID, progress: float, *, step_done: bool = False) -> None:
        """How far it is, 0 to 1, never less than before; with a step done it waits for nothing any more."""
        change = f"""UPDATE export SET progress = max(progress, ?), error = NULL,
                       waiting_us = iif(?, NULL, waiting_us) WHERE id = ? AND {UNENDED}"""
        parameters = (float(progress), int(step_done), export_id.bytes)
        await self._store.write(lambda db: db.execute(change, parameters))

    async def complete(self, export_id: UUID, result: ExportResult, now: datetime, expires: datetime) -> bool:
        """Its file is where the result says; False where it was cancelled meanwhile."""
        return await self._store.write(lambda db: _complete(db, export_id, result, now, expires))

    async def fail(self, export_id: UUID, error: str, now: datetime) -> bool:
        """It came to nothing: what it left is to be removed. False where it was over already."""
        return await self._store.write(lambda db: _end(db, export_id, ExportStatus.FAILED, error, now))

    # Removing

    async def delete(self, export_id: UUID, now: datetime) -> tuple[Export, Ending]:
        """Cancels what is not over, or forgets what is; its bytes are to be removed.

        Raises NotFound, and Held where a hold needs what it made.
        """
        return await self._store.write(lambda db: _delete(db, export_id, now))

    async def expire(
        self, now: datetime, right_from: RightFrom = lambda moment: None, promised: timedelta = timedelta(0)
    ) -> list[Export]:
        """The bytes of those past their day are to be removed; those that came to be so now.

        What shows held footage, or belongs to a held case, has its day put off instead, again and again. What
        was completed while the clock was behind counts as completed when that came to be right (`right_from`
        knows): it may be had for as long as it was `promised`.
        """
        return await self._store.write(lambda db: _expire(db, now, right_from, promised))

    async def removals(self, limit: int, after: int = 0) -> list[Export]:
        """Those whose bytes are to be removed, in the order of their numbers, which `after` goes on from."""
        where = "removal IN ('asked', 'forget') AND no > ? ORDER BY no LIMIT ?"
        return await self._store.read(lambda db: _select(db, where, after, limit))

    async def removed(self, export_id: UUID) -> None:
        """No byte of it is left; a row that nobody wants goes as well, once the catalog is told."""
        await self._store.write(lambda db: _removed(db, export_id))

    # Telling the catalog

    async def news(self, limit: int) -> ExportNews:
        """What the catalog does not know yet."""
        return await self._store.read(lambda db: _news(db, limit))

    async def told(self, news: ExportNews) -> None:
        """The catalog knows; what changed meanwhile stays to be told."""
        await self._store.write(lambda db: _told(db, news))


def _select(db: sqlite3.Connection, where: str, *parameters: object) -> list[Export]:
    return list(_readable(db, where, *parameters))


def _one(db: sqlite3.Connection, where: str, *parameters: object) -> Export | None:
    return next(_readable(db, where, *parameters), None)


def _readable(db: sqlite3.Connection, where: str, *parameters: object) -> Iterator[Export]:
    """Rows as exports; one whose JSON a damaged disk or a salvage left unreadable holds up no other."""
    for row in db.execute(f"SELECT {_COLUMNS} FROM export WHERE {where}", parameters):
        try:
            yield export_from(row)
        except (ValueError, KeyError, TypeError, OverflowError) as exc:
            log.error("export number %s in the journal cannot be read and is left alone: %s", row[0], exc)


def _made_by(db: sqlite3.Connection, repeat: RepeatKey) -> Export | None:
    made = made_by(db, repeat.route, repeat.key, repeat.request)
    return None if made is None else _one(db, f"id = ? AND {_SEEN}", UUID(made).bytes)


def _add(
    db: sqlite3.Connection,
    export_id: UUID,
    request: ExportRequest,
    most: int,
    repeat: RepeatKey | None,
    now: datetime,
) -> Export | None:
    if repeat is not None and (earlier := _made_by(db, repeat)) is not None:
        return earlier
    waiting = db.execute("SELECT count(*) FROM export WHERE status = 'PENDING'").fetchone()[0]
    if waiting >= most:
        return None
    db.execute(
        "INSERT INTO export (id, request, created_us) VALUES (?, ?, ?)",
        (export_id.bytes, request_text(request), to_us(now)),
    )
    if repeat is not None:
        forget(db, repeat.route, repeat.key)  # an earlier one may have been deleted since
        remember(db, repeat.route, repeat.key, repeat.request, str(export_id), now)
    return _one(db, "id = ?", export_id.bytes)


def _page(db: sqlite3.Connection, limit: int, after: int | None, status: ExportStatus | None) -> ExportPage:
    below = _NEWEST if after is None else after
    where = f"no < ? AND {_SEEN}" + ("" if status is None else " AND status = ?")
    parameters = (below,) if status is None else (below, str(status))
    found = list(islice(_readable(db, f"{where} ORDER BY no DESC", *parameters), limit + 1))
    shown = tuple(found[:limit])
    return ExportPage(exports=shown, next=shown[-1].no if len(found) > limit else None)


def completed(db: sqlite3.Connection, limit: int, after: int) -> list[Export]:
    """Those whose files are to be had, in the order of their numbers."""
    where = "status = 'COMPLETED' AND removal IS NULL AND no > ? ORDER BY no LIMIT ?"
    return _select(db, where, after, limit)


def _due(db: sqlite3.Connection, now: datetime, but: Collection[UUID]) -> Export | None:
    marks = ", ".join("?" * len(but))
    where = f"{UNENDED} AND due_us NOT BETWEEN ? AND ? AND id NOT IN ({marks}) ORDER BY no"
    return _one(db, where, *waiting_us(now), *(each.bytes for each in but))


def _begin(db: sqlite3.Connection, export_id: UUID) -> Export | None:
    change = f"UPDATE export SET status = 'PROCESSING', starts = starts + 1 WHERE id = ? AND {UNENDED}"
    if db.execute(change, (export_id.bytes,)).rowcount == 0:
        return None
    return _one(db, "id = ?", export_id.bytes)


def _wait(db: sqlite3.Connection, export_id: UUID, error: str, now: datetime, due: datetime) -> None:
    db.execute(
        f"""UPDATE export SET status = 'PENDING', starts = 0, error = ?, due_us = ?,
                              waiting_us = coalesce(waiting_us, ?)
             WHERE id = ? AND {UNENDED}""",
        (text(error), to_us(due), to_us(now), export_id.bytes),
    )


def _complete(
    db: sqlite3.Connection, export_id: UUID, result: ExportResult, now: datetime, expires: datetime
) -> bool:
    changed = db.execute(
        f"""UPDATE export SET status = 'COMPLETED', progress = 1, error = NULL, waiting_us = NULL, result = ?,
                              completed_us = ?, expires_us = ?
             WHERE id = ? AND {UNENDED}""",
        (result_text(result), to_us(now), to_us(expires), export_id.bytes),
    )
    if changed.rowcount == 1 and (export := _one(db, "id = ?", export_id.bytes)) is not None:
        _enter(db, export, result, now)
    return changed.rowcount == 1


def _enter(db: sqlite3.Connection, export: Export, result: ExportResult, now: datetime) -> None:
    """The ledger's lines, one for each camera."""
    request = export.request
    facts = {
        "by": request.created_by,
        "case_id": request.case_id,
        "sha256": result.sha256,
        "size_bytes": result.size_bytes,
    }
    detail = json.dumps(facts)
    for camera_id in request.camera_ids:
        ledger.add(db, ledger.Kind.EXPORTED, export.id, camera_id, request.span, request.package, now, detail)


def _end(
    db: sqlite3.Connection, export_id: UUID, status: ExportStatus, error: str | None, now: datetime
) -> bool:
    changed = db.execute(
        f"""UPDATE export SET status = ?, error = ?, completed_us = ?, removal = 'asked'
             WHERE id = ? AND {UNENDED}""",
        (str(status), None if error is None else text(error), to_us(now), export_id.bytes),
    )
    return changed.rowcount == 1


def _expire(
    db: sqlite3.Connection, now: datetime, right_from: RightFrom, promised: timedelta
) -> list[Export]:
    due = "status = 'COMPLETED' AND removal IS NULL AND expires_us <= ? ORDER BY expires_us LIMIT ?"
    past = []
    for export in _select(db, due, to_us(now + PUT_OFF_AHEAD), EXPIRED_AT_ONCE):
        if holding_export(db, export.request):
            change = "UPDATE export SET expires_us = ? WHERE no = ?"
            db.execute(change, (to_us(now + PUT_OFF), export.no))
        elif (day := _day_anew(export, now, right_from, promised)) is not None:
            db.execute("UPDATE export SET expires_us = ? WHERE no = ?", (to_us(day), export.no))
        elif export.expired(now):
            db.execute("UPDATE export SET removal = 'asked' WHERE no = ?", (export.no,))
            past.append(export)
    return past


def _day_anew(export: Export, now: datetime, right_from: RightFrom, promised: timedelta) -> datetime | None:
    """Its last day, counted from the moment at which a clock that was behind became right.

    None: a clock that was right has set its day, or that one is past as well.
    """
    completed, expires = export.completed_at, export.expires_at
    right = None if completed is None else right_from(completed)
    if completed is None or expires is None or right is None or expires >= right:
        return None
    day = right + min(expires - completed, promised)
    return day if day > now else None


def _delete(db: sqlite3.Connection, export_id: UUID, now: datetime) -> tuple[Export, Ending]:
    export = _one(db, f"id = ? AND {_SEEN}", export_id.bytes)
    if export is None:
        raise NotFound(f"no export {export_id} on this host")
    if _end(db, export_id, ExportStatus.CANCELLED, None, now):
        return export, Ending.CANCEL
    if export.status is ExportStatus.COMPLETED and export.removal is None:
        require_free_export(db, export.id, export.request)
    db.execute("UPDATE export SET removal = 'forget' WHERE id = ?", (export_id.bytes,))
    return export, Ending.FORGET


def _removed(db: sqlite3.Connection, export_id: UUID) -> None:
    db.execute("UPDATE export SET removal = 'done' WHERE id = ? AND removal = 'asked'", (export_id.bytes,))
    told = db.execute("SELECT 1 FROM meta WHERE key = ?", (outbox.TOLD,)).fetchone()
    if told is None:  # where there never was a catalog nobody waits for word of it
        db.execute("DELETE FROM export WHERE id = ? AND removal = 'forget'", (export_id.bytes,))
    else:
        change = "UPDATE export SET removal = 'forgotten' WHERE id = ? AND removal = 'forget'"
        db.execute(change, (export_id.bytes,))


def _news(db: sqlite3.Connection, limit: int) -> ExportNews:
    rows = _select(db, "catalogued = 0 AND removal IS NOT 'forget' ORDER BY no LIMIT ?", limit)
    return ExportNews(
        changed=tuple(each for each in rows if each.removal != "forgotten"),
        forgotten=tuple(each.id for each in rows if each.removal == "forgotten"),
    )


def _told(db: sqlite3.Connection, news: ExportNews) -> None:
    for export in news.changed:
        now = _one(db, "id = ?", export.id.bytes)
        if now is not None and _as_told(now) == _as_told(export):
            db.execute("UPDATE export SET catalogued = 1 WHERE id = ?", (export.id.bytes,))
    for export_id in news.forgotten:
        db.execute("DELETE FROM export WHERE id = ? AND removal = 'forgotten'", (export_id.bytes,))


def _as_told(export: Export) -> Sequence[object]:
    return (export.status, export.result, export.completed_at, export.expires_at, export.removal)
