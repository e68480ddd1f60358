"""A transport stream moved to another clock while it passes, so that segments play on from each other.

Packets in, packets out: every PTS, DTS and PCR is shifted (ISO/IEC 13818-1, 2.4.3.5 and 2.4.3.7), sounds from
before the beginning or heard already and everything from behind the end are left out, and what is not a
packet goes. Pictures and sounds themselves are not touched. Python runs once per unit, not once per packet:
offsets of interest are found by slicing columns out of the packets.

Times here are ticks of 90 kHz on the clock that comes out, below 2**33: a result is at most a day long.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cctv_storaged.mpegts.packets import PACKET_BYTES, PLAIN, closing_window
from cctv_storaged.mpegts.seek import StreamMap
from cctv_storaged.mpegts.track import WRAP, ticks_between

TICKS_PER_S = 90_000
_SYNC = 0x47
_UNIT_STARTS = re.compile(rb"[\x40-\x7f]")  # second bytes: no transport error, a unit begins
_ADAPTATIONS = re.compile(rb"[\x20-\x3f\x60-\x7f\xa0-\xbf\xe0-\xff]")  # fourth bytes: an adaptation field
_RAN_BACK_TICKS = TICKS_PER_S // 2
_JUMPED_TICKS = 60 * TICKS_PER_S  # from one picture to the next: more is a clock that jumped, not time
_AWAITED_TICKS = 2 * TICKS_PER_S  # how far sounds may lag behind the picture in a file
_APART_TICKS = 10 * TICKS_PER_S  # stamps that belong together and lie farther apart were damaged
_SLOWEST_TICKS = 10 * TICKS_PER_S  # from one picture to the next, where that is their usual distance
_ANNOUNCED_WITHIN_BYTES = 4 * 2**20
_RESYNC_BYTES = 8 * 204


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where the stream goes on the other clock, and which part of it is wanted."""

    shift: int  # added to every time, modulo 2**33
    since: int  # sounds before are left out; pictures are not
    until: int | None = None  # what is decoded from here on is left out
    latest: int | None = None  # a leap beyond is no hole but a clock that jumped
    mends: bool = True  # whether jumps are put right


