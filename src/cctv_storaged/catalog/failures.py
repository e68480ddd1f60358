"""PostgreSQL's and the network's errors as this program's: what failed, on what, why, and what to do.

Every foreign error that leaves the room passes here. The words never hold a password.
"""

from collections.abc import Callable

import asyncpg

from cctv_storaged.errors import CatalogUnavailable

LOST: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # "connection is closed", when it went before the statement was sent
    asyncpg.InternalClientError,  # a farewell of the server that arrives together with our statement
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a fail-over: the server behind this connection is a standby now
    ConnectionResetError,
    BrokenPipeError,
)
"""A connection that ended under us. Another may work at once: each idle one may be stale, and fails once."""

BAD_ROWS: tuple[type[Exception], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.CardinalityViolationError,  # one segment names one backend twice
    asyncpg.ProgramLimitExceededError,
    asyncpg.WithCheckOptionViolationError,
    asyncpg.RaiseError,  # a trigger of the site
)
"""The rows are to blame: trying the same again can only fail again."""

FOREIGN: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # also TimeoutError, DNS and TLS
    EOFError,
    UnicodeError,  # a host name that cannot be one
)
"""Everything that asyncpg and the network are known to raise."""

_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (asyncpg.InvalidPasswordError, "check POSTGRES_USER and POSTGRES_PASSWORD"),
    (asyncpg.InvalidAuthorizationSpecificationError, "check POSTGRES_USER and the server's pg_hba.conf"),
    (asyncpg.InvalidCatalogNameError, "create the database, or check POSTGRES_DB"),
    (asyncpg.TooManyConnectionsError, "the server has no free connection; raise its max_connections"),
    (asyncpg.InsufficientPrivilegeError, "the role needs the rights named in docs/reference/postgres.md"),
    (asyncpg.InvalidSchemaNameError, "the role's search_path must begin with a schema it may use"),
    (asyncpg.CannotConnectNowError, "the server is starting or stopping"),
    (asyncpg.LockNotAvailableError, "another session holds a lock on the table"),
    (asyncpg.DiskFullError, "the server's disk is full"),
    (ConnectionRefusedError, "is PostgreSQL running, and listening on this address?"),
    (FileNotFoundError, "is PostgreSQL running, and is this its socket folder?"),
)


class RowsRefused(CatalogUnavailable):
    """The rows of one statement cannot be stored; none of them was. Never leaves the room."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


def translated(
    where: str, doing: str, error: Exception, star: Callable[[str], str] = str
) -> CatalogUnavailable:
    """The error to raise for a foreign one, met at `where` while `doing` something.

    `star` hides secrets: what a server says may be what it was sent.
    """
    reason = star(reason_of(error))
    message = f"{where}: {doing}: {reason}"
    if isinstance(error, BAD_ROWS):
        return RowsRefused(message, reason=reason)
    hint = next((words for kind, words in _HINTS if isinstance(error, kind)), "")
    return CatalogUnavailable(f"{message} ({hint})" if hint else message)


def reason_of(error: Exception) -> str:
    """What the error says, in one line; its kind where it says nothing."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return "; ".join(str(error).split("\n")) or type(error).__name__
