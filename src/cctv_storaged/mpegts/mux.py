"""Access units as a transport stream (ISO/IEC 13818-1): one program with one picture and no sound.

Access units in decoding order in, packets out. PIDs are those ffmpeg's muxer takes, so that a stream with no
sound of the same camera has the same layout. The clock reference runs PCR_DELAY_TICKS before decoding.
"""

from collections.abc import Iterator

from cctv_storaged.mpegts.packets import PACKET_BYTES
from cctv_storaged.mpegts.psi import crc32
from cctv_storaged.mpegts.track import WRAP, ticks_between
from cctv_storaged.mpegts.units import AccessUnit

PMT_PID, VIDEO_PID = 0x1000, 0x100
PCR_DELAY_TICKS = 45_000
"""Half a second: as long as a receiver has for the bytes of a picture."""
PCR_EVERY_TICKS = 8_100
"""90 ms; 13818-1 permits 100."""
_TABLES_EVERY_TICKS = 22_500
_LONGEST_FILLED_TICKS = 10 * 90_000  # a hole longer than this is not filled with clock references
_STREAM_TYPES = {"h264": 0x1B, "hevc": 0x24}
_AUD = {"h264": b"\0\0\0\1\x09\xf0", "hevc": b"\0\0\0\1\x46\x01\x50"}
"""Access unit delimiters, of any kind of picture (H.264 7.3.2.4, H.265 7.3.2.5): 2.14 and 2.17 want one."""
_SYNC = 0x47
_PAYLOAD_BYTES = PACKET_BYTES - 4
_BEGINS, _PAYLOAD, _ADAPTATION = 0x40, 0x10, 0x20
_DISCONTINUITY, _RANDOM_ACCESS, _PCR = 0x80, 0x40, 0x10


class Muxer:
    """One stream in the making."""

    def __init__(self, codec: str) -> None:
        """`codec`: h264 or hevc."""
        self._aud = _AUD[codec]
        self._tables = (_section_packet(0, _pat()), _section_packet(PMT_PID, _pmt(_STREAM_TYPES[codec])))
        self._table_counter = 0
        self._counter = 0xF  # of the last packet with a payload
        self._tables_at: int | None = None  # the clock when they were last sent
        self._pcr: int | None = None

    def packets(self, unit: AccessUnit) -> bytes:
        """The unit's packets, with what has to stand before them. Its codec is the stream's."""
        return b"".join(self._packets(unit))

    def _packets(self, unit: AccessUnit) -> Iterator[bytes]:
        clock = (unit.dts - PCR_DELAY_TICKS) % WRAP
        jumped = self._jumps_to(clock)
        yield from self._references_until(clock)
        since = None if self._tables_at is None else ticks_between(self._tables_at, clock)
        if unit.key or since is None or since >= _TABLES_EVERY_TICKS:
            yield from self._repeated_tables()
            self._tables_at = clock
        data = unit.data if _begins_with(unit.data, self._aud) else self._aud + unit.data
        flags = _PCR | (_RANDOM_ACCESS if unit.key else 0) | (_DISCONTINUITY if jumped else 0)
        yield from self._pes(_pes_header(unit.pts, unit.dts) + data, bytes([flags]) + _pcr_field(clock))
        self._pcr = clock

    def _jumps_to(self, clock: int) -> bool:
        """Whether the clock is a new one: over a hole that is not filled, or behind one that ran back."""
        return self._pcr is not None and not 0 <= ticks_between(self._pcr, clock) <= _LONGEST_FILLED_TICKS

    def _references_until(self, clock: int) -> Iterator[bytes]:
        """Clock references between two pictures that are far apart."""
        if self._pcr is None or self._jumps_to(clock):
            return
        while ticks_between(self._pcr, clock) > PCR_EVERY_TICKS:
            self._pcr = (self._pcr + PCR_EVERY_TICKS) % WRAP
            field = bytes([_PAYLOAD_BYTES - 1, _PCR]) + _pcr_field(self._pcr)
            head = bytes([_SYNC, VIDEO_PID >> 8, VIDEO_PID & 0xFF, _ADAPTATION | self._counter])
            yield (head + field).ljust(PACKET_BYTES, b"\xff")

    def _repeated_tables(self) -> Iterator[bytes]:
        for table in self._tables:
            yield table[:3] + bytes([_PAYLOAD | self._table_counter]) + table[4:]
        self._table_counter = (self._table_counter + 1) & 0xF

    def _pes(self, pes: bytes, adaptation: bytes) -> Iterator[bytes]:
        """The PES packet; `adaptation` (flags and fields) goes into the first of its packets."""
        first_bytes = _PAYLOAD_BYTES - 1 - len(adaptation)
        yield self._packet(pes[:first_bytes], adaptation, begins=True)
        whole = len(pes) - (len(pes) - first_bytes) % _PAYLOAD_BYTES
        for at in range(first_bytes, whole, _PAYLOAD_BYTES):
            self._counter = (self._counter + 1) & 0xF
            yield _HEADS[self._counter] + pes[at : at + _PAYLOAD_BYTES]
        if first_bytes < len(pes) and whole < len(pes):
            yield self._packet(pes[whole:], b"", begins=False)

    def _packet(self, payload: bytes, adaptation: bytes, *, begins: bool) -> bytes:
        """One packet, stuffed where the payload does not fill it (2.4.3.5)."""
        self._counter = (self._counter + 1) & 0xF
        head = bytes(
            [
                _SYNC,
                (_BEGINS if begins else 0) | VIDEO_PID >> 8,
                VIDEO_PID & 0xFF,
                _ADAPTATION | _PAYLOAD | self._counter,
            ]
        )
        field_bytes = _PAYLOAD_BYTES - 1 - len(payload)
        if field_bytes and not adaptation:
            adaptation = b"\0"  # no flags
        return head + bytes([field_bytes]) + adaptation.ljust(field_bytes, b"\xff") + payload


