"""How full a volume is allowed to be, and when it has been cleaned enough. Pure.

A level asks for free bytes: a share of the volume, or what its cameras write in a time, whichever is more.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

CLEANED = 1.5
"""Cleaning goes on until so many times the level that began it is free."""
WARNED = 1.1
"""A warning ends above so many times its level: a disk that wavers there is told once."""
MOST_BY_TIME = {"warn": 1 / 2, "clean": 1 / 4, "emergency": 1 / 8}
"""Of the volume: on a small one, hours of many cameras would be more than all of it."""


class Level(IntEnum):
    """How things stand with a volume."""

    WELL = 0
    LOW = 1  # somebody should know
    CLEAN = 2  # what may go, goes early
    EMERGENCY = 3  # `on_full` decides


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a level begins: at this free share, or with so much time left."""

    share: float
    left: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Those of the settings; each asks for no more than the one before."""

    warn: Limit
    clean: Limit
    emergency: Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Free bytes of one volume below which each level begins."""

    total_bytes: int
    warn_bytes: int
    clean_bytes: int
    emergency_bytes: int

    @property
    def warned_bytes(self) -> int:
        """Above so many the warning ends."""
        return self._beyond(self.warn_bytes, WARNED)

    @property
    def cleaned_bytes(self) -> int:
        """With so many free nothing more has to go early."""
        return self._beyond(self.clean_bytes, CLEANED)

    @property
    def rescued_bytes(self) -> int:
        """With so many free nothing more is given up."""
        return self._beyond(self.emergency_bytes, CLEANED)

    def _beyond(self, mark: int, factor: float) -> int:
        """A high mark must not ask for more than the whole volume."""
        return min(round(mark * factor), mark + (self.total_bytes - mark) // 2)


def marks(limits: Limits, total_bytes: int, rate: float | None) -> Marks:
    """`rate`: bytes per second recorded onto the volume; None: not known, then shares alone count."""

    def mark(name: str, limit: Limit) -> int:
        by_share = round(limit.share * total_bytes)
        by_time = 0 if rate is None else round(limit.left.total_seconds() * max(0.0, rate))
        return max(by_share, min(by_time, round(MOST_BY_TIME[name] * total_bytes)))

    return Marks(
        total_bytes=total_bytes,
        warn_bytes=mark("warn", limits.warn),
        clean_bytes=mark("clean", limits.clean),
        emergency_bytes=mark("emergency", limits.emergency),
    )


def judged(before: Level, free_bytes: int, found: Marks) -> Level:
    """The level now; `before` tells which has begun already and ends only where it has its margin."""

    def stands(level: Level, begins: int, ends: int) -> bool:
        return free_bytes < (ends if before >= level else begins)

    if stands(Level.EMERGENCY, found.emergency_bytes, found.rescued_bytes):
        return Level.EMERGENCY
    if stands(Level.CLEAN, found.clean_bytes, found.cleaned_bytes):
        return Level.CLEAN
    if stands(Level.LOW, found.warn_bytes, found.warned_bytes):
        return Level.LOW
    return Level.WELL
