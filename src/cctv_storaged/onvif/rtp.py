"""Access units as RTP packets with ONVIF's replay extension, and what SDP says of them. Pure.

RFC 3550 (RTP), RFC 6184 (H.264), RFC 7798 (H.265), ONVIF Streaming Specification ("RTP header extension").
Packets go out in decoding order. The RTP timestamp and the extension's NTP time are both of the picture's
presentation, which is when it was recorded: with B pictures neither only grows.
"""

import base64
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

PACKET_BYTES = 1400
"""Most of a packet, so that a receiver with room for one Ethernet frame can take it."""
CLOCK_HZ = 90_000
EXTENSION_ID = 0xABAC
_EXTENSION_WORDS = 3
_RTP_HEADER_BYTES = 12
_EXTENSION_BYTES = 4 + 4 * _EXTENSION_WORDS
_NTP_EPOCH_S = 2_208_988_800  # 1970 counted from 1900
_START_CODE = re.compile(rb"\x00\x00\x01")
_FU_A, _H265_FU = 28, 49
_RTCP_SENDER_REPORT, _RTCP_BYE = 200, 203


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What the extension says of an access unit besides its time."""

    clean_point: bool  # can be decoded by itself
    end: bool = False  # the last before a gap, or of all footage
    discontinuity: bool = False  # does not follow what was sent before
    terminal: bool = False  # the last of this PLAY

    @property
    def byte(self) -> int:
        return self.clean_point << 7 | self.end << 6 | self.discontinuity << 5 | self.terminal << 4


@dataclass(frozen=True, slots=True)
class ParameterSets:
    """What a decoder must have before the first picture; empty where it was not in the stream."""

    codec: str  # "h264" or "hevc"
    vps: bytes = b""
    sps: bytes = b""
    pps: bytes = b""

    @property
    def complete(self) -> bool:
        return bool(self.sps and self.pps and (self.codec == "h264" or self.vps))

    @property
    def units(self) -> tuple[bytes, ...]:
        """In the order in which a decoder wants them."""
        return tuple(unit for unit in (self.vps, self.sps, self.pps) if unit)


def nal_units(data: bytes) -> Iterator[bytes]:
    """The units of an Annex B stretch without start codes and trailing zeros."""
    starts = [found.end() for found in _START_CODE.finditer(data)]
    ends = [start - 3 for start in starts[1:]]
    for start, end in zip(starts, [*ends, len(data)], strict=False):
        if unit := data[start:end].rstrip(b"\0"):
            yield unit


def unit_type(codec: str, unit: bytes) -> int:
    """H.264 7.3.1, H.265 7.3.1.2."""
    return unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F


_SETS = {"h264": {7: "sps", 8: "pps"}, "hevc": {32: "vps", 33: "sps", 34: "pps"}}
_DELIMITER = {"h264": 9, "hevc": 35}
_SHORTEST_UNIT = {"h264": 1, "hevc": 2}


def parameter_sets(codec: str, data: bytes) -> ParameterSets:
    """The first of each kind in an access unit."""
    found: dict[str, bytes] = {}
    for unit in nal_units(data):
        if name := _SETS[codec].get(unit_type(codec, unit)):
            found.setdefault(name, unit)
    return ParameterSets(codec, **found)


def extension(time_us: int, marks: Marks, cseq: int) -> bytes:
    """The replay extension: NTP time of the picture, its marks, the low byte of the PLAY's CSeq.

    The fraction is rounded up, so that a reader who cuts it off to milliseconds or microseconds gets the
    very one that was meant.
    """
    seconds, microseconds = divmod(time_us, 1_000_000)
    fraction = -(-(microseconds << 32) // 1_000_000)
    ntp = (seconds + _NTP_EPOCH_S & 0xFFFFFFFF) << 32 | fraction
    head = (EXTENSION_ID, _EXTENSION_WORDS)
    return struct.pack(">HHQBBH", *head, ntp, marks.byte, cseq & 0xFF, 0)


@dataclass(slots=True, kw_only=True)
class Packetiser:
    """One RTP stream. Sequence numbers go on over PLAYs, as the source stays the same."""

    ssrc: int
    sequence: int  # of the next packet
    payload_types: dict[str, int] = field(default_factory=dict)  # by codec

    def packets(self, codec: str, data: bytes, timestamp: int, replay: bytes) -> list[bytes]:
        """An access unit's packets; `replay` is the extension, which the first of them carries.

        Empty where it holds nothing that is sent. Access unit delimiters are left out: RTP has its own, and
        receivers look for the parameter sets first.
        """
        units = [
            unit
            for unit in nal_units(data)
            if len(unit) >= _SHORTEST_UNIT[codec] and unit_type(codec, unit) != _DELIMITER[codec]
        ]
        payloads = list(_payloads(codec, units))
        last = len(payloads) - 1
        return [
            self._packet(codec, payload, timestamp, replay if at == 0 else b"", marker=at == last)
            for at, payload in enumerate(payloads)
        ]

    def _packet(self, codec: str, payload: bytes, timestamp: int, replay: bytes, *, marker: bool) -> bytes:
        first = 0x90 if replay else 0x80
        second = marker << 7 | self.payload_types[codec]
        header = struct.pack(">BBHII", first, second, self.sequence, timestamp & 0xFFFFFFFF, self.ssrc)
        self.sequence = self.sequence + 1 & 0xFFFF
        return b"".join((header, replay, payload))


def _payloads(codec: str, units: list[bytes]) -> Iterator[bytes]:
    """Each unit by itself where it fits (single NAL unit packet), else in fragments."""
    room = PACKET_BYTES - _RTP_HEADER_BYTES - _EXTENSION_BYTES
    for unit in units:
        if len(unit) <= room:
            yield unit
        else:
            yield from _fragments(codec, unit, room)


def _fragments(codec: str, unit: bytes, room: int) -> Iterator[bytes]:
    """RFC 6184 5.8 (FU-A), RFC 7798 4.4.3."""
    if codec == "h264":
        indicator, kind, skip = bytes([unit[0] & 0xE0 | _FU_A]), unit[0] & 0x1F, 1
    else:
        indicator, kind, skip = bytes([unit[0] & 0x81 | _H265_FU << 1, unit[1]]), unit[0] >> 1 & 0x3F, 2
    step = room - len(indicator) - 1
    for at in range(skip, len(unit), step):
        start, end = at == skip, at + step >= len(unit)
        yield indicator + bytes([start << 7 | end << 6 | kind]) + unit[at : at + step]


def interleaved(channel: int, packet: bytes) -> bytes:
    """A packet within the RTSP connection (RFC 2326, 10.12)."""
    return struct.pack(">BBH", 0x24, channel, len(packet)) + packet


def goodbye(ssrc: int) -> bytes:
    """RTCP that ends a stream (RFC 3550, 6.4.1 and 6.6): an empty sender report, and BYE."""
    report = struct.pack(">BBHIQIII", 0x80, _RTCP_SENDER_REPORT, 6, ssrc, 0, 0, 0, 0)
    return report + struct.pack(">BBHI", 0x81, _RTCP_BYE, 1, ssrc)


def format_of(payload_type: int, sets: ParameterSets) -> tuple[str, ...]:
    """The SDP lines of one payload type (RFC 6184 8.2.1, RFC 7798 7.2.1)."""
    name = "H264" if sets.codec == "h264" else "H265"
    lines = [f"a=rtpmap:{payload_type} {name}/{CLOCK_HZ}"]
    if sets.codec == "h264":
        parameters = ["packetization-mode=1"]
        if sets.complete:
            parameters.append(f"profile-level-id={sets.sps[1:4].hex().upper()}")
            parameters.append(f"sprop-parameter-sets={_base64(sets.sps)},{_base64(sets.pps)}")
    else:
        named = (("vps", sets.vps), ("sps", sets.sps), ("pps", sets.pps))
        parameters = [f"sprop-{key}={_base64(value)}" for key, value in named if sets.complete]
    if parameters:
        lines.append(f"a=fmtp:{payload_type} {';'.join(parameters)}")
    return tuple(lines)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
