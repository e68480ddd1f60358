"""The journal: one SQLite file, the truth about this host's segments, in the parts its users need.

It does not know networks, ffmpeg, or what a backend's name means. docs/design/journal.md tells the order
in which things become true.
"""

import asyncio
import fcntl
import os
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Self

from cctv_storaged.errors import JournalBroken, JournalFull
from cctv_storaged.journal.adoption import Adoption
from cctv_storaged.journal.ballast import Ballast
from cctv_storaged.journal.cameras import Cameras
from cctv_storaged.journal.capacity import CapacityRows
from cctv_storaged.journal.clocks import ClockBook
from cctv_storaged.journal.connection import Connection
from cctv_storaged.journal.copies import Copies
from cctv_storaged.journal.deletions import Deletions
from cctv_storaged.journal.exports import Exports
from cctv_storaged.journal.gaps import Gaps
from cctv_storaged.journal.heldback import HeldBack
from cctv_storaged.journal.heldlosses import HeldLosses
from cctv_storaged.journal.holdmarks import HoldMarks
from cctv_storaged.journal.holds import Holds
from cctv_storaged.journal.hostname import pinned_host
from cctv_storaged.journal.idempotency import IdempotencyKeys
from cctv_storaged.journal.ledger import Ledger
from cctv_storaged.journal.ledgeraudit import AuditLines
from cctv_storaged.journal.ledgerlines import LedgerLines
from cctv_storaged.journal.listing import Listing
from cctv_storaged.journal.material import Material
from cctv_storaged.journal.opening import Opening, prepare
from cctv_storaged.journal.outbox import Outbox
from cctv_storaged.journal.places import PlaceBook
from cctv_storaged.journal.playback import Playback
from cctv_storaged.journal.readbacks import ReadBacks
from cctv_storaged.journal.reconcile import Reconciliation
from cctv_storaged.journal.replayable import Replayable
from cctv_storaged.journal.reports import Reports
from cctv_storaged.journal.requiring import Requirement
from cctv_storaged.journal.retention import Retentions
from cctv_storaged.journal.retrievals import Retrievals
from cctv_storaged.journal.scrubbed import Scrubbed
from cctv_storaged.journal.segments import Segments
from cctv_storaged.journal.sources import Sources
from cctv_storaged.journal.store import Store
from cctv_storaged.journal.tokens import Tokens
from cctv_storaged.journal.vmsmarks import VmsMarks
from cctv_storaged.journal.vouchdays import VouchDays
from cctv_storaged.journal.vouchdue import VouchDue
from cctv_storaged.journal.vouched import Vouched
from cctv_storaged.journal.watched import Watched
from cctv_storaged.journal.watchrows import WatchRows

FILE_NAME = "journal.db"


class Journal:
    """The open journal; `async with await Journal.open(...)`."""

    def __init__(self, store: Store, host_id: str, opening: Opening, lock: int) -> None:
        self._store = store
        self._lock: int | None = lock
        self.opening = opening
        self.host_id = host_id
        """The host whose footage this is (hostname.py): ids of cameras and segments follow from it."""
        self.segments = Segments(store, host_id)
        self.listing = Listing(store)
        self.playback = Playback(store)
        self.read_backs = ReadBacks(store)
        self.cameras = Cameras(store)
        self.copies = Copies(store)
        self.sources = Sources(store)
        self.capacity = CapacityRows(store)
        self.deletions = Deletions(store)
        self.retention = Retentions(store)
        self.ledger = Ledger(store)
        self.places = PlaceBook(store)
        self.clocks = ClockBook(store)
        self.ledger_lines = LedgerLines(store)
        self.audit_lines = AuditLines(store)
        self.gaps = Gaps(store)
        self.watched = Watched(store)
        self.watch_rows = WatchRows(store)
        self.reports = Reports(store)
        self.outbox = Outbox(store)
        self.tokens = Tokens(store)
        self.idempotency = IdempotencyKeys(store)
        self.exports = Exports(store)
        self.material = Material(store)
        self.holds = Holds(store)
        self.hold_marks = HoldMarks(store)
        self.held_losses = HeldLosses(store)
        self.vms_marks = VmsMarks(store)
        self.reconcile = Reconciliation(store)
        self.adoption = Adoption(store)
        self.held_back = HeldBack(store)
        self.scrubbed = Scrubbed(store)
        self.requirement = Requirement(store)
        self.vouched = Vouched(store)
        self.vouch_due = VouchDue(store)
        self.vouch_days = VouchDays(store)
        self.retrievals = Retrievals(store)

    @classmethod
    async def open(cls, folder: Path, host_id: str, now: datetime, *, reserve_bytes: int = 0) -> Self:
        """Opens, checks and if need be recovers `folder`/journal.db. Raises JournalBroken."""
        task = asyncio.ensure_future(cls._open(folder, host_id, now, reserve_bytes))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:  # the threads at work on the file cannot be: wait, and undo
            await asyncio.wait([task])
            if task.exception() is None:
                await task.result().close()
            raise

    @classmethod
    async def _open(cls, folder: Path, host_id: str, now: datetime, reserve_bytes: int) -> Self:
        lock = lock_folder(folder)
        try:
            path = folder / FILE_NAME
            ballast = _ballast(folder, reserve_bytes)
            opened, opening = await asyncio.to_thread(_prepared, path, now, ballast)
            pinned = await asyncio.to_thread(pinned_host, opened, host_id, now)
            connection = Connection(opened)
            await connection
        except BaseException:
            os.close(lock)
            raise
        return cls(Store(connection, path, ballast), pinned, opening, lock)

    def replayable(self, vms: str) -> Replayable:
        """What the VMS whose copies are called so may fetch from here."""
        return Replayable(self._store, vms)

    @property
    def full(self) -> bool:
        """Whether the last commit found no room on the disk."""
        return self._store.full

    async def broken(self) -> None:
        """Waits for the day the journal cannot be trusted, then raises JournalBroken."""
        await self._store.broken()

    async def alive(self) -> None:
        """Returns once the journal has answered a question; for the watchdog."""
        await self._store.read(lambda db: db.execute("SELECT 1").fetchone())

    async def close(self) -> None:
        """Commits what is queued, folds the log into the file, lets go of the folder."""
        try:
            await self._store.close()
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                os.close(lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _ballast(folder: Path, size_bytes: int) -> Ballast:
    try:
        return Ballast(folder / "journal.reserve", size_bytes)
    except OSError as exc:
        raise JournalBroken(f"data_dir {folder}: {exc}; check its permissions") from exc


def _prepared(path: Path, now: datetime, ballast: Ballast) -> tuple[sqlite3.Connection, Opening]:
    """Blocking. The ballast makes room where a new file has to be made on a full disk."""
    try:
        try:
            prepared = prepare(path, now)
        except JournalFull:
            if not ballast.release():
                raise
            prepared = prepare(path, now)
    except JournalFull as exc:  # before there is a journal nobody can wait for room
        raise JournalBroken(str(exc)) from exc
    ballast.restore()
    return prepared


def lock_folder(folder: Path) -> int:
    """Holds the folder for this process: two daemons on one journal would both believe they own it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise JournalBroken(
            f"data_dir {folder}: {exc.strerror}; create it or give this user the right to write"
        ) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise JournalBroken(f"data_dir {folder} is in use by another cctv-storaged; stop it first") from exc
    except OSError as exc:
        os.close(descriptor)
        raise JournalBroken(f"data_dir {folder} cannot be locked: {exc}; is it on a network disk?") from exc
    return descriptor