class Retimed:
    """One file on its way; `feed` it in order, from a packet's first byte on."""

    def __init__(self, stream: StreamMap, cut: Cut, heard: dict[int, int] | None = None) -> None:
        """`heard`: of each sound, the time on the other clock up to which it was let through; kept up."""
        assert stream.main is not None
        self._framing = stream.framing
        self._main = stream.main.pid
        self._pcr = stream.program.pcr_pid
        self._pids = frozenset(each.pid for each in stream.streams)
        self._shift = cut.shift % WRAP
        self._cut = cut
        self._shut = {each.pid for each in stream.streams} - {self._main}
        self._over: set[int] = set()
        self._turns: list[tuple[int, int]] = []  # offset and PID: from there on it is let through, or not
        self._rest = b""
        self._unannounced = set(self._pids)
        self._look_bytes = _ANNOUNCED_WITHIN_BYTES
        self._latest: int | None = None  # when the last unit of the main stream was decoded
        self._step = 0  # from the one before to that
        self._heard = {} if heard is None else heard
        self._sounded: dict[int, int] = {}  # the same, of this file alone
        self.frame = 0
        """The time from one unit to the next."""
        self.units = 0
        """Of the main stream, let through."""
        self.first: int | None = None
        self.last: int | None = None
        """Earliest and latest presentation of those."""
        self.holes: list[tuple[int, int]] = []
        """From the end of one unit to the start of the next, where more than a second is missing."""
        self.jumps = 0
        """Times the stream's own clock jumped within the file, and was put right."""
        self.lost_bytes = 0
        """That were no packets."""
        self.done = False
        """Nothing that follows is wanted."""

    @property
    def end(self) -> int | None:
        """When the last unit ends."""
        return None if self.last is None else self.last + self.frame

    @property
    def is_cut(self) -> bool:
        """Whether the main stream reached what is not wanted any more."""
        return self._main in self._over

    @property
    def shift(self) -> int:
        """As it is now: a jump changes it."""
        return self._shift

    def feed(self, data: bytes) -> bytes | bytearray:
        """The packets that are whole by now, on the other clock."""
        if self.done:
            return b""
        packets = self._whole_packets(data)
        if self._unannounced:
            packets = self._bridged(packets)
        shut_before = frozenset(self._shut | self._over)
        self._turns.clear()
        for at in _marks(packets):
            self._look_at(packets, at)
        if shut_before or self._turns:
            return b"".join(self._let_through(packets, set(shut_before)))
        return packets

    # Packets

    def _whole_packets(self, data: bytes) -> bytearray:
        """As many as there are, 188 bytes each; what is left over waits."""
        packets, stride = bytearray(self._rest), self._framing.stride
        packets += data  # the one copy that is made of most bytes
        whole = len(packets) - len(packets) % stride
        grid = packets[self._framing.lead : whole : stride]
        if grid.count(_SYNC) != len(grid):
            return self._found_again(bytes(packets))
        self._rest = bytes(packets[whole:])
        del packets[whole:]
        if self._framing == PLAIN:
            return packets
        starts = range(self._framing.lead, whole, stride)
        return bytearray(b"".join(packets[at : at + PACKET_BYTES] for at in starts))

    def _found_again(self, data: bytes) -> bytearray:
        """Packets between garbage."""
        runs = closing_window(data, self._framing, self._framing.lead).runs
        offsets = [at for run in runs for at in run]
        behind = offsets[-1] - self._framing.lead + self._framing.stride if offsets else 0
        behind = min(max(behind, len(data) - _RESYNC_BYTES), len(data))
        self.lost_bytes += max(0, behind - len(offsets) * self._framing.stride)
        self._rest = data[behind:]
        return bytearray(b"".join(data[at : at + PACKET_BYTES] for at in offsets))

    def _let_through(self, packets: bytearray, shut: set[int]) -> Iterator[bytes]:
        """What is wanted of packets among which the wanted PIDs change."""
        turns = iter([*self._turns, (len(packets), -1)])
        turn, changing = next(turns)
        for at in range(0, len(packets), PACKET_BYTES):
            while at == turn:
                shut ^= {changing}
                turn, changing = next(turns)
            if (packets[at + 1] & 0x1F) << 8 | packets[at + 2] not in shut:
                yield bytes(packets[at : at + PACKET_BYTES])

    def _bridged(self, packets: bytearray) -> bytearray:
        """In front of each stream's first packet: an announcement that its counter begins anew (2.4.3.4)."""
        pieces: list[bytes | bytearray] = []
        last = 0
        for at in range(0, len(packets), PACKET_BYTES):
            pid = (packets[at + 1] & 0x1F) << 8 | packets[at + 2]
            if pid in self._unannounced and packets[at + 3] & 0x10:
                counter = (packets[at + 3] - 1) & 0x0F
                pieces += [packets[last:at], _announcement(pid, counter)]
                last = at
                self._unannounced.discard(pid)
                if not self._unannounced:
                    break
        self._look_bytes -= len(packets)
        if self._look_bytes < 0:
            self._unannounced.clear()  # a stream that the tables name and that is not there
        return bytearray().join((*pieces, packets[last:])) if pieces else packets

    # Times

    def _look_at(self, packets: bytearray, at: int) -> None:
        pid = (packets[at + 1] & 0x1F) << 8 | packets[at + 2]
        if pid not in self._pids and pid != self._pcr:
            return
        control, header = packets[at + 3], at + 4
        if control & 0x20:
            header += 1 + packets[at + 4]
        begins = packets[at + 1] & 0x40 and control & 0x10 and _has_time(packets, header, at + PACKET_BYTES)
        if begins:
            self._unit(packets, at, pid, header)
        if pid == self._pcr and control & 0x20 and packets[at + 4] >= 7 and packets[at + 5] & 0x10:
            bits = int.from_bytes(packets[at + 6 : at + 12], "big")
            moved = ((bits >> 15) + self._shift) % WRAP << 15 | bits & 0x7FFF
            packets[at + 6 : at + 12] = moved.to_bytes(6, "big")

    def _unit(self, packets: bytearray, at: int, pid: int, header: int) -> None:
        """A unit with a time begins: moves it, and decides whether it is wanted."""
        flags = packets[header + 7]
        has_decoding = flags & 0x40 and header + 19 <= at + PACKET_BYTES
        presented = _stamp(packets, header + 9)
        decoded = _stamp(packets, header + 14) if has_decoding else presented
        if pid == self._main:
            self._mend_jump(decoded)
        presented, decoded = (presented + self._shift) % WRAP, (decoded + self._shift) % WRAP
        if not 0 <= ticks_between(decoded, presented) <= _APART_TICKS:
            presented = decoded  # one of them was damaged, and no file takes such a pair
        _put_stamp(packets, header + 9, presented)
        if has_decoding:
            _put_stamp(packets, header + 14, decoded)
        if pid == self._main:
            self._main_unit(at, presented, decoded)
        else:
            self._other_unit(at, pid, presented)

    def _mend_jump(self, decoded: int) -> None:
        """A clock that runs back or leaps within the file goes on where it was."""
        if self._latest is None or not self._cut.mends:
            return
        moved = (decoded + self._shift) % WRAP
        step, latest = ticks_between(self._latest, moved), self._cut.latest
        too_far = latest is not None and step > TICKS_PER_S and ticks_between(latest, moved) > 0
        if too_far or not -_RAN_BACK_TICKS <= step <= _JUMPED_TICKS:
            self.jumps += 1
            self._shift = (self._latest + (self.frame or 3600) - decoded) % WRAP

    def _step_to(self, decoded: int) -> None:
        if self._latest is not None and (step := ticks_between(self._latest, decoded)) > 0:
            if step > TICKS_PER_S and not self._is_usual(step):
                self.holes.append(((self._latest + self.frame) % WRAP, decoded))
            else:
                self.frame = step
            self._step = step
        self._latest = decoded

    def _is_usual(self, step: int) -> bool:
        """Whether pictures are as far apart as this: some cameras send one every few seconds."""
        return step <= _SLOWEST_TICKS and (not self._step or step <= 3 * self._step)

    def _main_unit(self, at: int, presented: int, decoded: int) -> None:
        pid, until = self._main, self._cut.until
        if until is not None and ticks_between(until, decoded) >= 0:
            self._end(at, pid)
            if ticks_between(until, decoded) > _AWAITED_TICKS:
                self.done = True
            return
        self._step_to(decoded)
        leading = ticks_between(self._cut.since, presented) < 0
        if leading != (pid in self._shut):
            self._shut ^= {pid}
            self._turns.append((at, pid))
        if leading:
            return  # shown before the key frame that this begins with: it refers to what is not here
        self.units += 1
        self.first = presented if self.first is None else min(self.first, presented)
        self.last = presented if self.last is None else max(self.last, presented)

    def _other_unit(self, at: int, pid: int, presented: int) -> None:
        wanted = ticks_between(self._cut.since, presented) >= 0 and self._is_next(pid, presented)
        if wanted != (pid not in self._shut) and pid not in self._over:
            self._shut ^= {pid}
            self._turns.append((at, pid))
        if wanted:
            self._heard[pid] = self._sounded[pid] = presented
        if self._cut.until is not None and ticks_between(self._cut.until, presented) >= 0:
            self._end(at, pid)

    def _is_next(self, pid: int, presented: int) -> bool:
        """Whether a sound goes on from what was heard of it.

        Not what another file has given already, nor what a clock that jumped has not yet been put right for.
        """
        heard, before = self._heard.get(pid), self._sounded.get(pid)
        if heard is not None and ticks_between(heard, presented) <= 0:
            return False
        near = self._latest is None or abs(ticks_between(self._latest, presented)) <= _APART_TICKS
        return near or before is None or ticks_between(before, presented) <= _AWAITED_TICKS

    def _end(self, at: int, pid: int) -> None:
        if pid in self._over:
            return
        self._over.add(pid)
        if pid in self._shut:
            self._shut.discard(pid)  # it was not let through, and is not from now on
        else:
            self._turns.append((at, pid))
        self.done = self._over >= self._pids


