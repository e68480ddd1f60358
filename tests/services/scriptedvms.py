"""A stand-in for an XProtect site that gives real groups of pictures, and what a test scripts besides.

For tests of what is built on `backends.milestone.base.Vms`; the wire has its own tests with the simulator.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from cctv_storaged.backends.milestone.base import Gop, Picture
from cctv_storaged.clock import from_us, to_us
from cctv_storaged.errors import BackendUnavailable, ObjectMissing
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import Segment, TimeSpan
from cctv_storaged.vms.paths import milestone_path
from tests.fakes.xprotect.pictures import Group, grouped, ms, pictures_of_ts

SITE = UUID("5f2c0a52-0d5c-4b37-9a53-7d3f6f6e2b01")


@dataclass(slots=True)
class ScriptedVms:
    """What it holds, by camera, and how it answers."""

    groups: dict[UUID, list[Group]] = field(default_factory=dict)
    bunched: bool = False
    fails: Exception | None = None  # instead of an answer
    fails_after: int | None = None  # groups, and then with `fails`
    asked: list[tuple[UUID, TimeSpan, UUID | None]] = field(default_factory=list)
    hold: asyncio.Event | None = None  # waited for before the first group
    location: str = "vms.example"
    pause_ms: int = 3000  # a longer one ends a recording

    def record(self, camera: UUID, path: Path, start: datetime) -> None:
        """A transport stream whose first picture was recorded then."""
        self.groups.setdefault(camera, []).extend(grouped(*pictures_of_ts(path, start)))

    def lose(self, camera: UUID, *, before: datetime) -> None:
        """Its retention takes what ended before."""
        self.groups[camera] = [group for group in self.groups[camera] if group.last_ms >= ms(before)]

    async def recorded(self, camera: UUID, span: TimeSpan) -> Sequence[TimeSpan]:
        found: list[TimeSpan] = []
        for group in self.groups.get(camera, []):
            own = TimeSpan(from_us(1000 * group.start_ms), from_us(1000 * group.last_ms + 1000))
            if found and own.start - found[-1].end <= timedelta(milliseconds=self.pause_ms):
                own = TimeSpan(found.pop().start, own.end)
            found.append(own)
        clipped = [(max(each.start, span.start), min(each.end, span.end)) for each in found]
        return [TimeSpan(start, end) for start, end in clipped if start < end]

    @asynccontextmanager
    async def footage(
        self, camera: UUID, span: TimeSpan, stream: UUID | None = None
    ) -> AsyncIterator[AsyncIterator[Gop]]:
        self.asked.append((camera, span, stream))
        if self.fails is not None and self.fails_after is None:
            raise self.fails
        wanted = _overlapping(self.groups.get(camera, []), span)
        if not wanted:
            raise ObjectMissing(f"no footage of {camera} in {span}")
        yield self._given(wanted)

    async def _given(self, groups: Sequence[Group]) -> AsyncIterator[Gop]:
        if self.hold is not None:
            await self.hold.wait()
        for number, group in enumerate(groups):
            if self.fails is not None and number == self.fails_after:
                raise self.fails
            yield _gop(group, bunched=self.bunched)

    async def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        async def away(*arguments: object) -> None:
            raise BackendUnavailable(f"the stand-in has no {name}")

        return away


def _overlapping(groups: Sequence[Group], span: TimeSpan) -> list[Group]:
    """Those that begin in the span, and the one before it that leads to its start."""
    start, end = ms(span.start), ms(span.end)
    before = [group for group in groups if group.start_ms <= start]
    leading = [group for group in before[-1:] if group.last_ms >= start - 3000]
    return leading + [group for group in groups if start < group.start_ms < end]


def _gop(group: Group, *, bunched: bool) -> Gop:
    times = group.arrivals_ms() if bunched else [picture.time_ms for picture in group.pictures]
    return Gop(
        previous_ms=group.start_ms,
        current_ms=group.start_ms,
        next_ms=group.start_ms,
        pictures=tuple(
            Picture(time_ms=time_ms, key=picture.key, codec=group.codec, data=picture.data)
            for time_ms, picture in zip(times, group.pictures, strict=True)
        ),
    )


async def only_in_vms(journal: Journal, segment_id: UUID, camera: UUID) -> Segment:
    """From now on the segment has no bytes but at MILESTONE, as the journal knows it."""
    segment = await journal.segments.by_id(segment_id)
    assert segment is not None
    path = milestone_path(SITE, camera, segment.span)
    await journal._store.write(lambda db: _moved(db, segment, path))
    Path(segment.source.root, segment.source.path).unlink(missing_ok=True)
    found = await journal.segments.by_id(segment_id)
    assert found is not None
    return found


def _moved(db: sqlite3.Connection, segment: Segment, path: str) -> None:
    (no,) = db.execute("SELECT no FROM segment WHERE id = ?", (segment.id.bytes,)).fetchone()
    db.execute("UPDATE segment SET source_state = 'pruned' WHERE no = ?", (no,))
    db.execute("DELETE FROM copy WHERE segment_no = ?", (no,))
    now_us, start_us = to_us(segment.span.end), to_us(segment.span.start)
    db.execute(
        """INSERT INTO copy (segment_no, backend, state, path, start_us, size_bytes, stored_us, verified_us)
           VALUES (?, 'MILESTONE', 'verified', ?, ?, ?, ?, ?)""",
        (no, path, start_us, segment.size_bytes, now_us, now_us),
    )
