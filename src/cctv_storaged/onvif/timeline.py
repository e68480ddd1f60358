"""When each picture of a row of segments was recorded. Pure.

A picture's time is its segment's start and what its stamp says since the segment's first picture: the times
that the journal has, so that what the VMS holds afterwards is the span that it is asked for. Recorders name
files by whole seconds: a segment that would begin up to a second before the one before it ended begins where
that ended. What overlaps by more was recorded twice, and is sent once.
"""

from dataclasses import dataclass

from cctv_storaged.mpegts.track import ticks_between
from cctv_storaged.mpegts.units import AccessUnit

TOLERANCE_US = 1_000_000
"""Less is neither a gap nor an overlap (media/splice.py)."""
_RAN_BACK_US, _JUMPED_US = 500_000, 60_000_000  # of a stream's clock within a segment
_USUAL_FRAME_US = 40_000
_LATE_US = 5_000_000  # how far a stream may reach beyond the end that its segment is known to have


@dataclass(frozen=True, slots=True)
class Placed:
    """An access unit and its times: microseconds since 1970-01-01T00:00Z."""

    unit: AccessUnit
    time_us: int  # when the picture was recorded
    decode_us: int
    after_gap: bool  # does not follow what came before


class Timeline:
    """Places pictures, segment by segment; leaves out what cannot be decoded or was sent already."""

    def __init__(self) -> None:
        self._since_us: int | None = None  # no key frame before this will do
        self._end_us: int | None = None  # of what was placed so far
        self._base_us = 0
        self._limit_us = 0
        self._first_ticks = 0
        self._last_decode_us: int | None = None  # within the segment
        self._frame_us = _USUAL_FRAME_US
        self._awaits_key = True
        self._floor_us = 0  # what is shown before it needs what is not sent
        self._gap = False
        self._due_ticks: int | None = None  # where the stream's clock goes on

    def enter(self, start_us: int, end_us: int, ticks: int) -> None:
        """A segment begins: its span, and its stream's earliest time.

        Where the stream's clock goes on its pictures may need those before. One that begins within a group
        has no parameter sets by which to tell, and any other begins with a key picture.
        """
        self._base_us, self._first_ticks, self._last_decode_us = start_us, ticks, None
        if self._end_us is not None:
            overlap = self._end_us - start_us
            if 0 < overlap <= TOLERANCE_US:
                self._base_us = self._end_us
            if overlap > TOLERANCE_US:
                self._await_key(self._end_us)
            elif overlap < -TOLERANCE_US:
                self._await_key(None)
                self._gap = True
            elif not self._clock_goes_on(ticks):
                self._await_key(None)
        self._limit_us = self._base_us + (end_us - start_us) + _LATE_US

    def begin_at(self, ticks: int) -> None:
        """Of the segment that was entered, nothing before the key frame with this time is wanted."""
        self._await_key(self._base_us + _as_us(ticks_between(self._first_ticks, ticks)))

    def lost(self) -> None:
        """What follows does not follow what came before: something between could not be read."""
        self._await_key(None)
        self._gap = True

    def place(self, unit: AccessUnit) -> Placed | None:
        """The picture with its times; None where it is left out."""
        decode_us, time_us = self._mended(unit)
        if self._awaits_key:
            too_early = self._since_us is not None and time_us < self._since_us
            if not unit.key or too_early:
                return None
            self._awaits_key, self._floor_us, self._since_us = False, time_us, None
        if time_us < self._floor_us:
            return None
        end_us = time_us + self._frame_us
        if self._end_us is None or end_us > self._end_us:
            self._end_us = end_us
            self._due_ticks = unit.pts + self._frame_us * 9 // 100
        placed = Placed(unit, time_us, decode_us, self._gap)
        self._gap = False
        return placed

    def _await_key(self, since_us: int | None) -> None:
        self._awaits_key, self._since_us = True, since_us

    def _clock_goes_on(self, ticks: int) -> bool:
        return self._due_ticks is not None and abs(ticks_between(self._due_ticks, ticks)) <= 45_000

    def _mended(self, unit: AccessUnit) -> tuple[int, int]:
        """Decoding and presentation; a clock that jumps within a segment goes on where it was."""
        decode_us = self._base_us + _as_us(ticks_between(self._first_ticks, unit.dts))
        if self._last_decode_us is not None:
            step_us = decode_us - self._last_decode_us
            if not -_RAN_BACK_US <= step_us <= _JUMPED_US or decode_us > self._limit_us:
                self._base_us += self._frame_us - step_us
                decode_us = self._last_decode_us + self._frame_us
            elif 0 < step_us <= TOLERANCE_US:
                self._frame_us = step_us
        self._last_decode_us = decode_us
        return decode_us, self._base_us + _as_us(ticks_between(self._first_ticks, unit.pts))


def _as_us(ticks: int) -> int:
    return ticks * 100 // 9
