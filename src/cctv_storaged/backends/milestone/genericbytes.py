"""GenericByteData: one coded picture and what is known of it, as recording servers send it. No I/O.

A packet begins with 32 bytes, big-endian: type, length with the header, codec, number, flags, time of the
group's key picture, time of the picture, four bytes kept free. Sources: vendor samples
`ImageServerConnection.cs` and `GenericByteData.h`, which agree; the wrapper as seen by others on 2025 R3.
"""

import struct
from collections.abc import Iterator

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.base import Picture
from cctv_storaged.backends.milestone.imagewire import Body
from cctv_storaged.errors import Unsupported

_HEADER = struct.Struct(">HIHHHQQI")
_WRAPPER = struct.Struct(">HI10x")  # of its 16 bytes type and length are known
_VIDEO = 0x0010
_SEVERAL = 0xFEF0
_SYNC = 0x0001
_CODECS = {0x000A: "h264", 0x000E: "h265"}
_NAMES = {0x0001: "JPEG", 0x0004: "MPEG-4", 0x0005: "MPEG-4", 0x0006: "MPEG-4", 0x000B: "MPEG-4"} | {
    0x000F: "AV1",
    0x0080: "MxPEG",
}
_KINDS = {0x0020: "audio", 0x0030: "metadata"}
_LATEST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


def pictures_of(body: Body) -> Iterator[Picture]:
    """The pictures in a body, one packet after the other; its length must be theirs exactly.

    Unreadable: a length that is not true. Unsupported: another codec or kind, or the legacy video block.
    """
    return _packets(body, 0, len(body), wrapped=False)


def _packets(body: Body, at: int, end: int, *, wrapped: bool) -> Iterator[Picture]:
    while at < end:
        length = _length(body, at, end)
        if _kind(body, at) != _SEVERAL:
            yield _picture(body, at, length)
        elif wrapped or length <= _WRAPPER.size:
            raise Unreadable("a packet of several holds none, or another such")
        else:
            yield from _packets(body, at + _WRAPPER.size, at + length, wrapped=True)
        at += length


def _length(body: Body, at: int, end: int) -> int:
    """Of the packet that begins there, header included."""
    kind = _kind(body, at)
    if end - at < _WRAPPER.size:
        raise Unreadable(f"{end - at} bytes where a packet should be")
    if kind < _VIDEO:
        raise Unsupported(
            "the recording server sends the legacy form (video block), whose layout is not published"
        )
    smallest = _WRAPPER.size if kind == _SEVERAL else _HEADER.size
    if end - at < smallest:
        raise Unreadable(f"a packet of {end - at} bytes, which is less than its header")
    length: int = _WRAPPER.unpack_from(body, at)[1]
    if not smallest <= length <= end - at:
        raise Unreadable(f"a packet says that it has {length} bytes, and {end - at} are there")
    return length


def _kind(body: Body, at: int) -> int:
    return int.from_bytes(body[at : at + 2], "big")


def _picture(body: Body, at: int, length: int) -> Picture:
    kind, _, codec, _, flags, _, time_ms, _ = _HEADER.unpack_from(body, at)
    if kind != _VIDEO:
        name = _KINDS.get(kind, f"data of kind 0x{kind:04X}")
        raise Unsupported(f"the recording server sends {name} where video was asked for")
    if codec not in _CODECS:
        name = _NAMES.get(codec, f"codec 0x{codec:04X}")
        raise Unsupported(f"the camera is recorded as {name}: only H.264 and H.265 are read")
    if length == _HEADER.size or not 0 < time_ms <= _LATEST_MS:
        raise Unreadable(f"a picture of {length - _HEADER.size} bytes at {time_ms} ms")
    return Picture(
        time_ms=time_ms,
        key=bool(flags & _SYNC),
        codec=_CODECS[codec],
        data=bytes(memoryview(body)[at + _HEADER.size : at + length]),
    )
