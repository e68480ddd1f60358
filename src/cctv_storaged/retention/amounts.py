"""How much footage. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from cctv_storaged.quantities import lasting_text, size_text

DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """So many segments, their bytes, and how long they last together."""

    segments: int = 0
    bytes: int = 0
    duration: timedelta = timedelta(0)

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            segments=self.segments + other.segments,
            bytes=self.bytes + other.bytes,
            duration=self.duration + other.duration,
        )

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(
            segments=self.segments - other.segments,
            bytes=self.bytes - other.bytes,
            duration=self.duration - other.duration,
        )

    def __bool__(self) -> bool:
        return self.segments > 0

    @property
    def days(self) -> float:
        """Camera-days."""
        return self.duration.total_seconds() / DAY_S

    def __str__(self) -> str:
        footage = f"{lasting_text(self.duration)} of footage"
        return f"{self.segments:,} segments, {size_text(self.bytes)}, {footage}"


NOTHING = Amount()
