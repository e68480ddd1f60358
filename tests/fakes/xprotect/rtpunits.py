"""Pictures from RTP packets: H.264 (RFC 6184), H.265 (RFC 7798), times by ONVIF's header extension 0xABAC.

Strict, as nobody but the device under test is asked: what a driver would have to guess is a `BadStream`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.fakes.xprotect.pictures import Codec, Coded

_NTP_TO_UNIX_S = 2_208_988_800
_START = b"\0\0\0\1"
_PROFILE = 0xABAC


class BadStream(Exception):
    """The device sends what the specifications do not allow."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the extension says of the picture that a packet begins."""

    time_ms: int
    clean_point: bool
    end: bool  # of a contiguous section
    discontinuity: bool
    terminal: bool
    cseq: int  # low byte


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet."""

    marker: bool
    payload_type: int
    number: int
    timestamp: int
    stamp: Stamp | None
    payload: bytes


def read_packet(data: bytes) -> Packet:
    """RFC 3550."""
    if len(data) < 12 or data[0] >> 6 != 2:
        raise BadStream("no RTP packet of version 2")
    second, number, timestamp, _ = struct.unpack_from(">xBHII", data)
    at, stamp = 12 + 4 * (data[0] & 0x0F), None
    if data[0] & 0x10:
        profile, words = struct.unpack_from(">HH", data, at)
        stamp = _stamp(data[at + 4 : at + 4 + 4 * words]) if profile == _PROFILE else None
        at += 4 + 4 * words
    end = len(data) - (data[-1] if data[0] & 0x20 else 0)
    if at >= end:
        raise BadStream("an RTP packet without payload")
    return Packet(bool(second & 0x80), second & 0x7F, number, timestamp, stamp, data[at:end])


def _stamp(extension: bytes) -> Stamp:
    if len(extension) != 12:
        raise BadStream(f"the extension 0xABAC has {len(extension)} bytes and not 12")
    seconds, fraction, flags, cseq = struct.unpack_from(">IIBB", extension)
    if flags & 0x0F:
        raise BadStream("reserved bits of the extension 0xABAC are set")
    time_ms = (seconds - _NTP_TO_UNIX_S) * 1000 + round(fraction * 1000 / 2**32)
    clean, end, gap, terminal = (bool(flags & bit) for bit in (0x80, 0x40, 0x20, 0x10))
    return Stamp(time_ms, clean, end, gap, terminal, cseq)


@dataclass(frozen=True, slots=True)
class Format:
    """What the SDP says of a payload type."""

    codec: Codec
    parameter_sets: Sequence[bytes] = ()
    """NAL units, put before key pictures that come without any."""


@dataclass(frozen=True, slots=True)
class Received:
    """A picture, and what was said of it."""

    codec: Codec
    picture: Coded
    stamp: Stamp


@dataclass(slots=True)
class Depacketiser:
    """Packets in, pictures out."""

    formats: Mapping[int, Format]
    cseq: int
    """Of the PLAY that all of this answers."""
    _format: Format = Format("h264")
    _number: int | None = None
    _timestamp: int | None = None
    _stamp: Stamp | None = None
    _units: list[bytes] = field(default_factory=list)
    _fragment: bytearray | None = None

    @property
    def codec(self) -> Codec:
        """Of the picture that is coming, or came last."""
        return self._format.codec

    def take(self, packet: Packet) -> Iterator[Received]:
        """A picture ends with its marker; the next one begins with the extension."""
        if self._number is not None and packet.number != (self._number + 1) & 0xFFFF:
            raise BadStream(f"packet {packet.number} follows {self._number}, over TCP")
        self._number = packet.number
        if self._stamp is None:
            self._begin(packet)
        elif packet.timestamp != self._timestamp:
            raise BadStream("a picture's packets have two timestamps: a marker is missing")
        elif packet.stamp:
            raise BadStream("the extension 0xABAC comes again within a picture")
        self._units.extend(self._unpacked(packet.payload))
        if packet.marker and self._stamp:
            yield Received(self.codec, self._picture(self._stamp), self._stamp)
            self._stamp = None

    def _begin(self, packet: Packet) -> None:
        if packet.stamp is None:
            raise BadStream("a picture begins without the extension 0xABAC")
        if packet.stamp.cseq != self.cseq & 0xFF:
            raise BadStream(f"the extension names PLAY {packet.stamp.cseq}, and it was {self.cseq & 0xFF}")
        if packet.payload_type not in self.formats:
            raise BadStream(f"payload type {packet.payload_type} is not in the SDP")
        self._format = self.formats[packet.payload_type]
        self._stamp, self._timestamp = packet.stamp, packet.timestamp

    def _picture(self, stamp: Stamp) -> Coded:
        if self._fragment is not None:
            raise BadStream("a picture ends within a fragmented unit")
        units, self._units = self._units, []
        kinds = [self._kind(unit) for unit in units]
        key = any(kind == 5 if self.codec == "h264" else 16 <= kind <= 23 for kind in kinds)
        if key != stamp.clean_point:
            raise BadStream(
                f"a picture of units {kinds} is said to be {'a' if stamp.clean_point else 'no'} key"
            )
        if key and not any(kind == (7 if self.codec == "h264" else 33) for kind in kinds):
            units = [*self._format.parameter_sets, *units]
        return Coded(stamp.time_ms, key, b"".join(_START + unit for unit in units))

    def _kind(self, unit: bytes) -> int:
        return unit[0] & 0x1F if self.codec == "h264" else unit[0] >> 1 & 0x3F

    def _unpacked(self, payload: bytes) -> Iterator[bytes]:
        kind = self._kind(payload)
        header = 1 if self.codec == "h264" else 2
        if kind == (28 if self.codec == "h264" else 49):
            yield from self._fragmented(payload, header)
            return
        if self._fragment is not None:
            raise BadStream("a fragmented unit was not ended")
        if kind == (24 if self.codec == "h264" else 48):
            yield from _aggregated(payload[header:])
        elif kind in ({0, *range(25, 32)} if self.codec == "h264" else set(range(48, 64))):
            raise BadStream(f"a unit of type {kind}")
        else:
            yield payload

    def _fragmented(self, payload: bytes, header: int) -> Iterator[bytes]:
        """FU-A of RFC 6184 (5.8), FU of RFC 7798 (4.4.3)."""
        flags, data = payload[header], payload[header + 1 :]
        if not data or (flags & 0xC0) == 0xC0:
            raise BadStream("an empty fragment, or one that is first and last")
        if flags & 0x80:
            if self._fragment is not None:
                raise BadStream("a fragmented unit begins within another")
            first = (
                bytes([payload[0] & 0xE0 | flags & 0x1F])
                if self.codec == "h264"
                else bytes([payload[0] & 0x81 | (flags & 0x3F) << 1, payload[1]])
            )
            self._fragment = bytearray(first)
        if self._fragment is None:
            raise BadStream("a fragment without its beginning")
        self._fragment += data
        if flags & 0x40:
            yield bytes(self._fragment)
            self._fragment = None


def _aggregated(data: bytes) -> Iterator[bytes]:
    """STAP-A of RFC 6184 (5.7.1), AP of RFC 7798 (4.4.2)."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2])
        unit = data[at + 2 : at + 2 + size]
        if not size or len(unit) != size:
            raise BadStream("an aggregated unit is cut off")
        yield unit
        at += 2 + size
