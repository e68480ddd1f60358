"""The media database: what the simulator's recorder holds, in memory and bounded.

Thread-safe; times are ms since 1970 (UTC), spans are half-open. Whatever asks, REST, SOAP or the ImageServer,
is answered from here, so that sequences and pictures agree.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.faults import Faults
from tests.fakes.xprotect.pictures import Codec, Coded, Group, grouped, ms, pictures_of_ts

EVER = 2**62
"""A time in ms that nothing reaches."""


class Stretch(NamedTuple):
    """Milliseconds since 1970."""

    start_ms: int
    end_ms: int


class DatabaseFull(Exception):
    """Nothing is left that may be overwritten."""


@dataclass(frozen=True, slots=True)
class _Lock:
    cameras: frozenset[UUID]
    stretch: Stretch


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    group: Group
    since: float  # the database's clock, s: when it was added
    start_ms: int
    last_ms: int


@dataclass(slots=True)
class MediaDatabase:
    """Per camera, groups of real pictures in the order of their times."""

    faults: Faults = field(default_factory=Faults)
    assumptions: Assumptions = field(default_factory=Assumptions)
    max_bytes: int = 512 * 1024 * 1024
    clock: Callable[[], float] = time.monotonic
    _groups: dict[UUID, list[_Kept]] = field(default_factory=dict)
    _locks: dict[UUID, _Lock] = field(default_factory=dict)
    _bytes: int = 0
    _mutex: threading.RLock = field(default_factory=threading.RLock)

    def add_ts(self, camera: UUID, path: Path, start: datetime) -> int:
        """Footage from a file whose first picture was recorded at `start`; how many groups were taken.

        Runs ffmpeg: call it in a thread where a loop runs.
        """
        codec, pictures = pictures_of_ts(path, start)
        return self.add(camera, codec, pictures)

    def add(self, camera: UUID, codec: Codec, pictures: Iterable[Coded]) -> int:
        """Pictures in decoding order; how many groups were taken.

        Groups whose whole time the database already holds are skipped or not, by
        `assumptions.retrieval_over_footage`. DatabaseFull where nothing may be overwritten.
        """
        with self._mutex:
            return sum(self._add(camera, group) for group in grouped(codec, pictures))

    def add_grown_ts(self, camera: UUID, path: Path, start: datetime) -> int:
        """As `add_ts`, of a file that was added when it was shorter: what it has more."""
        codec, pictures = pictures_of_ts(path, start)
        with self._mutex:
            return sum(self._add_grown(camera, group) for group in grouped(codec, pictures))

    def groups(self, camera: UUID, start_ms: int = -EVER, end_ms: int = EVER) -> Sequence[Group]:
        """What can be read by now and overlaps the span, in order."""
        ripe = self.clock() - self.faults.database_delay_s
        with self._mutex:
            return [
                kept.group
                for kept in self._groups.get(camera, ())
                if kept.since <= ripe and kept.last_ms >= start_ms and kept.start_ms < end_ms
            ]

    def sequences(self, camera: UUID, start_ms: int = -EVER, end_ms: int = EVER) -> Sequence[Stretch]:
        """Recording sequences that overlap the span, whole: from first to last picture.

        A pause of more than `assumptions.sequences_gap_ms` ends one.
        """
        found: list[Stretch] = []
        for group in self.groups(camera):
            if found and group.start_ms - found[-1].end_ms <= self.assumptions.sequences_gap_ms:
                found[-1] = Stretch(found[-1].start_ms, max(found[-1].end_ms, group.last_ms))
            else:
                found.append(Stretch(group.start_ms, group.last_ms))
        return [one for one in found if one.end_ms > start_ms and one.start_ms < end_ms]

    def lock(self, lock_id: UUID, cameras: Iterable[UUID], start_ms: int, end_ms: int) -> None:
        """Keeps what overlaps the span from being purged or removed. The same id again replaces it."""
        with self._mutex:
            self._locks[lock_id] = _Lock(frozenset(cameras), Stretch(start_ms, end_ms))

    def unlock(self, lock_id: UUID) -> bool:
        """Whether there was such a lock."""
        with self._mutex:
            return self._locks.pop(lock_id, None) is not None

    def purge(self, now: datetime, retention: timedelta) -> int:
        """Retention: drops what was recorded before, except what is locked. How many groups went."""
        return sum(self.remove(camera, -EVER, ms(now - retention)) for camera in list(self._groups))

    def remove(self, camera: UUID, start_ms: int, end_ms: int) -> int:
        """Drops the groups that lie in the span, except what is locked. How many went."""
        with self._mutex:
            doomed = [
                kept
                for kept in self._groups.get(camera, [])
                if start_ms <= kept.start_ms and kept.last_ms < end_ms
            ]
            return sum(self._drop(camera, kept) for kept in doomed)

    @property
    def cameras(self) -> Sequence[UUID]:
        """Those that ever had footage."""
        return list(self._groups)

    @property
    def used_bytes(self) -> int:
        """Of coded pictures."""
        return self._bytes

    @property
    def locked_bytes(self) -> int:
        """Of coded pictures that a lock keeps."""
        with self._mutex:
            held = [
                kept.group.size
                for camera, all_kept in self._groups.items()
                for kept in all_kept
                if self._locked(camera, kept.group)
            ]
        return sum(held)

    def _add(self, camera: UUID, group: Group) -> bool:
        if self.assumptions.retrieval_over_footage == "skip" and self._holds(camera, group):
            return False
        while self._bytes + group.size > self.max_bytes:
            self._overwrite_oldest()
        all_kept = self._groups.setdefault(camera, [])
        at = bisect_right(all_kept, group.start_ms, key=lambda kept: kept.start_ms)
        all_kept.insert(at, _Kept(group, self.clock(), group.start_ms, group.last_ms))
        self._bytes += group.size
        return True

    def _add_grown(self, camera: UUID, group: Group) -> bool:
        for kept in [each for each in self._groups.get(camera, ()) if each.start_ms == group.start_ms]:
            if len(kept.group.pictures) >= len(group.pictures) or not self._drop(camera, kept):
                return False
        return self._add(camera, group)

    def _holds(self, camera: UUID, group: Group) -> bool:
        """Whether each of its moments is within what is there, pauses between pictures included."""
        spans = [
            (kept.start_ms, kept.last_ms + kept.group.interval_ms)
            for kept in self._groups.get(camera, ())
            if kept.start_ms <= group.last_ms and kept.last_ms + kept.group.interval_ms >= group.start_ms
        ]
        return all(any(start <= picture.time_ms <= end for start, end in spans) for picture in group.pictures)

    def _overwrite_oldest(self) -> None:
        ages = [
            (kept.start_ms, camera)
            for camera, all_kept in self._groups.items()
            for kept in all_kept
            if not self._locked(camera, kept.group)
        ]
        if not ages:
            raise DatabaseFull(f"{self._bytes} bytes are held, and what is not locked is not enough")
        start_ms, camera = min(ages)
        all_kept = self._groups[camera]
        at = bisect_left(all_kept, start_ms, key=lambda kept: kept.start_ms)
        self._drop(camera, all_kept[at])

    def _drop(self, camera: UUID, kept: _Kept) -> bool:
        if self._locked(camera, kept.group):
            return False
        self._groups[camera].remove(kept)
        self._bytes -= kept.group.size
        return True

    def _locked(self, camera: UUID, group: Group) -> bool:
        return any(
            camera in lock.cameras
            and group.start_ms < lock.stretch.end_ms
            and group.last_ms >= lock.stretch.start_ms
            for lock in self._locks.values()
        )
