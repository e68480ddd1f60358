"""Transport packets in a stretch of bytes: where they lie, which belong to a PID, what they carry.

ISO/IEC 13818-1, 2.4.3 (packets and adaptation fields). In go bytes, out come offsets and payloads. Knows
nothing of programs, codecs or time. Packets are found by slicing columns out of the grid and searching those
in C; Python code runs once per packet wanted, not once per packet passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

PACKET_BYTES = 188
_SYNC = 0x47
_SURE_PACKETS = 4  # this many sync bytes in a row are no accident


@dataclass(frozen=True, slots=True)
class Framing:
    """How packets follow each other: every `stride` bytes, the sync byte `lead` bytes into each."""

    stride: int
    lead: int = 0


PLAIN = Framing(PACKET_BYTES)
M2TS = Framing(192, lead=4)  # 4 bytes of arrival time before each packet (Blu-ray, AVCHD)
FEC = Framing(204)  # 16 bytes of Reed-Solomon after each packet (DVB)
_FRAMINGS = (PLAIN, M2TS, FEC)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a file, and the runs of packets in it: each a range over the offsets of sync bytes."""

    data: bytes
    framing: Framing
    runs: tuple[range, ...]

    @property
    def ragged_bytes(self) -> int:
        """Bytes after the last whole packet."""
        if not self.runs:
            return len(self.data)
        return len(self.data) - (self.runs[-1][-1] + self.framing.stride - self.framing.lead)

    def packets(self, pid: int, *, since: int = 0, until: int | None = None) -> Iterator[int]:
        """Offsets of the PID's packets, from offset `since` on and before `until`."""
        for run in self.runs:
            end = len(run) if until is None else _index(run, until)
            if part := run[_index(run, since) : end]:
                yield from self._with_pid(part, pid, 1, _pid_high(pid >> 8))

    def unit_starts(self, pid: int) -> Iterator[int]:
        """Offsets of the PID's packets in which a PES packet or a section begins."""
        for run in self.runs:
            yield from self._with_pid(run, pid, 1, _unit_start(pid >> 8))

    def unit_starts_backwards(self, pid: int) -> Iterator[int]:
        for run in reversed(self.runs):
            yield from reversed(list(self._with_pid(run, pid, 1, _unit_start(pid >> 8))))

    def with_adaptation(self, pid: int) -> Iterator[int]:
        """Offsets of the PID's packets that have an adaptation field, hence perhaps a clock reference."""
        for run in self.runs:
            yield from self._with_pid(run, pid, 3, _ADAPTATION)

    def payload(self, at: int) -> bytes:
        """What the packet at this offset carries; empty where it has no payload, or claims an absurd one."""
        data, control = self.data, self.data[at + 3]
        if not control & 0x10:
            return b""
        skip = 5 + data[at + 4] if control & 0x20 else 4
        return data[at + skip : at + PACKET_BYTES]

    def payloads(self, pid: int, *, since: int = 0, until: int | None = None) -> Iterator[tuple[bool, bytes]]:
        """Payloads of the PID's packets, each with whether a unit begins in it."""
        for at in self.packets(pid, since=since, until=until):
            yield bool(self.data[at + 1] & 0x40), self.payload(at)

    def clock_reference(self, at: int) -> int | None:
        """The packet's PCR in ticks of 27 MHz (2.4.3.5: base * 300 + extension)."""
        if not self._adaptation_flags(at) & 0x10 or self.data[at + 4] < 7:
            return None
        bits = int.from_bytes(self.data[at + 6 : at + 12], "big")
        return (bits >> 15) * 300 + (bits & 0x1FF)

    def says_discontinuity(self, at: int) -> bool:
        """Whether the packet's discontinuity_indicator announces another time base."""
        return bool(self._adaptation_flags(at) & 0x80)

    def is_random_access(self, at: int) -> bool:
        """Whether the packet's random_access_indicator is set: a hint, which muxers set at their pleasure."""
        return bool(self._adaptation_flags(at) & 0x40)

    def _adaptation_flags(self, at: int) -> int:
        """The first byte of the adaptation field after its length; 0 where there is none."""
        data = self.data
        return data[at + 5] if data[at + 3] & 0x20 and data[at + 4] else 0

    def _with_pid(self, run: range, pid: int, column: int, wanted: re.Pattern[bytes]) -> Iterator[int]:
        data, high, low = self.data, pid >> 8, pid & 0xFF
        for found in wanted.finditer(data[run[0] + column : run[-1] + column + 1 : run.step]):
            at = run[found.start()]
            if data[at + 2] == low and data[at + 1] & 0x1F == high and data[at + 1] < 0x80:
                yield at


def opening_window(head: bytes) -> Window | None:
    """The start of a file as packets, None where no framing fits. Junk before the first packet is allowed."""
    for framing in _FRAMINGS:
        if run := _unbroken(head, framing.lead, framing.stride):
            return Window(head, framing, (run,))
    found = [Window(head, framing, runs) for framing in _FRAMINGS if (runs := _runs(head, framing.stride))]
    return max(found, key=lambda window: sum(map(len, window.runs)), default=None)


def closing_window(tail: bytes, framing: Framing, grid: int) -> Window:
    """The end of a file as packets: on the opening's grid (a sync byte at `grid`) unless bytes were lost."""
    run = _unbroken(tail, grid % framing.stride, framing.stride)
    return Window(tail, framing, (run,) if run else _runs(tail, framing.stride))


def _unbroken(data: bytes, first: int, stride: int) -> range | None:
    """The packets of a grid on which no sync byte is missing."""
    run = range(first, len(data) - PACKET_BYTES + 1, stride)
    if run and data[first : run[-1] + 1 : stride].count(_SYNC) == len(run):
        return run
    return None


def _runs(data: bytes, stride: int) -> tuple[range, ...]:
    """Packets found anywhere, each run long enough to be believed."""
    return tuple(
        range(found.start(), found.end() - PACKET_BYTES + 1, stride) for found in _run(stride).finditer(data)
    )


@cache
def _run(stride: int) -> re.Pattern[bytes]:
    """A run of packets; possessive, as giving back packets could only find a shorter one."""
    # The last packet of a run may lack the stride's trailing bytes.
    return re.compile(
        rb"(?s)(?:\x47.{%d}){%d,}+(?:\x47.{187})?" % (stride - 1, _SURE_PACKETS - 1)
        if stride > PACKET_BYTES
        else rb"(?s)(?:\x47.{187}){%d,}+" % _SURE_PACKETS
    )


@cache
def _pid_high(high: int) -> re.Pattern[bytes]:
    """Second bytes of packets without transport errors whose PID begins so."""
    return _any_of(high, 0x20 | high, 0x40 | high, 0x60 | high)


@cache
def _unit_start(high: int) -> re.Pattern[bytes]:
    return _any_of(0x40 | high, 0x60 | high)


def _any_of(*values: int) -> re.Pattern[bytes]:
    return re.compile(b"[" + b"".join(b"\\x%02x" % value for value in values) + b"]")


_ADAPTATION = _any_of(*(value for value in range(256) if value & 0x20))


def _index(run: range, offset: int) -> int:
    """Index of the first packet of a run at or after an offset."""
    return max(0, -((run[0] - offset) // run.step))
