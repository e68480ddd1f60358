"""Cameras as the journal has seen them: footage from, to, how much."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from cctv_storaged.clock import SystemClock, from_us, to_us
from cctv_storaged.journal.holds import take_in
from cctv_storaged.journal.segments import ensure_camera
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Camera, TimeSpan

RATE_SEGMENTS = 100
"""The bit rate is measured over so many of a camera's newest segments."""
LATEST_SEGMENTS = 8
"""Of so many the one heard of last counts: a future that has come must not hide what was recorded today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFootage:
    """A camera and what the journal holds of it."""

    camera: Camera
    segments: int
    bytes: int
    footage: TimeSpan | None  # from its first to its last segment, whatever lies between
    newest: TimeSpan | None  # the segment that tells of its recorder last
    heard: datetime | None  # the end of that, but not later than it was registered: names can lie ahead
    bit_rate: float | None  # bits per second over the newest segments


class Cameras:
    """The cameras of this host."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ensure(self, camera: Camera) -> None:
        """Makes the camera that stands for a folder known, so that it is listed before its first segment.

        It comes under the holds of those that stood for the folder before.
        """
        await self._store.write(lambda db: _ensure(db, camera))

    async def sharing_a_folder(self) -> list[Camera]:
        """Those of whose folder there are several: the settings gave it other ids, or its files' paths do."""
        return await self._store.read(_sharing_a_folder)

    async def all(self, now: datetime) -> list[CameraFootage]:
        """Every camera by name, as it is `now`."""
        return await self._store.read(lambda db: _footage(db, now, "1 = 1 ORDER BY name, id"))

    async def by_id(self, camera_id: UUID, now: datetime) -> CameraFootage | None:
        """One camera, None where this host has none of that id."""
        found = await self._store.read(lambda db: _footage(db, now, "id = ?", camera_id.bytes))
        return found[0] if found else None

    async def camera(self, camera_id: UUID) -> Camera | None:
        """The camera alone, None where this host has none of that id; cheaper than `by_id`."""
        return await self._store.read(lambda db: _camera(db, camera_id))

    async def with_footage(self) -> list[Camera]:
        """Those that the journal has segments of, by name; cheaper than `all`."""
        return await self._store.read(_with_segments)

    async def segment_counts(self) -> dict[UUID, int]:
        """How many segments the journal has of each; no segment's row is read."""
        query = "SELECT id, segments FROM camera"
        rows = await self._store.read(lambda db: db.execute(query).fetchall())
        return {UUID(bytes=id_): segments for id_, segments in rows}


def _ensure(db: sqlite3.Connection, camera: Camera) -> None:
    no, _ = ensure_camera(db, camera)
    take_in(db, no, SystemClock().now())


def _sharing_a_folder(db: sqlite3.Connection) -> list[Camera]:
    rows = db.execute(
        """SELECT id, name, folder FROM camera WHERE folder IN (
               SELECT folder FROM camera WHERE folder <> x'' GROUP BY folder HAVING count(*) > 1)
            ORDER BY no"""
    )
    return [Camera(id=UUID(bytes=id_), name=name, folder=os.fsdecode(folder)) for id_, name, folder in rows]


def footage_in(path: Path) -> list[Camera]:
    """Those with footage in a journal that this process has not open; none where it is not read. Blocking.

    Without a lock, which a daemon that starts this moment would meet; what is in its WAL is not seen.
    """
    try:
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as db:
            return _with_segments(db)
    except (sqlite3.Error, OSError):
        return []


def _with_segments(db: sqlite3.Connection) -> list[Camera]:
    rows = db.execute("SELECT id, name, folder FROM camera WHERE segments > 0 ORDER BY name, id")
    return [Camera(id=UUID(bytes=id_), name=name, folder=os.fsdecode(folder)) for id_, name, folder in rows]


def _camera(db: sqlite3.Connection, camera_id: UUID) -> Camera | None:
    row = db.execute("SELECT name, folder FROM camera WHERE id = ?", (camera_id.bytes,)).fetchone()
    return None if row is None else Camera(id=camera_id, name=row[0], folder=os.fsdecode(row[1]))


def _footage(db: sqlite3.Connection, now: datetime, where: str, *parameters: object) -> list[CameraFootage]:
    rows = db.execute(
        f"SELECT no, id, name, folder, segments, bytes FROM camera WHERE {where}", parameters
    ).fetchall()
    return [
        _with_footage(
            db, no, Camera(id=UUID(bytes=id_), name=name, folder=os.fsdecode(folder)), segments, size, now
        )
        for no, id_, name, folder, segments, size in rows
    ]


def _with_footage(
    db: sqlite3.Connection, camera_no: int, camera: Camera, segments: int, size_bytes: int, now: datetime
) -> CameraFootage:
    first = db.execute("SELECT min(start_us) FROM segment WHERE camera_no = ?", (camera_no,)).fetchone()[0]
    last = db.execute(
        "SELECT start_us, end_us, created_us FROM segment WHERE camera_no = ? ORDER BY start_us DESC LIMIT 1",
        (camera_no,),
    ).fetchone()
    latest = None if last is None else _latest(db, camera_no, last, to_us(now))
    return CameraFootage(
        camera=camera,
        segments=segments,
        bytes=size_bytes,
        footage=None if last is None else TimeSpan(from_us(first), from_us(last[1])),
        newest=None if latest is None else TimeSpan(from_us(latest[0]), from_us(latest[1])),
        heard=None if latest is None else from_us(_heard_us(latest)),
        bit_rate=_bit_rate(db, camera_no),
    )


def _latest(
    db: sqlite3.Connection, camera_no: int, last: tuple[int, int, int], now_us: int
) -> tuple[int, int, int]:
    """Start, end and registration of the segment that tells of the recorder last; `last` may lie ahead."""
    begun: list[tuple[int, int, int]] = db.execute(
        """SELECT start_us, end_us, created_us FROM segment
            WHERE camera_no = ? AND start_us <= ? ORDER BY start_us DESC LIMIT ?""",
        (camera_no, now_us, LATEST_SEGMENTS),
    ).fetchall()
    return max([last, *begun], key=_heard_us)


def _heard_us(row: tuple[int, int, int]) -> int:
    _, end_us, created_us = row
    return min(end_us, created_us)


def _bit_rate(db: sqlite3.Connection, camera_no: int) -> float | None:
    size, duration_us = db.execute(
        """SELECT sum(size_bytes), sum(end_us - start_us) FROM (
               SELECT size_bytes, start_us, end_us FROM segment
                WHERE camera_no = ? ORDER BY start_us DESC LIMIT ?)""",
        (camera_no, RATE_SEGMENTS),
    ).fetchone()
    return None if not duration_us else size * 8 / (duration_us / 1_000_000)
