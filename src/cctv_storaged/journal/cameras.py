"""Cameras as the journal has seen them: footage from, to, how much."""

import os
import sqlite3
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.clock import from_us
from cctv_storaged.journal.segments import ensure_camera
from cctv_storaged.journal.store import Store
from cctv_storaged.model import Camera, TimeSpan

RATE_SEGMENTS = 100
"""The bit rate is measured over so many of a camera's newest segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFootage:
    """A camera and what the journal holds of it."""

    camera: Camera
    segments: int
    bytes: int
    footage: TimeSpan | None  # from its first to its last segment, whatever lies between
    bit_rate: float | None  # bits per second over the newest segments


class Cameras:
    """The cameras of this host."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ensure(self, camera: Camera) -> None:
        """Makes the camera known, so that it is listed before its first segment."""
        await self._store.write(lambda db: ensure_camera(db, camera))

    async def all(self) -> list[CameraFootage]:
        """Every camera by name."""
        return await self._store.read(lambda db: _footage(db, "1 = 1 ORDER BY name, id"))

    async def by_id(self, camera_id: UUID) -> CameraFootage | None:
        """One camera, None where this host has none of that id."""
        found = await self._store.read(lambda db: _footage(db, "id = ?", camera_id.bytes))
        return found[0] if found else None


def _footage(db: sqlite3.Connection, where: str, *parameters: object) -> list[CameraFootage]:
    rows = db.execute(
        f"SELECT no, id, name, folder, segments, bytes FROM camera WHERE {where}", parameters
    ).fetchall()
    return [
        CameraFootage(
            camera=Camera(id=UUID(bytes=id_), name=name, folder=os.fsdecode(folder)),
            segments=segments,
            bytes=size,
            footage=_first_to_last(db, no),
            bit_rate=_bit_rate(db, no),
        )
        for no, id_, name, folder, segments, size in rows
    ]


def _first_to_last(db: sqlite3.Connection, camera_no: int) -> TimeSpan | None:
    first = db.execute("SELECT min(start_us) FROM segment WHERE camera_no = ?", (camera_no,)).fetchone()[0]
    last = db.execute(
        "SELECT end_us FROM segment WHERE camera_no = ? ORDER BY start_us DESC LIMIT 1", (camera_no,)
    ).fetchone()
    return None if first is None else TimeSpan(from_us(first), from_us(last[0]))


def _bit_rate(db: sqlite3.Connection, camera_no: int) -> float | None:
    size, duration_us = db.execute(
        """SELECT sum(size_bytes), sum(end_us - start_us) FROM (
               SELECT size_bytes, start_us, end_us FROM segment
                WHERE camera_no = ? ORDER BY start_us DESC LIMIT ?)""",
        (camera_no, RATE_SEGMENTS),
    ).fetchone()
    return None if not duration_us else size * 8 / (duration_us / 1_000_000)