_HEADS = tuple(bytes([_SYNC, VIDEO_PID >> 8, VIDEO_PID & 0xFF, _PAYLOAD | counter]) for counter in range(16))


def _begins_with(data: bytes, aud: bytes) -> bool:
    """Whether the first NAL unit is an access unit delimiter."""
    start = data.find(b"\0\0\1", 0, 64)
    return start >= 0 and data[start + 3 : start + 4] == aud[4:5]


def _pes_header(pts: int, dts: int) -> bytes:
    """2.4.3.6: video, its length left open, data aligned to the access unit."""
    stamps = _stamp(0x2, pts) if pts == dts else _stamp(0x3, pts) + _stamp(0x1, dts)
    return b"\0\0\1\xe0\0\0\x84" + bytes([0x80 if pts == dts else 0xC0, len(stamps)]) + stamps


def _stamp(prefix: int, ticks: int) -> bytes:
    """Thirty-three bits in three groups, with a marker bit after each."""
    bits = prefix << 36 | (ticks >> 30 & 7) << 33 | 1 << 32 | (ticks >> 15 & 0x7FFF) << 17
    return (bits | 1 << 16 | (ticks & 0x7FFF) << 1 | 1).to_bytes(5, "big")


def _pcr_field(ticks: int) -> bytes:
    """2.4.3.5: 33 bits of 90 kHz, six reserved ones, an extension of 0."""
    return (ticks << 15 | 0x7E00).to_bytes(6, "big")


def _pat() -> bytes:
    """2.4.4.3: program 1."""
    return _section(0x00, b"\0\1" + (0xE000 | PMT_PID).to_bytes(2, "big"))


def _pmt(stream_type: int) -> bytes:
    """2.4.4.8: one stream, which has the clock."""
    pid = (0xE000 | VIDEO_PID).to_bytes(2, "big")
    return _section(0x02, pid + b"\xf0\0" + bytes([stream_type]) + pid + b"\xf0\0")


def _section(table: int, body: bytes) -> bytes:
    """Version 0, current, the only one; program or stream number 1."""
    length = 5 + len(body) + 4
    section = bytes([table]) + (0xB000 | length).to_bytes(2, "big") + b"\0\1\xc1\0\0" + body
    return section + crc32(section).to_bytes(4, "big")


def _section_packet(pid: int, section: bytes) -> bytes:
    head = bytes([_SYNC, _BEGINS | pid >> 8, pid & 0xFF, _PAYLOAD, 0])
    return (head + section).ljust(PACKET_BYTES, b"\xff")
