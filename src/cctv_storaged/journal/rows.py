"""Rows of the journal as values, and back. The only place that knows column names by position."""

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from cctv_storaged.clock import from_us
from cctv_storaged.model import (
    Copy,
    CopyState,
    FileIdentity,
    Segment,
    SegmentFlag,
    SourceFile,
    SourceState,
    StreamStart,
    TimeSpan,
)

Row = tuple[object, ...]

_TWO_TO_64 = 2**64
_SIGNED_MAX = 2**63 - 1

SEGMENT_COLUMNS = """
    s.no, s.id, c.id, s.start_us, s.end_us, f.root, f.path, s.name, s.device, s.inode, s.size_bytes,
    s.mtime_ns, s.source_state, s.flags, s.codec, s.sha256, s.created_us, s.held, s.stream_ticks,
    s.stream_print"""
SEGMENT_PARTS = "JOIN camera c ON c.no = s.camera_no JOIN folder f ON f.no = s.folder_no"
SEGMENT_TABLES = f"segment s {SEGMENT_PARTS}"
AGE_FROM = f"""iif(s.flags LIKE '%{SegmentFlag.TIME_SUSPECT}%', max(s.end_us, s.created_us), s.end_us)"""
"""When the age of the segment `s` begins: as `Segment.aged_from`."""
COPY_COLUMNS = "segment_no, backend, state, path, etag, attempts, error, stored_us, verified_us"


def split_path(path: str) -> tuple[bytes, bytes]:
    """Folder and name of a path relative to its root, as bytes."""
    folder, name = os.path.split(path)
    return os.fsencode(folder), os.fsencode(name)


def join_path(folder: bytes, name: bytes) -> str:
    return os.path.join(os.fsdecode(folder), os.fsdecode(name))


def text(value: str) -> str:
    """What TEXT can hold: messages may quote file names, which may be any bytes (lone surrogates here)."""
    return value.encode(errors="backslashreplace").decode()


def signed(number: int) -> int:
    """A device or inode number as SQLite can hold it: some file systems use the sixty-fourth bit."""
    return number - _TWO_TO_64 if number > _SIGNED_MAX else number


def unsigned(number: int) -> int:
    """The inverse of `signed`."""
    return number % _TWO_TO_64


def flags_text(flags: Iterable[SegmentFlag]) -> str:
    return " ".join(sorted(flags))


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def segment_from_row(row: Sequence[object], copies: tuple[Copy, ...]) -> Segment:
    """A Segment from SEGMENT_COLUMNS and the copies that belong to it."""
    (_, id_, camera, start, end, root, folder, name, device, inode, size, mtime) = row[:12]
    (source_state, flags, codec, sha256, created, held, ticks, fingerprint) = row[12:]
    assert isinstance(root, bytes) and isinstance(folder, bytes) and isinstance(name, bytes)
    return Segment(
        id=UUID(bytes=_blob(id_)),
        camera_id=UUID(bytes=_blob(camera)),
        span=TimeSpan(from_us(_int(start)), from_us(_int(end))),
        source=SourceFile(
            root=os.fsdecode(root),
            path=join_path(folder, name),
            identity=FileIdentity(
                device=unsigned(_int(device)),
                inode=unsigned(_int(inode)),
                size_bytes=_int(size),
                mtime_ns=_int(mtime),
            ),
        ),
        source_state=SourceState(str(source_state)),
        flags=frozenset(SegmentFlag(word) for word in str(flags).split()),
        codec=None if codec is None else str(codec),
        sha256=None if sha256 is None else _blob(sha256),
        created_at=from_us(_int(created)),
        held=bool(held),
        stream=None if ticks is None else StreamStart(_int(ticks), _blob(fingerprint)),
        copies=copies,
    )


def copy_from_row(row: Sequence[object]) -> Copy:
    """A Copy from COPY_COLUMNS."""
    _, backend, state, path, etag, attempts, error, stored, verified = row
    return Copy(
        backend=str(backend),
        state=CopyState(str(state)),
        path=None if path is None else str(path),
        attempts=_int(attempts),
        error=None if error is None else str(error),
        etag=None if etag is None else str(etag),
        stored_at=_moment(None if stored is None else _int(stored)),
        verified_at=_moment(None if verified is None else _int(verified)),
    )


def segments_from(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[Segment]:
    """Segments in the order of their rows, each with its copies (one query for all of them)."""
    copies: dict[int, list[Copy]] = {_int(row[0]): [] for row in rows}
    if copies:
        query = f"""SELECT {COPY_COLUMNS} FROM copy WHERE segment_no IN (SELECT value FROM json_each(?))
                     ORDER BY segment_no, backend"""
        for row in connection.execute(query, (json.dumps(list(copies)),)):
            copies[row[0]].append(copy_from_row(row))
    return [segment_from_row(row, tuple(copies[_int(row[0])])) for row in rows]


def one_segment(
    connection: sqlite3.Connection, where: str, *parameters: object
) -> tuple[int, Segment] | None:
    """The first segment of a WHERE (and ORDER BY) over SEGMENT_TABLES, with its row number."""
    row = connection.execute(
        f"SELECT {SEGMENT_COLUMNS} FROM {SEGMENT_TABLES} WHERE {where} LIMIT 1", parameters
    ).fetchone()
    return None if row is None else (_int(row[0]), segments_from(connection, [row])[0])


def segment_by_no(connection: sqlite3.Connection, segment_no: int | None) -> Segment:
    """The segment of a row that is known to be there."""
    found = one_segment(connection, "s.no = ?", segment_no)
    assert found is not None
    return found[1]


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _blob(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
