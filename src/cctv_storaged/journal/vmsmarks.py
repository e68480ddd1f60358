"""Bookmarks and evidence locks that holds have in XProtect: wanted → placed → removing → forgotten.

A mark is written down before it is asked for, and `asked` counts the times: where an answer was lost, its id
in the mark's reference tells whose it is. What was placed and removed is in the ledger; a removed mark has no
row any more. One hold has the marks of a camera and kind without a break, so that a first and a last one tell
how far it is marked; where the camera is another one in XProtect, they begin anew there. Every operation is
about one hold, or a slice of one.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal import ledger
from cctv_storaged.journal.rows import text
from cctv_storaged.journal.store import Store
from cctv_storaged.model import NAMESPACE, TimeSpan

SLICE = 100
"""Marks or cameras in one commit."""
EXTEND = timedelta(days=1)
"""How long a hold that goes on is left before its marks are."""
LONGEST_WAIT = timedelta(hours=2)
"""Nobody postpones by as much. What is due later than that was put off by a clock that was set back since."""
_CAUSE = "vms_{}"


class MarkKind(StrEnum):
    """What a mark is in XProtect."""

    BOOKMARK = "bookmark"
    EVIDENCE_LOCK = "evidence_lock"


class MarkState(StrEnum):
    """How far a mark is."""

    WANTED = "wanted"
    PLACED = "placed"
    UNSUPPORTED = "unsupported"  # edition or version do not offer it
    REMOVING = "removing"


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsMark:
    """A mark and what there is to say on it."""

    id: UUID  # ours, and in the mark's reference
    hold_id: UUID
    camera_id: UUID  # ours
    device: UUID | None  # XProtect's camera that it is for
    kind: MarkKind
    span: TimeSpan
    state: MarkState
    remote_id: UUID | None
    asked: int
    case_id: str | None  # the hold's, as the three below
    reason: str
    created_by: str | None
    in_force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkCounts:
    """The marks of one hold."""

    bookmarks: int = 0  # placed
    locks: int = 0  # placed
    waiting: int = 0  # to be placed, or to be removed
    unsupported: int = 0
    refusal: str | None = None  # of one that waits: why it was put off; None: none was

    @property
    def any(self) -> bool:
        return bool(self.bookmarks or self.locks or self.waiting or self.unsupported)


class VmsMarks:
    """The marks of this host's holds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def plan(
        self, hold_no: int, devices: Mapping[UUID, UUID], kinds: Collection[MarkKind], now: datetime
    ) -> int:
        """Writes down the marks that a hold lacks on these cameras (at most SLICE); how many.

        `devices`: our camera → XProtect's. From its first footage to its end or now: the part that is missing
        before, and the one behind where the hold is over or the last mark ended a day ago. A hold that is
        released gets none.
        """
        return await self._store.write(lambda db: _plan(db, hold_no, devices, kinds, to_us(now)))

    async def settle(
        self, after: UUID | None, reopen: Collection[MarkKind], now: datetime, *, all_known: bool = True
    ) -> UUID | None:
        """The marks of the next hold behind `after`, by whether it is in force; that hold, None: the last.

        Of a released one everything is to be removed, and of one that the journal does not have where it has
        all in force (`all_known`); in one in force, what was unsupported and is among `reopen` is wanted
        again. The same `after` comes back where the hold needs another slice.
        """
        return await self._store.write(lambda db: _settle(db, after, reopen, to_us(now), all_known=all_known))

    async def due(self, now: datetime, limit: int) -> list[VmsMark]:
        """Marks to be placed or removed now, longest due first; of the same time what protects.

        What is due beyond LONGEST_WAIT is due now, after them.
        """
        return await self._store.read(lambda db: _due(db, now, limit))

    async def asking(self, mark_id: UUID) -> bool:
        """It is about to be asked for. False: it is not wanted any more."""
        change = """UPDATE vms_mark SET asked = asked + 1 WHERE id = ? AND state = 'wanted'
                       AND EXISTS (SELECT 1 FROM hold h WHERE h.id = hold_id AND h.released_us IS NULL)"""
        return await self._store.write(lambda db: db.execute(change, (mark_id.bytes,)).rowcount == 1)

    async def not_made(self, mark_id: UUID) -> None:
        """XProtect answered that it has not made what it was asked for."""
        change = "UPDATE vms_mark SET asked = asked - 1 WHERE id = ? AND asked > 0"
        await self._store.write(lambda db: db.execute(change, (mark_id.bytes,)))

    async def placed(self, mark: VmsMark, remote_id: UUID, now: datetime) -> None:
        """XProtect has it, under this id; in the ledger too."""
        await self._store.write(lambda db: _placed(db, mark, remote_id, now))

    async def removed(self, mark: VmsMark, detail: str, now: datetime) -> None:
        """XProtect has it no more, or nobody can tell; in the ledger, and forgotten here."""
        await self._store.write(lambda db: _removed(db, mark, detail, now))

    async def elsewhere(self, mark_id: UUID, now: datetime) -> None:
        """One that is wanted is for a camera of XProtect that stands for ours no more: it has no use there.

        It is forgotten; where an answer may have been lost, it is to be removed.
        """
        where = "id = ? AND state = 'wanted'"
        await self._store.write(lambda db: _give_up(db, to_us(now), where, mark_id.bytes))

    async def postpone(self, mark_id: UUID, error: str, due: datetime) -> None:
        """It could not be placed or removed."""
        change = "UPDATE vms_mark SET error = ?, due_us = ? WHERE id = ?"
        await self._store.write(lambda db: db.execute(change, (text(error), to_us(due), mark_id.bytes)))

    async def unsupported(self, mark: VmsMark, error: str, now: datetime) -> None:
        """XProtect offers none of its kind."""
        change = """UPDATE vms_mark SET state = 'unsupported', error = ?, at_us = ?
                     WHERE id = ? AND state = 'wanted'"""
        parameters = (text(error), to_us(now), mark.id.bytes)
        await self._store.write(lambda db: db.execute(change, parameters))

    async def counts(self, hold_id: UUID) -> MarkCounts:
        """The marks of one hold."""
        return await self._store.read(lambda db: _counts(db, hold_id))


