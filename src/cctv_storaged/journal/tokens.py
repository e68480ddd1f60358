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
    cameras: frozenset[UUID] | None = None  # None: all
    expires_at: datetime | None = None
    used_at: datetime | None = None  # to some minutes
    used_from: str | None = None

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


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
            None if token.cameras is None else " ".join(sorted(each.hex for each in token.cameras)),
            None if token.expires_at is None else to_us(token.expires_at),
        )
        insert = """INSERT INTO token (id, name, hash, scopes, created_us, cameras, expires_us)
                    VALUES (?, ?, ?, ?, ?, ?, ?)"""
        await self._store.write(lambda db: db.execute(insert, row))

    async def used(self, token_id: UUID, at: datetime, address: str | None) -> None:
        """Its last use, for whoever asks which tokens nobody needs any more."""
        row = (to_us(at), None if address is None else text(address), token_id.bytes)
        change = "UPDATE token SET used_us = ?, used_from = ? WHERE id = ?"
        await self._store.write(lambda db: db.execute(change, row))

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
    columns = "id, name, scopes, created_us, cameras, expires_us, used_us, used_from"
    return [_token(*row) for row in db.execute(f"SELECT {columns} FROM token {clause}", parameters)]


def _token(
    token_id: bytes,
    name: str,
    scopes: str,
    created_us: int,
    cameras: str | None,
    expires_us: int | None,
    used_us: int | None,
    used_from: str | None,
) -> Token:
    return Token(
        id=UUID(bytes=token_id),
        name=name,
        scopes=frozenset(scopes.split()),
        created_at=from_us(created_us),
        cameras=None if cameras is None else frozenset(map(UUID, cameras.split())),
        expires_at=None if expires_us is None else from_us(expires_us),
        used_at=None if used_us is None else from_us(used_us),
        used_from=used_from,
    )
