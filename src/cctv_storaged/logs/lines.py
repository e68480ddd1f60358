"""A log record becomes a line: rendering and its shapes, all pure.

The order binds: text is made, secrets are starred, what is not plainly visible is escaped, what is too long
is cut. Escaping first would hide a secret from its pattern, and cutting first would leave half of one.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from cctv_storaged.clock import rfc3339
from cctv_storaged.logs.redaction import Redactor

IDENTIFIER = "cctv-storaged"
LONGEST_TEXT = 8_000
"""Characters of one message, value or traceback; journald takes 48 KiB to a line (LineMax=)."""

_FIELD_NAMES = """
    action address age_s attempt attempts backend camera camera_id cause copy_state count delay_s end error
    export_id failed field flags folder found free_bytes hint hold_id host_id job lag limit limit_s location
    method missing mode path pending port program reason remote request_id root rows seconds segment_id
    setting sha256 signal size_bytes skew_s source start state status stderr table task timeout_s total url
    version
"""
FIELDS = frozenset(_FIELD_NAMES.split())
"""The names a caller may use in `extra`; anything else in a record is not written."""

Scalar = str | int | float | bool | None
"""What a field is written as; JSON keeps the type."""

_TRACEBACKS = logging.Formatter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One record, ready to be written: nothing secret, nothing that breaks a line."""

    moment: datetime
    level: int
    logger: str
    message: str
    fields: Mapping[str, Scalar]
    summary: str = ""  # the exception's type and message, if there was one
    trace: tuple[str, ...] = ()  # the traceback, line by line


def one_line(text: str) -> str:
    r"""`text` with every character escaped that is not plainly visible, and cut to `LONGEST_TEXT`.

    That is: controls, line and paragraph breaks, ANSI escapes, bidirectional and zero-width marks, and lone
    surrogates, of which those that stand for undecodable bytes become `\xNN`.
    """
    cut = _cut(text)
    if cut.isprintable():
        return cut
    return _cut("".join(char if char.isprintable() else _escaped(char) for char in cut))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return ascii(char)[1:-1]


def rendered(record: logging.LogRecord, redact: Redactor) -> Line:
    """What may be written of a record."""
    return Line(
        moment=datetime.fromtimestamp(record.created, UTC),
        level=record.levelno,
        logger=one_line(record.name),
        message=one_line(redact(_message_of(record))),
        fields=_fields_of(record, redact),
        summary=_summary_of(record, redact),
        trace=_trace_of(record, redact),
    )


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as exc:  # noqa: BLE001 - a caller's __str__ may raise anything, and the log must not
        return f"{record.msg} (arguments do not fit: {type(exc).__name__})"


def _fields_of(record: logging.LogRecord, redact: Redactor) -> dict[str, Scalar]:
    given = vars(record)
    return {name: _scalar(given[name], redact) for name in sorted(FIELDS & given.keys())}


def _scalar(value: object, redact: Redactor) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    text = _text_of(value)
    clean = redact(text)
    if isinstance(value, int | float) and clean == text:
        return value
    return one_line(clean)


def _text_of(value: object) -> str:
    match value:
        case Enum():
            return str(value.value)
        case datetime() if value.tzinfo is not None:
            return rfc3339(value)
        case bytes():
            return value.hex()
        case frozenset() | set() | tuple() | list():
            return ",".join(sorted(_text_of(item) for item in value))
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001 - as above
        return f"<{type(value).__name__}: {type(exc).__name__}>"


def _summary_of(record: logging.LogRecord, redact: Redactor) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    return one_line(redact(f"{type(error).__name__}: {_text_of(error)}".removesuffix(": ")))


def _trace_of(record: logging.LogRecord, redact: Redactor) -> tuple[str, ...]:
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(_TRACEBACKS.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    text = redact("\n".join(parts))
    if len(text) > LONGEST_TEXT:
        text = "…" + text[-LONGEST_TEXT:]  # the end of a traceback says more than its beginning
    return tuple(one_line(part) for part in text.splitlines())


def as_plain(line: Line) -> str:
    """`2026-11-22T10:33:00.123Z INFO    delivery: copy verified backend=S3 segment_id=…`"""
    return f"{_moment(line)} {logging.getLevelName(line.level):<7} {_told(line)}"


def as_prefixed(line: Line) -> str:
    """The plain line for a journal that reads standard error: level as a prefix (sd-daemon(3)), no time."""
    return f"<{_priority(line.level)}>{_told(line)}"


def as_json(line: Line) -> str:
    """One JSON object: time, level, logger, message, the fields by their own names, exception."""
    entry: dict[str, Scalar] = {
        "time": _moment(line),
        "level": logging.getLevelName(line.level).lower(),
        "logger": line.logger,
        "message": line.message,
        **line.fields,
    }
    if line.trace:
        entry["exception"] = "\n".join(line.trace)
    return json.dumps(entry)


def as_journal(line: Line) -> tuple[bytes, ...]:
    """The record as journal fields, `NAME=value` each (systemd.journal-fields(7)).

    MESSAGE is one line. The traceback keeps its lines in EXCEPTION_TEXT, which `journalctl -o verbose` and
    `-o json` show.
    """
    fields: dict[str, Scalar] = {
        "MESSAGE": f"{line.message}: {line.summary}" if line.summary else line.message,
        "PRIORITY": _priority(line.level),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "LOGGER": line.logger,
        **{name.upper(): value for name, value in line.fields.items() if value is not None},
    }
    if line.trace:
        fields["EXCEPTION_TEXT"] = "\n".join(line.trace)
    return tuple(f"{name}={value}".encode() for name, value in fields.items())


def _moment(line: Line) -> str:
    return line.moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _told(line: Line) -> str:
    words = [f"{line.logger.removeprefix('cctv_storaged.')}: {line.message}"]
    words += [f"{name}={_quoted(value)}" for name, value in line.fields.items()]
    if line.trace:
        words.append(f"exception={_quoted(one_line(chr(10).join(line.trace)))}")
    return " ".join(words)


def _quoted(value: Scalar) -> str:
    text = str(value)
    if text and not any(char in text for char in ' "=\\'):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _priority(level: int) -> int:
    """Level of syslog(3) for a level of logging."""
    for least, priority in ((50, 2), (40, 3), (30, 4), (20, 6)):
        if level >= least:
            return priority
    return 7
