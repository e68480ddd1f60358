"""Reads and group commits on the one connection.

Writers hand in operations: functions of a sqlite3 connection. One task gathers what has queued up while
the last commit was on its way to the disk, runs it as one transaction, and answers every caller after
COMMIT, so that one fsync serves all. An operation that raises is undone alone (SAVEPOINT); an error of
the disk fails them all. There is no second connection: SQLite before 3.51.3 can lose a commit to a
checkpoint by another one.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cctv_storaged.errors import JournalBroken, JournalError, JournalFull
from cctv_storaged.journal.ballast import Ballast
from cctv_storaged.journal.connection import Connection
from cctv_storaged.journal.faults import concerns_the_journal, translated

log = logging.getLogger(__name__)

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

MAX_BATCH = 256
"""Operations in one transaction: more would make the first caller wait for the last."""


@dataclass(frozen=True, slots=True)
class _Pending:
    operation: Operation[Any]
    answer: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: object = None
    error: Exception | None = None


class Store:
    """The journal file: `read` and `write` for the room's own modules."""

    def __init__(self, connection: Connection, ballast: Ballast) -> None:
        self._connection = connection
        self._ballast = ballast
        self._queue: asyncio.Queue[_Pending | None] = asyncio.Queue()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._full = False
        self._writer = asyncio.create_task(self._write_batches(), name="journal writer")
        self.commits = 0

    @property
    def full(self) -> bool:
        """Whether the last commit found no room."""
        return self._full

    async def read(self, operation: Operation[T]) -> T:
        """The operation's result, between two commits. Raises JournalBroken (and what it raises itself)."""
        self._refuse_if_broken()
        try:
            return await self._connection.run(operation)
        except sqlite3.Error as exc:
            if not concerns_the_journal(exc):
                raise
            raise self._failed(translated(exc)) from exc

    async def write(self, operation: Operation[T]) -> T:
        """The operation's result, once it is on the disk.

        Raises JournalFull (nothing changed, try again), JournalBroken, and what the operation raises.
        """
        self._refuse_if_broken()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Pending(operation, answer))
        return await answer

    async def broken(self) -> None:
        """Waits until the journal cannot be trusted any more, then raises JournalBroken; for a task group."""
        await asyncio.shield(self._broken)

    async def close(self) -> None:
        """Finishes what is queued and folds the write-ahead log back into the file."""
        self._queue.put_nowait(None)
        await self._writer
        if not self._broken.done():
            self._broken.cancel()
            try:
                await self._connection.run(_finish)
            except sqlite3.Error as exc:
                log.warning("journal closed without a checkpoint: %s", exc)
        await self._connection.close()

    async def _write_batches(self) -> None:
        while batch := await self._next_batch():
            await self._commit(batch)

    async def _next_batch(self) -> list[_Pending]:
        """What has queued up, at least one; empty when the store closes."""
        first = await self._queue.get()
        if first is None:
            return []
        batch = [first]
        while len(batch) < MAX_BATCH and not self._queue.empty():
            another = self._queue.get_nowait()
            if another is None:
                self._queue.put_nowait(None)  # this batch first, then the end
                break
            batch.append(another)
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        operations = [pending.operation for pending in batch]
        try:
            self._refuse_if_broken()
            outcomes = await self._connection.run(lambda connection: _transaction(connection, operations))
        except sqlite3.Error as exc:
            self._fail(batch, self._failed(translated(exc)))
        except JournalBroken as exc:
            self._fail(batch, exc)
        else:
            self.commits += 1
            self._has_room()
            for pending, outcome in zip(batch, outcomes, strict=True):
                _answer(pending.answer, outcome)

    def _failed(self, error: JournalError) -> JournalError:
        if isinstance(error, JournalFull):
            if not self._full:
                log.error("%s", error)
            self._full = True
            self._ballast.release()
        elif not self._broken.done():
            log.critical("%s; the process must end", error)
            self._broken.set_exception(error)
        return error

    def _has_room(self) -> None:
        if self._full:
            log.info("journal has room again")
            self._full = False
        self._ballast.restore()

    def _fail(self, batch: list[_Pending], error: JournalError) -> None:
        for pending in batch:
            _answer(pending.answer, _Outcome(error=error))

    def _refuse_if_broken(self) -> None:
        if self._broken.done() and not self._broken.cancelled():
            raise JournalBroken(str(self._broken.exception()))


def _transaction(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[_Outcome]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_alone(connection, operation) for operation in operations]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _alone(connection: sqlite3.Connection, operation: Operation[Any]) -> _Outcome:
    """One operation inside the batch: what it raises undoes it and no other."""
    connection.execute("SAVEPOINT operation")
    try:
        outcome = _Outcome(value=operation(connection))
    except Exception as exc:  # the item boundary of the batch: the error goes to whoever handed the item in
        if concerns_the_journal(exc):
            raise
        connection.execute("ROLLBACK TO operation")
        outcome = _Outcome(error=exc)
    connection.execute("RELEASE operation")
    return outcome


def _answer(future: asyncio.Future[Any], outcome: _Outcome) -> None:
    if future.cancelled():
        return  # whoever asked has left; the commit stands
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.value)


def _finish(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('closed_cleanly', '1')")
    connection.execute("PRAGMA optimize")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
