"""Reads and group commits on the one connection.

Writers hand in operations: functions of a sqlite3 connection. One task gathers what has queued up while
the last commit was on its way to the disk, runs it as one transaction, and answers every caller after
COMMIT, so that one fsync serves all. An operation that raises is undone alone (SAVEPOINT); an error of
the disk fails them all. An operation may be run twice, so it does nothing but SQL.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cctv_storaged.errors import JournalBroken, JournalError, JournalFull
from cctv_storaged.journal.ballast import Ballast
from cctv_storaged.journal.connection import Connection, log_path, to_the_end
from cctv_storaged.journal.faults import concerns_the_journal, is_no_room, refused, translated
from cctv_storaged.journal.schema import say_closed, say_open
from cctv_storaged.journal.turns import Operation, Pending, Turns

log = logging.getLogger(__name__)

T = TypeVar("T")

LOG_BYTES = 3 * 2**20
"""A write-ahead log longer than this is folded into the file, once nobody waits for a commit."""
LONGEST_LOG_BYTES = 4 * 2**20
"""And one that is longer than this though somebody does: folding it takes some milliseconds already."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: object = None
    error: Exception | None = None


class Store:
    """The journal file: `read` and `write` for the room's own modules."""

    def __init__(self, connection: Connection, path: Path, ballast: Ballast) -> None:
        self._connection = connection
        self._log = log_path(path)
        self._ballast = ballast
        self._turns = Turns()
        self._closing = False
        self._error: JournalError | None = None  # set once, when the file cannot be trusted any more
        self._ended = asyncio.Event()
        self._full = False
        self._said_open = False  # whether the file says that a process is at work on it
        self._writer = asyncio.create_task(self._write_batches(), name="journal writer")
        self.commits = 0

    @property
    def full(self) -> bool:
        """Whether the last commit found no room."""
        return self._full

    async def read(self, operation: Operation[T]) -> T:
        """The operation's result, between two commits. Raises JournalBroken (and what it raises itself)."""
        self._refuse_if_over()
        try:
            return await self._connection.run(operation)
        except sqlite3.Error as exc:
            if not concerns_the_journal(exc):
                raise
            raise self._failed(translated(exc)) from exc

    async def write(self, operation: Operation[T], *, patient: bool = False) -> T:
        """The operation's result, once it is on the disk. Who is cancelled meanwhile may find it done.

        `patient`: a slice of long work, which lets others go before it (turns.py).

        Raises JournalFull (nothing changed, try again), JournalBroken, JournalError after `close`, and what
        the operation raises.
        """
        self._refuse_if_over()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._turns.add(Pending(operation, answer, patient))
        return await answer

    async def broken(self) -> None:
        """Waits for the day the journal cannot be trusted, then raises JournalBroken.

        Returns when it is closed before that. Whoever waits may be cancelled without harm.
        """
        await self._ended.wait()
        if self._error is not None:
            raise JournalBroken(str(self._error))

    async def close(self) -> None:
        """Finishes what is queued and folds the write-ahead log back into the file. Twice is once."""
        if not self._closing:
            self._closing = True
            self._turns.end()
            await to_the_end(self._finish())

    # Writing

    async def _write_batches(self) -> None:
        try:
            while batch := await self._turns.next_batch():
                await self._commit(batch)
                await self._keep_house()
        finally:
            if not self._closing:
                self._failed(JournalBroken("the journal's writer ended unasked"))
            error = self._error or JournalError("the journal was closed before this was written")
            for pending in self._turns.left():
                _refuse(pending, error)

    async def _commit(self, batch: list[Pending]) -> None:
        operations = [pending.operation for pending in batch]
        error: JournalError = JournalBroken("the journal's writer ended")
        try:
            outcomes = await self._attempt(operations)
            for pending, outcome in zip(batch, outcomes, strict=True):
                _answer(pending.answer, outcome)
        except sqlite3.Error as exc:
            error = self._failed(translated(exc))
        except JournalError as exc:
            error = exc
        finally:
            for pending in batch:
                _refuse(pending, error)

    async def _attempt(self, operations: list[Operation[Any]]) -> list[_Outcome]:
        """One transaction, and more of them as long as something can still make room for it."""
        if self._error is not None:
            raise JournalBroken(str(self._error))
        first = [] if self._said_open else [say_open]
        remedies = [self._fold, self._give_up_ballast]
        while True:
            try:
                outcomes = await self._connection.run(lambda db: _transaction(db, [*first, *operations]))
                break
            except sqlite3.Error as exc:
                if not is_no_room(exc) or not remedies:
                    raise
                await remedies.pop(0)()
        self.commits += 1
        if self._full:
            log.info("journal has room again")
            self._full = False
        return outcomes[len(first) :]

    async def _give_up_ballast(self) -> None:
        if self._ballast.release():
            await self._fold()

    async def _keep_house(self) -> None:
        """After the answers: a long log is folded in, and the ballast laid down where there is room."""
        if self._error is not None or self._full:
            return
        limit_bytes = LONGEST_LOG_BYTES if self._turns.hurried else LOG_BYTES
        if not self._said_open or self._log_bytes() > limit_bytes:
            self._said_open = True
            with contextlib.suppress(JournalBroken):  # the next caller is told, and whoever waits for it
                await self._fold()
        if self._ballast.wanted:
            await asyncio.to_thread(self._ballast.restore)

    async def _fold(self) -> None:
        """Takes the log into the file and gives its room back.

        Its errors matter though every commit stands: what missed the disk may be gone from memory.
        """
        try:
            await self._connection.run(_checkpoint)
        except sqlite3.Error as exc:
            if not is_no_room(exc):
                raise self._failed(translated(exc)) from exc
            log.debug("the write-ahead log stays long: %s", exc)

    def _log_bytes(self) -> int:
        try:
            return os.stat(self._log).st_size
        except FileNotFoundError:
            return 0

    # The end

    def _failed(self, error: JournalError) -> JournalError:
        if isinstance(error, JournalFull):
            if not self._full:
                log.error("%s", error)
            self._full = True
        elif self._error is None:
            log.critical("%s; the process must end", error)
            self._error = error
            self._ended.set()
        return error

    def _refuse_if_over(self) -> None:
        if self._error is not None:
            raise JournalBroken(str(self._error))
        if self._closing:
            raise JournalError("the journal is closed")

    async def _finish(self) -> None:
        await asyncio.wait([self._writer])
        in_order = False
        try:
            if self._error is None:
                await self._connection.run(_close_in_order)
                in_order = True
        except sqlite3.Error as exc:
            log.warning("journal closed without a checkpoint, the next start checks it: %s", exc)
        finally:
            await self._connection.close()
            if not in_order:
                self._leave_a_log()
            self._ended.set()

    def _leave_a_log(self) -> None:
        """SQLite has taken the log in and removed it; the next start would think that somebody else had."""
        with contextlib.suppress(OSError):
            self._log.touch()


