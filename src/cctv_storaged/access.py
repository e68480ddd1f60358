"""Who may use the API: tokens and their scopes."""

import logging
import os
import secrets
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from cctv_storaged.clock import Clock
from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.journal.tokens import Token, Tokens, hashed

log = logging.getLogger(__name__)

PREFIX = "cctv_"
"""Makes a leaked token recognisable to secret scanners."""
ADMIN_FILE = "admin-token"
ASK_FILE = "make-admin-token"
"""A file of this name in data_dir asks the next start for another admin token: its owner owns all."""


class Scope(StrEnum):
    """What a token allows. ADMIN allows everything."""

    READ = "read"
    WRITE = "write"
    EXPORT = "export"
    HOLD = "hold"
    RELEASE = "release"
    ADMIN = "admin"


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
        self._defined = False

    @property
    def any_defined(self) -> bool:
        """Whether there is any token at all."""
        return self._defined

    async def load(self) -> None:
        """Reads how things stand."""
        self._defined = bool(await self._tokens.all())

    async def token_of(self, secret: str) -> Token | None:
        """The token of a secret, None for a wrong one. Compared by hash, so timing tells nothing."""
        digest = hashed(secret)
        if digest not in self._by_hash:
            token = await self._tokens.find(secret)
            if token is None:
                return None
            self._by_hash[digest] = token
        return self._by_hash[digest]

    async def create(self, name: str, scopes: frozenset[Scope]) -> NewToken:
        """A new token; its secret is not kept anywhere.

        Raises Conflict for a first token that could not make the next: nobody could administer the host.
        """
        if not self._defined and Scope.ADMIN not in scopes:
            raise Conflict("the first token needs the scope admin: with it every request asks for a token")
        secret = PREFIX + secrets.token_urlsafe(32)
        return NewToken(await self._keep(name, scopes, secret), secret)

    async def all(self) -> list[Token]:
        """Every token, oldest first."""
        return await self._tokens.all()

    async def revoke(self, token_id: UUID) -> None:
        """The token opens nothing any more. Raises NotFound, and Conflict for the last one with admin."""
        admins = [token.id for token in await self._tokens.all() if Scope.ADMIN in token.scopes]
        if admins == [token_id]:
            raise Conflict(f"token {token_id} is the last with the scope admin; make another one first")
        self._by_hash.clear()
        if not await self._tokens.revoke(token_id):
            raise NotFound(f"no token {token_id}")
        self._by_hash.clear()  # one that was looked up while the row was still there
        await self.load()

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
        await self._keep(name, frozenset({Scope.ADMIN}), secret)
        return path

    async def _keep(self, name: str, scopes: frozenset[Scope], secret: str) -> Token:
        token = Token(
            id=uuid.uuid4(), name=name, scopes=frozenset(map(str, scopes)), created_at=self._clock.now()
        )
        await self._tokens.add(token, secret)
        self._defined = True
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