def _marks(packets: bytearray) -> list[int]:
    """Offsets of packets in which a unit begins or that have an adaptation field."""
    places = {found.start() for found in _UNIT_STARTS.finditer(packets[1::PACKET_BYTES])}
    places.update(found.start() for found in _ADAPTATIONS.finditer(packets[3::PACKET_BYTES]))
    return [place * PACKET_BYTES for place in sorted(places)]


def _has_time(packets: bytearray, header: int, end: int) -> bool:
    """Whether a PES header with a presentation time begins here (2.4.3.6)."""
    return (
        header + 14 <= end
        and packets[header : header + 3] == b"\0\0\1"
        and packets[header + 6] & 0xC0 == 0x80
        and packets[header + 7] & 0x80 != 0
    )


def _stamp(packets: bytearray, at: int) -> int:
    """Thirty-three bits in three groups, with a marker bit after each."""
    high = (packets[at] >> 1 & 7) << 30
    middle = (packets[at + 1] << 7 | packets[at + 2] >> 1) << 15
    return high | middle | packets[at + 3] << 7 | packets[at + 4] >> 1


def _put_stamp(packets: bytearray, at: int, ticks: int) -> None:
    packets[at] = packets[at] & 0xF1 | ticks >> 29 & 0x0E
    packets[at + 1] = ticks >> 22 & 0xFF
    packets[at + 2] = ticks >> 14 & 0xFE | 1
    packets[at + 3] = ticks >> 7 & 0xFF
    packets[at + 4] = ticks << 1 & 0xFE | 1


def _announcement(pid: int, counter: int) -> bytes:
    """A packet that carries nothing but a discontinuity_indicator."""
    head = bytes([_SYNC, pid >> 8, pid & 0xFF, 0x20 | counter, PACKET_BYTES - 5, 0x80])
    return head + b"\xff" * (PACKET_BYTES - len(head))