def _transaction(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[_Outcome]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = _each(connection, operations) if len(operations) > 1 else _only(connection, *operations)
        if connection.in_transaction:
            connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _each(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[_Outcome]:
    """Operations side by side: what one raises undoes it and no other."""
    outcomes = []
    for operation in operations:
        connection.execute("SAVEPOINT operation")
        outcome = _tried(connection, operation)
        if outcome.error is not None:
            connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")
        outcomes.append(outcome)
    return outcomes


def _only(connection: sqlite3.Connection, operation: Operation[Any]) -> list[_Outcome]:
    """One that is alone needs no savepoint: what it raises undoes all there is."""
    outcome = _tried(connection, operation)
    if outcome.error is not None:
        connection.execute("ROLLBACK")
    return [outcome]


def _tried(connection: sqlite3.Connection, operation: Operation[Any]) -> _Outcome:
    try:
        return _Outcome(value=operation(connection))
    except Exception as exc:  # the item boundary of the batch: the error goes to whoever handed the item in
        if concerns_the_journal(exc):
            raise
        return _Outcome(error=refused(exc))


def _answer(future: asyncio.Future[Any], outcome: _Outcome) -> None:
    if future.done():
        return  # whoever asked has left; the commit stands
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.value)


def _refuse(pending: Pending, error: JournalError) -> None:
    """Each caller gets an error of its own: one object raised in many tasks would mix their tracebacks."""
    if not pending.answer.done():
        pending.answer.set_exception(type(error)(str(error)))


def _close_in_order(connection: sqlite3.Connection) -> None:
    say_closed(connection)
    _checkpoint(connection)


def _checkpoint(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
