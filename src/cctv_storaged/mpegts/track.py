"""The clocks of a transport stream at the two ends of a file: PES time stamps and program clock references.

ISO/IEC 13818-1, 2.4.3.6 and 2.4.3.7 (PES), 2.4.2.2 (PCR). Windows of packets in, ticks of 90 kHz out. Knows
nothing of codecs. Both clocks wrap every 26.5 hours; differences are taken modulo that.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import median_low

from cctv_storaged.mpegts.packets import Window

WRAP = 1 << 33
LONGEST_TICKS = WRAP // 2  # 13 hours: what looks longer is a clock that ran backwards
_UNITS_LOOKED_AT = 32  # a decoder holds back 16 frames at most, of two fields each
_REORDERED_TICKS = 90_000  # muxers that leave out decoding times seem to run back within this
_SPREAD_BYTES = 32 * 204  # how far on the rest of a header is looked for
_LONGEST_STAMPS = 19  # a PES header up to the end of its decoding time


@dataclass(frozen=True, slots=True)
class Unit:
    """A PES packet that has times, as ticks of 90 kHz modulo WRAP."""

    presented: int
    decoded: int
    size_bytes: int  # of the whole PES packet; 0 where it does not say, as is usual with video


@dataclass(frozen=True, slots=True)
class Track:
    """The first and the last units of one stream, both in decoding order."""

    first: tuple[Unit, ...]
    last: tuple[Unit, ...]
    steady: bool  # as many bytes for each second, as sound has

    @property
    def has_times(self) -> bool:
        return bool(self.first and self.last)

    @property
    def ticks(self) -> int | None:
        """From the first presentation to the end of the last frame; None where the stamps cannot tell."""
        if not self.has_times or (frame := self._last_frame_ticks()) is None:
            return None
        ticks = (self._end() - self.start) % WRAP + frame
        return ticks if ticks <= LONGEST_TICKS else None

    @property
    def runs_backwards(self) -> bool:
        """Whether time begins anew within sight."""
        return any(
            ticks_between(earlier.decoded, later.decoded) < -_REORDERED_TICKS
            for units in (self.first, self.last)
            for earlier, later in pairwise(units)
        )

    @property
    def wants_head(self) -> bool:
        """Whether a frame shown before the first one seen may still follow.

        No frame is shown before it is decoded, so none can once decoding has reached the earliest time.
        """
        if not self.first:
            return True
        start = self.start
        reached = any(ticks_between(start, unit.decoded) >= 0 for unit in self.first)
        return not reached and len(self.first) < _UNITS_LOOKED_AT

    @property
    def wants_tail(self) -> bool:
        """Whether a frame shown after the last one seen may lie before these.

        Frames are shown as long after they are decoded at the end of a stream as at its beginning, so where
        the last one seen is shown sooner, a later one is missing. Also where no two frames are in sight.
        """
        if not self.last or (frame := self._last_frame_ticks()) is None:
            return True
        if not self.first:
            return False
        delay = ticks_between(self.first[0].decoded, self.start)
        seen = ticks_between(self.last[-1].decoded, self._end())
        return seen < delay - frame // 2 and len(self.last) < _UNITS_LOOKED_AT

    @property
    def start(self) -> int:
        """The earliest presentation; there must be one."""
        return _extreme(self.first, min)

    def _end(self) -> int:
        return _extreme(self.last, max)

    def _last_frame_ticks(self) -> int | None:
        rated = _rated_ticks(self.last) if self.steady else None
        return rated or _usual_ticks(self.last) or _usual_ticks(self.first)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a program's clock reference says."""

    ticks: int | None  # from the first to the last reference, modulo WRAP; None where there are not two
    discontinuity: bool  # another time base is announced after the file's start


