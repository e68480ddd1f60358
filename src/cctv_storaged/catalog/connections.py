"""Connections to one PostgreSQL: few, made when first needed, replaced when they turn out dead.

Work goes in as a function of a connection and comes out as its result or as CatalogUnavailable. What the
work says to the server is not known here.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from cctv_storaged.catalog.failures import FOREIGN, LOST, translated
from cctv_storaged.errors import CatalogUnavailable
from cctv_storaged.logs.redaction import Redactor

Connection: TypeAlias = "PoolConnectionProxy[Any]"
Result = TypeVar("Result")

CLOSE_TIMEOUT_S = 5.0


class SslMode(StrEnum):
    """As libpq's sslmode (PostgreSQL manual, "SSL Support")."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"  # encrypted; the server's certificate is checked only where a ca_file is given
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTarget:
    """Where the catalog is, who we are there, and how patient."""

    host: str  # name, address, or the folder of a unix socket
    port: int = 5432
    database: str
    user: str
    password: str = field(default="", repr=False)
    ssl: SslMode = SslMode.PREFER
    ca_file: str | None = None  # PEM; the system's authorities where left out and checking is asked for
    connect_timeout_s: float = 5.0
    lock_timeout_s: float = 10.0
    statement_timeout_s: float = 30.0
    answer_margin_s: float = 5.0  # longer than the server's own limits, so that it ends a statement first
    idle_s: float = 60.0  # then a connection is given back: the server's slots are few, and firewalls cut
    connections: int = 3

    def __str__(self) -> str:
        return f"PostgreSQL {self.user}@{self.host}:{self.port}/{self.database}"


class Connections:
    """At most `target.connections` at a time. Not to be used before `open` or after `close`."""

    def __init__(self, target: PostgresTarget, application_name: str) -> None:
        self._target = target
        self._application_name = application_name
        self._star = Redactor(frozenset({target.password}))
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Get ready; with no connection to keep, the pool makes none here."""
        target = self._target
        self._pool = asyncpg.create_pool(
            min_size=0,
            max_size=target.connections,
            max_inactive_connection_lifetime=target.idle_s,
            connect=self._connect,
            host=target.host,
            port=target.port,
            database=target.database,
            user=target.user,
            password=target.password,  # never None: asyncpg would look for one in files and the environment
            timeout=target.connect_timeout_s,
            command_timeout=target.statement_timeout_s + target.answer_margin_s,
            server_settings=_session_settings(target, self._application_name),
        )
        await self._pool

    async def run(self, doing: str, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """The result of `work` with a connection; CatalogUnavailable says what `doing` failed.

        `work` may be begun several times, each time with another connection, so it must bear repetition.
        """
        try:
            for _ in range(self._target.connections):
                try:
                    return await self._attempt(work)
                except LOST:
                    continue  # it was stale, as may be each of the idle ones; each fails once
            return await self._attempt(work)
        except FOREIGN as exc:
            raise translated(str(self._target), doing, exc, self._star) from exc

    async def close(self) -> None:
        """Close all connections, politely if the server listens, otherwise hard; safe to call twice."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except FOREIGN:
            pool.terminate()

    async def _attempt(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        if self._pool is None:
            raise CatalogUnavailable(f"{self._target}: not open")
        patience_s = self._target.connect_timeout_s + self._target.answer_margin_s
        connection = await self._pool.acquire(timeout=patience_s)
        try:
            return await work(connection)
        except LOST:
            connection.terminate()  # or the pool might hand it out again
            raise
        finally:
            await self._give_back(connection)

    async def _give_back(self, connection: Connection) -> None:
        """Return a connection to the pool, which drops it if it is of no use any more.

        That it was of no use must hide neither the result of the work nor a cancellation: on a cancelled
        statement the pool first waits for the server to stop it.
        """
        if self._pool is None:
            connection.terminate()
            return
        with contextlib.suppress(*FOREIGN):
            await self._pool.release(connection, timeout=self._target.answer_margin_s)

    async def _connect(self, *args: Any, **kwargs: Any) -> Any:
        """A new connection for the pool; the CA file is read each time, so that it can be replaced."""
        return await asyncpg.connect(*args, ssl=_encryption(self._target), **kwargs)


def _session_settings(target: PostgresTarget, application_name: str) -> dict[str, str]:
    return {
        "application_name": application_name,
        "synchronous_commit": "on",  # what was committed is never told again: it must be on the disk by then
        "statement_timeout": _milliseconds(target.statement_timeout_s),
        "lock_timeout": _milliseconds(target.lock_timeout_s),
        "idle_in_transaction_session_timeout": _milliseconds(target.statement_timeout_s),
    }


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))  # 0 would mean no limit


def _encryption(target: PostgresTarget) -> ssl.SSLContext | str:
    """What asyncpg is to be given for `ssl`; a context of our own wherever a certificate is checked."""
    checked = target.ssl in (SslMode.VERIFY_CA, SslMode.VERIFY_FULL)
    if not checked and not (target.ssl is SslMode.REQUIRE and target.ca_file):
        return target.ssl.value
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except OSError as exc:
        raise CatalogUnavailable(f"{target}: cannot read the CA file {target.ca_file}: {exc}") from exc
    context.check_hostname = target.ssl is SslMode.VERIFY_FULL
    return context
