"""How fast to read back, and how far a rotation is. Pure."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from cctv_storaged.clock import from_us, to_us

AHEAD = 1.1
"""So much faster than a whole rotation needs: pauses take their time as well."""
LEAST_BYTES_PER_S = 1000.0
"""A rotation over a few segments does not take its whole time."""
LONGEST_CREDIT_S = 600.0
"""Time that was not used is not made up for beyond this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How far the scrub of one backend is; kept in the journal."""

    cursor: int = 0  # the number of the last segment that was read back
    begun_us: int | None = None  # None: no rotation ever began
    before_begun_us: int | None = None  # of the rotation before
    before_ended_us: int | None = None
    before_last: int = 0  # the highest segment number then

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | None) -> "Rotation":
        """What does not make sense is a rotation that has not begun."""
        try:
            said = json.loads(text or "{}")
            return cls(**{name: said[name] for name in cls.__slots__ if isinstance(said.get(name), int)})
        except (ValueError, TypeError, AttributeError):
            return cls()

    def begun(self, now: datetime) -> "Rotation":
        return self if self.begun_us is not None else replace(self, begun_us=to_us(now))

    @property
    def lasted(self) -> timedelta:
        """Of the rotation before."""
        begun, ended = self.before_begun_us, self.before_ended_us
        return timedelta(microseconds=0 if begun is None or ended is None else ended - begun)

    def over(self, now: datetime) -> "Rotation":
        """The next one begins at once; what this one was is remembered."""
        return Rotation(
            begun_us=to_us(now),
            before_begun_us=self.begun_us,
            before_ended_us=to_us(now),
            before_last=self.cursor,
        )


def bytes_per_s(total_bytes: int, rotation: timedelta, limit: float | None) -> float:
    """How fast to read so that all of it is read within the rotation, as far as the limit allows."""
    wanted = max(LEAST_BYTES_PER_S, AHEAD * total_bytes / rotation.total_seconds())
    return wanted if limit is None else min(wanted, limit)


def read_before(rotation: Rotation, number: int) -> datetime | None:
    """About when the rotation before this one read a segment back; None where it did not."""
    begun, ended = rotation.before_begun_us, rotation.before_ended_us
    if begun is None or ended is None or number > rotation.before_last:
        return None
    share = number / max(1, rotation.before_last)
    return from_us(begun + int((ended - begun) * share))


@dataclass(slots=True)
class Credit:
    """Bytes that may be read by now; below zero after a large segment."""

    at_s: float | None = None
    bytes: float = 0.0

    def earned(self, now_s: float, rate: float) -> bool:
        """Whether anything may be read now."""
        passed_s = 0.0 if self.at_s is None else max(0.0, now_s - self.at_s)
        self.at_s = now_s
        self.bytes = min(self.bytes + passed_s * rate, LONGEST_CREDIT_S * rate)
        return self.bytes >= 0

    def spent(self, size_bytes: int) -> None:
        self.bytes -= size_bytes