def ticks_between(earlier: int, later: int) -> int:
    """From one stamp to another, negative if it lies before: the shorter way round the wrap."""
    return (later - earlier + WRAP // 2) % WRAP - WRAP // 2


def read_track(opening: Window, closing: Window, pid: int, *, steady: bool) -> Track:
    first = islice(_units(opening, pid, opening.unit_starts(pid)), _UNITS_LOOKED_AT)
    last = islice(_units(closing, pid, closing.unit_starts_backwards(pid)), _UNITS_LOOKED_AT)
    return Track(tuple(first), tuple(reversed(tuple(last))), steady)


def read_reference(opening: Window, closing: Window, pid: int) -> Reference:
    first, last = list(opening.with_adaptation(pid)), list(closing.with_adaptation(pid))
    start, end = _first_clock(opening, first), _first_clock(closing, reversed(last))
    ticks = None if start is None or end is None else (end - start) // 300 % WRAP
    # The very first packet may well announce a new time base: it begins one.
    later = last if closing.data is not opening.data else []
    jumps = any(map(opening.says_discontinuity, first[1:])) or any(map(closing.says_discontinuity, later))
    return Reference(ticks or None, jumps)


def pes_header(window: Window, pid: int, at: int) -> bytes | None:
    """The PES packet's header from its start code on; None where none begins at this packet's payload."""
    header = window.payload(at)
    if len(header) < _LONGEST_STAMPS:  # a header may be spread over packets, though hardly any muxer does it
        pieces = islice(window.payloads(pid, since=at, until=at + _SPREAD_BYTES), 4)
        header = b"".join(piece for _, piece in pieces)
    if header[:3] != b"\0\0\1" or len(header) < 9 or header[6] & 0xC0 != 0x80:
        return None
    return header[: 9 + header[8]]


def elementary_bytes(window: Window, pid: int, *, since: int) -> Iterator[bytes]:
    """What a stream's packets carry from `since` on, without the PES headers."""
    for begins, payload in window.payloads(pid, since=since):
        yield payload[9 + payload[8] :] if begins and len(payload) > 9 else payload


def units_at(window: Window, pid: int) -> Iterator[tuple[int, Unit]]:
    """The stream's units that have times, each with the offset of its first packet's sync byte."""
    for at in window.unit_starts(pid):
        if (header := pes_header(window, pid, at)) and (unit := unit_of(header)):
            yield at, unit


def _units(window: Window, pid: int, offsets: Iterable[int]) -> Iterator[Unit]:
    for at in offsets:
        if (header := pes_header(window, pid, at)) and (unit := unit_of(header)):
            yield unit


def unit_of(header: bytes) -> Unit | None:
    """The times that a PES header gives; None where the header has no presentation time."""
    if len(header) < 14 or not header[7] & 0x80:
        return None
    presented = _stamp(header, 9)
    decoded = _stamp(header, 14) if header[7] & 0x40 and len(header) >= _LONGEST_STAMPS else presented
    return Unit(presented, decoded, int.from_bytes(header[4:6], "big"))


def _stamp(header: bytes, at: int) -> int:
    """Thirty-three bits in three groups, with a marker bit after each."""
    bits = int.from_bytes(header[at : at + 5], "big")
    return (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7FFF) << 15 | bits >> 1 & 0x7FFF


def _first_clock(window: Window, offsets: Iterable[int]) -> int | None:
    return next((pcr for at in offsets if (pcr := window.clock_reference(at)) is not None), None)


def _extreme(units: tuple[Unit, ...], choose: Callable[[Iterable[int]], int]) -> int:
    """The earliest (min) or latest (max) presentation time, whatever wraps in between."""
    base = units[0].presented
    return (base + choose(ticks_between(base, unit.presented) for unit in units)) % WRAP


def _usual_ticks(units: tuple[Unit, ...]) -> int | None:
    """The usual time between one frame and the next as shown; None where there are not two."""
    times = sorted({ticks_between(units[0].presented, unit.presented) for unit in units})
    return median_low(b - a for a, b in pairwise(times)) if len(times) > 1 else None


def _rated_ticks(units: tuple[Unit, ...]) -> int | None:
    """The last unit's time from its size, where all say theirs: sound is packed many frames to a unit."""
    if len(units) < 2 or not all(unit.size_bytes for unit in units):
        return None
    ticks = ticks_between(units[0].presented, units[-1].presented)
    return ticks * units[-1].size_bytes // sum(unit.size_bytes for unit in units[:-1])
