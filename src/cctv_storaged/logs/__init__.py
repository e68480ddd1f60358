"""Logging: one record is one line and holds no secret, in the journal, on a terminal or as JSON.

Callers write `log = logging.getLogger(__name__)` and
`log.info("segment journalled", extra={"camera_id": …, "segment_id": …})`: the sentence names the kind of
event and stays the same, the facts are fields. Only names in `FIELDS` are written.

This package knows neither the settings nor what the fields mean.
"""

import logging
import os
import sys
import threading
from collections.abc import Mapping
from enum import Enum, StrEnum
from types import TracebackType
from typing import TextIO

from cctv_storaged.logs.context import name_request
from cctv_storaged.logs.handlers import JournalHandler, LineFormatter, StreamLines
from cctv_storaged.logs.lines import FIELDS, as_json, as_plain, as_prefixed, one_line
from cctv_storaged.logs.redaction import Redactor

try:
    from systemd import journal as _journal
except ImportError:  # an extra: it compiles against the system's library
    _journal = None

__all__ = ["FIELDS", "LogFormat", "configure_logging", "is_journal", "log_uncaught", "one_line", "set_level"]

LIBRARIES = (
    "aiohttp",
    "aiosqlite",
    "apscheduler",
    "asyncio",
    "asyncpg",
    "boto3",
    "botocore",
    "minio",
    "s3transfer",
    "urllib3",
    "watchdog",
)
"""Never below WARNING, even when we debug: botocore's debug log is made of signing material."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "critical": 50}

log = logging.getLogger(__name__)


class LogFormat(StrEnum):
    """How records leave the process."""

    AUTO = "auto"  # the journal when standard error is the journal, plain otherwise
    PLAIN = "plain"
    JSON = "json"
    JOURNAL = "journal"


def configure_logging(
    level: str | int = "info",
    log_format: LogFormat | str = LogFormat.AUTO,
    secrets: frozenset[str] = frozenset(),
    *,
    stream: TextIO | None = None,
) -> None:
    """Make the root logger write one line per record to `stream` (default: standard error) or the journal.

    May be called again, with other secrets say: the earlier handler is replaced.
    Raises ValueError for a level or a format that does not exist.
    """
    number = _level_number(level)
    chosen = _choose(LogFormat(log_format), os.environ, journal_present=_journal is not None)
    _replace_handler(_handler_for(chosen, Redactor(secrets), sys.stderr if stream is None else stream))
    set_level(number)
    if log_format == LogFormat.JOURNAL and chosen is not _Sink.JOURNAL:
        log.warning("systemd-python is not installed: the journal gets plain lines without fields")


def set_level(level: str | int) -> None:
    """Another level from now on (SIGHUP). Libraries stay at WARNING or above."""
    number = _level_number(level)
    logging.getLogger().setLevel(number)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def log_uncaught() -> None:
    """Make records of warnings and of exceptions that nobody caught; Python would print them raw."""
    logging.captureWarnings(True)
    sys.excepthook = _log_exception
    threading.excepthook = _log_thread_exception
    sys.unraisablehook = _log_unraisable


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether the descriptor is the stream that systemd made to the journal.

    JOURNAL_STREAM holds its device and inode (systemd.exec(5)): a redirected stream differs, whoever
    inherited the variable.
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Sink(Enum):
    PLAIN = "plain"
    JSON = "json"
    JOURNAL = "journal"
    PREFIXED = "prefixed"  # plain lines that the journal reads: it adds the time, a prefix tells the level


def _choose(wanted: LogFormat, environ: Mapping[str, str], *, journal_present: bool) -> _Sink:
    if wanted is LogFormat.AUTO and is_journal(2, environ):
        wanted = LogFormat.JOURNAL
    if wanted is LogFormat.JOURNAL:
        return _Sink.JOURNAL if journal_present else _Sink.PREFIXED
    return _Sink.JSON if wanted is LogFormat.JSON else _Sink.PLAIN


def _handler_for(sink: _Sink, redact: Redactor, stream: TextIO) -> logging.Handler:
    match sink:
        case _Sink.JOURNAL:
            return JournalHandler(redact, _journal.sendv)
        case _Sink.JSON:
            return StreamLines(stream, LineFormatter(redact, as_json))
        case _Sink.PREFIXED:
            return StreamLines(stream, LineFormatter(redact, as_prefixed))
        case _Sink.PLAIN:
            return StreamLines(stream, LineFormatter(redact, as_plain))


def _replace_handler(handler: logging.Handler) -> None:
    root = logging.getLogger()
    for earlier in [known for known in root.handlers if isinstance(known, StreamLines | JournalHandler)]:
        root.removeHandler(earlier)
        earlier.close()
    handler.addFilter(name_request)
    root.addHandler(handler)


def _level_number(level: str | int) -> int:
    if isinstance(level, int):
        return level
    try:
        return _LEVELS[level.lower()]
    except KeyError:
        raise ValueError(f"no log level is called {level!r}; there are {', '.join(_LEVELS)}") from None


def _log_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("uncaught exception", exc_info=(kind, error, trace))


def _log_thread_exception(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and not issubclass(failure.exc_type, SystemExit):
        log.critical(
            "uncaught exception in a thread",
            exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback),
            extra={"task": failure.thread.name if failure.thread else None},
        )


def _log_unraisable(failure: "sys.UnraisableHookArgs") -> None:
    if failure.exc_value is not None:
        log.error(
            "exception that could not be raised",
            exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback),
        )
