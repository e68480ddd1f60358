"""Idempotency keys: what the first request with a key made, so that its repetition makes nothing new."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from cctv_storaged.clock import to_us
from cctv_storaged.errors import Conflict
from cctv_storaged.journal.rows import text
from cctv_storaged.journal.store import Store

KEPT = timedelta(days=1)
"""A client that repeats a request later than this has made a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatKey:
    """An Idempotency-Key with the request that it stands for."""

    route: str
    key: str
    request: bytes  # SHA-256 of the body


class IdempotencyKeys:
    """Keys of the last day."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def made_by(self, route: str, key: str, request: bytes) -> str | None:
        """Id of what the key's first request made; None for a new key. Conflict if it was another request."""
        return await self._store.read(lambda db: made_by(db, route, key, request))

    async def remember(self, route: str, key: str, request: bytes, made: str, now: datetime) -> None:
        """Keeps the key, and forgets those past their day."""
        await self._store.write(lambda db: remember(db, route, key, request, made, now))


def made_by(db: sqlite3.Connection, route: str, key: str, request: bytes) -> str | None:
    """As the method of this name, inside another commit."""
    query = "SELECT request, made FROM idempotency WHERE route = ? AND key = ?"
    row = db.execute(query, (route, text(key))).fetchone()
    if row is None:
        return None
    if row[0] != request:
        raise Conflict(f"Idempotency-Key {key!r} was used with another body; take a new key")
    return str(row[1])


def remember(db: sqlite3.Connection, route: str, key: str, request: bytes, made: str, now: datetime) -> None:
    """As the method of this name, inside another commit."""
    db.execute("DELETE FROM idempotency WHERE at_us < ?", (to_us(now - KEPT),))
    db.execute(
        "INSERT OR IGNORE INTO idempotency VALUES (?, ?, ?, ?, ?)",
        (route, text(key), request, made, to_us(now)),
    )


def forget(db: sqlite3.Connection, route: str, key: str) -> None:
    """The key is free again."""
    db.execute("DELETE FROM idempotency WHERE route = ? AND key = ?", (route, text(key)))
