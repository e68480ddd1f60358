"""Who may use the API: tokens and their scopes."""

import asyncio
import logging
import os
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.errors import Conflict, Fault, JournalFull, NotFound, Unprocessable
from cctv_storaged.journal.tokens import Token, Tokens, hashed

log = logging.getLogger(__name__)

PREFIX = "cctv_"
"""Makes a leaked token recognisable to secret scanners."""
ADMIN_FILE = "admin-token"
ASK_FILE = "make-admin-token"
"""A file of this name in data_dir asks the next start for another admin token: its owner owns all."""


USE_NOTED_EVERY = timedelta(minutes=5)
"""A token's last use is written down so often: a commit for each request would be one too many."""


class Scope(StrEnum):
    """What a token allows. ADMIN allows everything."""

    READ = "read"
    WRITE = "write"
    EXPORT = "export"
    HOLD = "hold"
    RELEASE = "release"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """A token that somebody wants."""

    name: str
    scopes: frozenset[Scope]
    cameras: frozenset[UUID] | None = None  # None: all, also those still to come
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token at the only moment its secret is known."""

    token: Token
    secret: str


class Access:
    """Checks and manages tokens. The few there are live in memory, by the hash of their secret."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._by_hash: dict[bytes, Token] = {}
        self._revoked: set[UUID] = set()  # since the start: one that was being looked up meanwhile, too
        self._revoking = asyncio.Lock()
        self._defined = False
        self._limited = False

    @property
    def any_defined(self) -> bool:
        """Whether there is any token at all."""
        return self._defined

    @property
    def any_limited(self) -> bool:
        """Whether there is any token that is limited to cameras."""
        return self._limited

    async def load(self) -> None:
        """Reads how things stand."""
        tokens = await self._tokens.all()
        self._defined = bool(tokens)
        self._limited = any(token.cameras is not None for token in tokens)

    async def token_of(self, secret: str, address: str | None = None) -> Token | None:
        """The token of a secret, None for one that is wrong or past its day. Compared by hash, so timing
        tells nothing. `address`: where it is used from.
        """
        digest, now = hashed(secret), self._clock.now()
        if digest not in self._by_hash:
            found = await self._tokens.find(secret)
            if found is None:
                return None
            self._by_hash[digest] = found
        token = self._by_hash[digest]
        if not self.still_opens(token):
            return None
        if token.used_at is None or not timedelta(0) <= now - token.used_at < USE_NOTED_EVERY:
            self._by_hash[digest] = replace(token, used_at=now, used_from=address)
            with suppress(JournalFull):  # who may read footage may do so while the disk is full
                await self._tokens.used(token.id, now, address)
        return token

    def remembers(self, secret: str) -> bool:
        """Whether the token of a secret is in memory: asking for it costs nothing."""
        return hashed(secret) in self._by_hash

    def still_opens(self, token: Token) -> bool:
        """Whether a token that was let in would still be: neither past its end nor revoked."""
        return token.id not in self._revoked and not token.expired(self._clock.now())

    async def create(self, wish: TokenWish) -> NewToken:
        """A new token; its secret is not kept anywhere.

        Raises Unprocessable, and Conflict for a first token that could not make the next, or not for ever:
        nobody could administer the host.
        """
        if not self._defined and (Scope.ADMIN not in wish.scopes or wish.expires_at is not None):
            raise Conflict(
                "the first token needs the scope admin, and no end: with it every request asks for a token"
            )
        if wish.cameras is not None and Scope.ADMIN in wish.scopes:
            raise Unprocessable([Fault("cameras", "a token with admin is of the whole host")])
        if wish.expires_at is not None and wish.expires_at <= self._clock.now():
            raise Unprocessable([Fault("expires_at", "is past")])
        secret = PREFIX + secrets.token_urlsafe(32)
        return NewToken(await self._keep(wish, secret), secret)

    async def all(self) -> list[Token]:
        """Every token, oldest first."""
        return await self._tokens.all()

    async def revoke(self, token_id: UUID) -> None:
        """The token opens nothing any more. Raises NotFound, and Conflict for the last one with admin that
        does not end by itself.
        """
        async with self._revoking:  # of two at once one would count the other's as left
            await self._require_another_admin(token_id)
            if not await self._tokens.revoke(token_id):
                raise NotFound(f"no token {token_id}")
            self._revoked.add(token_id)
            self._by_hash.clear()
            await self.load()

    async def _require_another_admin(self, token_id: UUID) -> None:
        admins = [
            token.id
            for token in await self._tokens.all()
            if Scope.ADMIN in token.scopes and token.expires_at is None
        ]
        if admins == [token_id]:
            raise Conflict(f"token {token_id} is the last with the scope admin; make another one first")

    async def ensure_admin(self, data_dir: Path) -> Path | None:
        """With no token at all, makes the first admin token and writes it, once, for its owner to read.

        Returns the file's path if one was made.
        """
        return None if self._defined else await self._make_admin("first admin", data_dir)

    async def admin_asked_for(self, data_dir: Path) -> Path | None:
        """For whoever lost the last admin token: a file in data_dir asks for another one.

        Returns the new token's file if one was made; the others stay until they are revoked.
        """
        if not _is_asked_for(data_dir):
            return None
        path = await self._make_admin("admin asked for in data_dir", data_dir)
        (data_dir / ASK_FILE).unlink(missing_ok=True)  # last: a kill before this makes one more, not none
        return path

    async def _make_admin(self, name: str, data_dir: Path) -> Path:
        secret = PREFIX + secrets.token_urlsafe(32)
        path = data_dir / ADMIN_FILE
        _write_for_owner(path, secret + "\n")  # first: a hash whose secret nobody has would lock all out
        await self._keep(TokenWish(name=name, scopes=frozenset({Scope.ADMIN})), secret)
        return path

    async def _keep(self, wish: TokenWish, secret: str) -> Token:
        token = Token(
            id=uuid.uuid4(),
            name=wish.name,
            scopes=frozenset(map(str, wish.scopes)),
            created_at=self._clock.now(),
            cameras=wish.cameras,
            expires_at=wish.expires_at,
        )
        await self._tokens.add(token, secret)
        self._defined = True
        if token.cameras is not None and not self._limited:
            self._limited = True
            log.warning("/metrics and /ready ask for a token from now on: one is limited to cameras")
        return token


def _is_asked_for(data_dir: Path) -> bool:
    return os.path.lexists(data_dir / ASK_FILE)


def _write_for_owner(path: Path, text: str) -> None:
    """A file that is on the disk, whole, when this returns, and that its owner alone may read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def allows(token: Token, scope: Scope) -> bool:
    """Whether the token opens what needs `scope`."""
    return scope in token.scopes or Scope.ADMIN in token.scopes
