"""API tokens: their hashes, never the tokens."""

import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us, to_us
from cctv_storaged.journal.rows import text
from cctv_storaged.journal.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token: enough to check it and to revoke it."""

    id: UUID
    name: str
    scopes: frozenset[str]
    created_at: datetime


class Tokens:
    """The tokens that open this host's API."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, token: Token, secret: str) -> None:
        """Keeps the SHA-256 of `secret`, which must be random (a salt would add nothing to 256 bits)."""
        row = (
            token.id.bytes,
            text(token.name),
            hashed(secret),
            text(" ".join(sorted(token.scopes))),
            to_us(token.created_at),
        )
        await self._store.write(lambda db: db.execute("INSERT INTO token VALUES (?, ?, ?, ?, ?)", row))

    async def find(self, secret: str) -> Token | None:
        """The token of this secret. Looked up by hash: a timing tells nothing about the secret."""
        found = await self._store.read(lambda db: _select(db, "WHERE hash = ?", hashed(secret)))
        return found[0] if found else None

    async def all(self) -> list[Token]:
        """Every token, oldest first."""
        return await self._store.read(lambda db: _select(db, "ORDER BY created_us, id"))

    async def revoke(self, token_id: UUID) -> bool:
        """Whether there was such a token."""
        return await self._store.write(
            lambda db: db.execute("DELETE FROM token WHERE id = ?", (token_id.bytes,)).rowcount == 1
        )


def hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


def _select(db: sqlite3.Connection, clause: str, *parameters: object) -> list[Token]:
    return [
        Token(id=UUID(bytes=id_), name=name, scopes=frozenset(scopes.split()), created_at=from_us(created))
        for id_, name, scopes, created in db.execute(
            f"SELECT id, name, scopes, created_us FROM token {clause}", parameters
        )
    ]