@dataclass(frozen=True, slots=True)
class _Series:
    """What one hold has of one kind on one camera, as XProtect has it."""

    hold_id: UUID
    camera_id: UUID
    device: UUID
    kind: MarkKind

    def mark_id(self, start_us: int) -> UUID:
        """It follows from what is marked: planned twice it is the same."""
        name = f"vms_mark {self.hold_id} {self.camera_id} {self.device} {self.kind} {start_us}"
        return uuid5(NAMESPACE, name)

    @property
    def key(self) -> tuple[bytes, str, bytes, bytes]:
        return self.hold_id.bytes, self.kind, self.camera_id.bytes, self.device.bytes


def _plan(
    db: sqlite3.Connection,
    hold_no: int,
    devices: Mapping[UUID, UUID],
    kinds: Collection[MarkKind],
    now_us: int,
) -> int:
    hold = db.execute(
        "SELECT id, start_us, end_us FROM hold WHERE no = ? AND released_us IS NULL", (hold_no,)
    ).fetchone()
    if hold is None:
        return 0
    hold_id, start_us, end_us = UUID(bytes=hold[0]), int(hold[1]), int(hold[2])
    added = 0
    for camera_id, device in devices.items():
        first_us = _first_footage(db, hold_no, camera_id, start_us)
        wish = (max(start_us, first_us), min(end_us, now_us)) if first_us is not None else (0, 0)
        for kind in kinds:
            series = _Series(hold_id, camera_id, device, kind)
            for span in _missing(db, series, wish, over=end_us <= now_us):
                added += _want(db, series, span, now_us)
    return added


def _first_footage(db: sqlite3.Connection, hold_no: int, camera_id: UUID, start_us: int) -> int | None:
    """Where the camera's footage that the hold may be about begins; None: the hold is not on the camera."""
    row = db.execute(
        """SELECT c.no, c.longest_us FROM camera c JOIN hold_camera hc ON hc.camera_no = c.no
            WHERE c.id = ? AND hc.hold_no = ?""",
        (camera_id.bytes, hold_no),
    ).fetchone()
    if row is None:
        return None
    query = "SELECT min(start_us) FROM segment WHERE camera_no = ? AND start_us > ?"
    found = db.execute(query, (row[0], start_us - row[1])).fetchone()[0]
    return None if found is None else int(found)


