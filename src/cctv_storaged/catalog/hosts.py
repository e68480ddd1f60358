"""The hosts in the catalog: each says now and then how it is, and anybody may read what all said last.

Times are the server's, so that a host with a clock of its own neither looks away nor alive. A host writes
only rows of its own name.
"""

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from cctv_storaged.catalog.connections import Connection
from cctv_storaged.catalog.escaping import escaped, unescaped

MOST_ALARMS = 50
"""Told one by one; all are counted."""
LONGEST_TEXT = 300
MOST_HOSTS = 2_000
FORGOTTEN_AFTER = "90 days"
"""Rows of journals that this host had before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAlarm:
    """An alarm that stands at a host."""

    name: str
    subject: str
    text: str
    since: str  # RFC 3339


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWord:
    """What a host says of itself. Times are aware UTC."""

    host_id: str
    journal_id: str
    run_id: UUID
    started_at: datetime
    version: str
    config_version: str | None
    config_hash: str
    config_waiting: tuple[str, ...]
    mode: str
    backend: str
    cameras: int
    backlog_segments: int
    backlog_bytes: int
    copies_failed: int
    oldest_undelivered: datetime | None
    disk_days_left: float | None
    alarms: tuple[HostAlarm, ...]
    alarms_standing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """A host's last word, and how long ago the server heard it."""

    word: HostWord
    seen_at: datetime
    seen_s_ago: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the server answers to a word.

    `before`: whose word of this very journal stood there, and when it was said; `others`: words of other
    journals of the same name, with the time of each.
    """

    at: datetime
    before: tuple[UUID, datetime] | None
    others: tuple[tuple[str, datetime], ...]


# What stood there is read before it is overwritten: in one statement both see the state before it.
_TELL = """
WITH before AS (
    SELECT journal_id, run_id, seen_at FROM storage_hosts WHERE host_id = $1
), told AS (
    INSERT INTO storage_hosts (host_id, journal_id, run_id, seen_at, started_at, version, config_version,
                               config_hash, config_waiting, mode, backend, cameras, backlog_segments,
                               backlog_bytes, copies_failed, oldest_undelivered, disk_days_left, alarms,
                               alarms_standing)
    VALUES ($1, $2, $3, clock_timestamp(), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
            $17::text::jsonb, $18)
        ON CONFLICT (host_id, journal_id) DO UPDATE SET
           run_id = excluded.run_id,
           seen_at = excluded.seen_at,
           started_at = excluded.started_at,
           version = excluded.version,
           config_version = excluded.config_version,
           config_hash = excluded.config_hash,
           config_waiting = excluded.config_waiting,
           mode = excluded.mode,
           backend = excluded.backend,
           cameras = excluded.cameras,
           backlog_segments = excluded.backlog_segments,
           backlog_bytes = excluded.backlog_bytes,
           copies_failed = excluded.copies_failed,
           oldest_undelivered = excluded.oldest_undelivered,
           disk_days_left = excluded.disk_days_left,
           alarms = excluded.alarms,
           alarms_standing = excluded.alarms_standing
    RETURNING seen_at
)
SELECT told.seen_at AS at, before.journal_id, before.run_id, before.seen_at
  FROM told LEFT JOIN before ON true
"""
_FORGET = f"""
DELETE FROM storage_hosts
 WHERE host_id = $1 AND journal_id <> $2 AND seen_at < now() - INTERVAL '{FORGOTTEN_AFTER}'
"""
# Another program, or a host of a later version, may have written what no answer can hold.
_ALL = """
SELECT *, greatest(0, extract(epoch FROM now() - seen_at))::float8 AS seen_s_ago
  FROM storage_hosts
 WHERE isfinite(seen_at) AND isfinite(started_at) AND isfinite(coalesce(oldest_undelivered, now()))
 ORDER BY host_id, seen_at DESC, journal_id
 LIMIT $1
"""


async def tell(connection: Connection, word: HostWord) -> Heard:
    """Makes the catalog say it. Twice is once."""
    rows = await connection.fetch(_TELL, *_arguments(word))
    await connection.execute(_FORGET, escaped(word.host_id), word.journal_id)
    known = [row for row in rows if row["journal_id"] is not None]
    same = next((row for row in known if row["journal_id"] == word.journal_id), None)
    return Heard(
        at=rows[0]["at"],
        before=None if same is None else (same["run_id"], same["seen_at"]),
        others=tuple(
            (row["journal_id"], row["seen_at"]) for row in known if row["journal_id"] != word.journal_id
        ),
    )


async def all_hosts(connection: Connection) -> tuple[KnownHost, ...]:
    """Every host's last word, by name; of several journals of one name the latest first."""
    rows = await connection.fetch(_ALL, MOST_HOSTS)
    return await asyncio.to_thread(lambda: tuple(map(_known, rows)))  # a hundred thousand alarms, it may be


def _arguments(word: HostWord) -> Iterator[object]:
    yield escaped(word.host_id)
    yield from (word.journal_id, word.run_id, word.started_at, _text(word.version))
    yield None if word.config_version is None else _text(word.config_version)
    yield word.config_hash
    yield list(map(_text, word.config_waiting))
    yield from (word.mode, word.backend, word.cameras, word.backlog_segments, word.backlog_bytes)
    yield from (word.copies_failed, word.oldest_undelivered, word.disk_days_left)
    yield json.dumps(
        [{key: _text(text) for key, text in asdict(each).items()} for each in word.alarms[:MOST_ALARMS]]
    )
    yield word.alarms_standing


def _text(text: str) -> str:
    """What PostgreSQL can store, of a bearable length: no NUL, no half of a surrogate pair."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")[:LONGEST_TEXT]


def _known(row: asyncpg.Record) -> KnownHost:
    oldest, days = row["oldest_undelivered"], row["disk_days_left"]
    return KnownHost(
        word=HostWord(
            host_id=unescaped(row["host_id"]),
            journal_id=row["journal_id"],
            run_id=row["run_id"],
            started_at=row["started_at"].astimezone(UTC),
            version=row["version"],
            config_version=row["config_version"],
            config_hash=row["config_hash"],
            config_waiting=tuple(row["config_waiting"]),
            mode=row["mode"],
            backend=row["backend"],
            cameras=row["cameras"],
            backlog_segments=row["backlog_segments"],
            backlog_bytes=row["backlog_bytes"],
            copies_failed=row["copies_failed"],
            oldest_undelivered=None if oldest is None else oldest.astimezone(UTC),
            disk_days_left=days if days is not None and math.isfinite(days) else None,
            alarms=tuple(_alarms(row["alarms"])),
            alarms_standing=row["alarms_standing"],
        ),
        seen_at=row["seen_at"].astimezone(UTC),
        seen_s_ago=row["seen_s_ago"],
    )


def _alarms(text: str) -> Iterator[HostAlarm]:
    listed = json.loads(text)
    for each in listed[:MOST_ALARMS] if isinstance(listed, list) else ():
        if isinstance(each, dict):
            words = {name: str(each.get(name, "")) for name in ("name", "subject", "text", "since")}
            yield HostAlarm(**words)