def _missing(
    db: sqlite3.Connection, series: _Series, wish: tuple[int, int], *, over: bool
) -> list[tuple[int, int]]:
    start_us, end_us = wish
    if end_us <= start_us:
        return []
    query = """SELECT start_us, end_us FROM vms_mark
                WHERE hold_id = ? AND kind = ? AND camera_id = ? AND device = ? AND state <> 'removing'
                ORDER BY start_us {} LIMIT 1"""
    first = db.execute(query.format("ASC"), series.key).fetchone()
    if first is None:
        return [(start_us, end_us)]
    last = db.execute(query.format("DESC"), series.key).fetchone()
    spans = [(start_us, first[0])] if start_us < first[0] else []
    enough = EXTEND // timedelta(microseconds=1)
    if end_us > last[1] and (over or end_us - last[1] >= enough):
        spans.append((last[1], end_us))
    return spans


def _want(db: sqlite3.Connection, series: _Series, span: tuple[int, int], now_us: int) -> int:
    return db.execute(
        """INSERT OR IGNORE INTO vms_mark (id, hold_id, kind, camera_id, device, start_us, end_us, at_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (series.mark_id(span[0]).bytes, *series.key, *span, now_us),
    ).rowcount


def _settle(
    db: sqlite3.Connection,
    after: UUID | None,
    reopen: Collection[MarkKind],
    now_us: int,
    *,
    all_known: bool,
) -> UUID | None:
    before = b"" if after is None else after.bytes
    hold_id = db.execute("SELECT min(hold_id) FROM vms_mark WHERE hold_id > ?", (before,)).fetchone()[0]
    if hold_id is None:
        return None
    row = db.execute("SELECT released_us IS NULL FROM hold WHERE id = ?", (hold_id,)).fetchone()
    if row is not None and row[0]:
        changed = sum(_reopen(db, hold_id, kind, now_us) for kind in reopen)
    elif row is not None or all_known:
        changed = _release(db, hold_id, now_us)
    else:
        changed = 0
    if changed >= SLICE and after is None:
        return UUID(int=0)  # no hold has it: begin with the first again
    return after if changed >= SLICE else UUID(bytes=hold_id)


def _reopen(db: sqlite3.Connection, hold_id: bytes, kind: MarkKind, now_us: int) -> int:
    return db.execute(
        """UPDATE vms_mark SET state = 'wanted', error = NULL, due_us = 0, at_us = ? WHERE id IN (
               SELECT id FROM vms_mark WHERE hold_id = ? AND kind = ? AND state = 'unsupported' LIMIT ?)""",
        (now_us, hold_id, kind, SLICE),
    ).rowcount


def _release(db: sqlite3.Connection, hold_id: bytes, now_us: int) -> int:
    return _give_up(db, now_us, "hold_id = ? AND state <> 'removing'", hold_id)


def _give_up(db: sqlite3.Connection, now_us: int, where: str, *parameters: object) -> int:
    """What was never asked for has nothing to be removed."""
    rows = db.execute(
        f"""SELECT id, state IN ('wanted', 'unsupported') AND asked = 0 FROM vms_mark
             WHERE {where} LIMIT ?""",
        (*parameters, SLICE),
    ).fetchall()
    db.executemany("DELETE FROM vms_mark WHERE id = ?", [(id_,) for id_, never in rows if never])
    db.executemany(
        "UPDATE vms_mark SET state = 'removing', error = NULL, due_us = 0, at_us = ? WHERE id = ?",
        [(now_us, id_) for id_, never in rows if not never],
    )
    return len(rows)


def _placed(db: sqlite3.Connection, mark: VmsMark, remote_id: UUID, now: datetime) -> None:
    changed = db.execute(
        """UPDATE vms_mark SET state = 'placed', remote_id = ?, error = NULL, at_us = ?
            WHERE id = ? AND state = 'wanted'""",
        (str(remote_id), to_us(now), mark.id.bytes),
    ).rowcount
    if changed:
        detail = f"placed as {remote_id}, reference {mark.id}"
        if mark.asked:
            detail += "; it was asked for before without an answer"
        _note(db, mark, detail, now)


def _removed(db: sqlite3.Connection, mark: VmsMark, detail: str, now: datetime) -> None:
    if db.execute("DELETE FROM vms_mark WHERE id = ?", (mark.id.bytes,)).rowcount:
        _note(db, mark, detail, now)


def _note(db: sqlite3.Connection, mark: VmsMark, detail: str, now: datetime) -> None:
    cause = _CAUSE.format(mark.kind)
    ledger.add(db, ledger.Kind.NOTED, mark.hold_id, mark.camera_id, mark.span, cause, now, detail)


def _due(db: sqlite3.Connection, now: datetime, limit: int) -> list[VmsMark]:
    found: list[VmsMark] = []
    for bound, moment in (("<=", now), (">", now + LONGEST_WAIT)):
        where = f"""m.state IN ('wanted', 'removing') AND m.due_us {bound} ?
                    ORDER BY m.due_us, m.kind DESC LIMIT ?"""
        found += _select(db, where, to_us(moment), limit - len(found))
    return found


def _counts(db: sqlite3.Connection, hold_id: UUID) -> MarkCounts:
    query = "SELECT kind, state, count(*) FROM vms_mark WHERE hold_id = ? GROUP BY kind, state"
    of = {(kind, state): int(count) for kind, state, count in db.execute(query, (hold_id.bytes,))}
    in_state = {state: sum(count for (_, each), count in of.items() if each == state) for state in MarkState}
    waits = """SELECT error FROM vms_mark INDEXED BY vms_mark_by_state WHERE hold_id = ?
                AND kind IN ('bookmark', 'evidence_lock') AND state IN ('wanted', 'removing')
                AND error IS NOT NULL LIMIT 1"""
    refusal = db.execute(waits, (hold_id.bytes,)).fetchone()
    return MarkCounts(
        bookmarks=of.get((MarkKind.BOOKMARK, MarkState.PLACED), 0),
        locks=of.get((MarkKind.EVIDENCE_LOCK, MarkState.PLACED), 0),
        waiting=in_state[MarkState.WANTED] + in_state[MarkState.REMOVING],
        unsupported=in_state[MarkState.UNSUPPORTED],
        refusal=None if refusal is None else str(refusal[0]),
    )


def _select(db: sqlite3.Connection, where: str, *parameters: object) -> list[VmsMark]:
    rows = db.execute(
        f"""SELECT m.id, m.hold_id, m.camera_id, m.kind, m.start_us, m.end_us, m.state, m.remote_id, m.asked,
                   m.device, h.case_id, h.reason, h.created_by, h.no IS NOT NULL AND h.released_us IS NULL
              FROM vms_mark m LEFT JOIN hold h ON h.id = m.hold_id WHERE {where}""",
        parameters,
    )
    return [_mark(row) for row in rows]


def _mark(row: Sequence[object]) -> VmsMark:
    id_, hold_id, camera_id, kind, start_us, end_us, state, remote_id, asked, device = row[:10]
    case_id, reason, created_by, in_force = row[10:]
    assert isinstance(id_, bytes) and isinstance(hold_id, bytes) and isinstance(camera_id, bytes)
    assert isinstance(start_us, int) and isinstance(end_us, int) and isinstance(asked, int)
    return VmsMark(
        id=UUID(bytes=id_),
        hold_id=UUID(bytes=hold_id),
        camera_id=UUID(bytes=camera_id),
        device=UUID(bytes=device) if isinstance(device, bytes) else None,
        kind=MarkKind(str(kind)),
        span=TimeSpan(from_us(start_us), from_us(end_us)),
        state=MarkState(str(state)),
        remote_id=None if remote_id is None else UUID(str(remote_id)),
        asked=asked,
        case_id=None if case_id is None else str(case_id),
        reason="" if reason is None else str(reason),
        created_by=None if created_by is None else str(created_by),
        in_force=bool(in_force),
    )
