"""GenericByteData, as a recorder writes it: MIP SDK `GenericByteData.h`, data type 0x0010. Big-endian."""

import struct
from collections.abc import Sequence

from tests.fakes.xprotect.pictures import Codec, Group

_CODECS = {"h264": 0x000A, "h265": 0x000E}
_VIDEO, _WRAPPER = 0x0010, 0xFEF0
_HEADER = struct.Struct(">HIHHHQQI")  # type, length, codec, sequence number, flags, sync and own time, 0
_WRAPPER_HEADER = struct.Struct(">HI10x")
_BLOCK_HEADER = struct.Struct(">HHIIQQHHHH")  # its middle is not agreed between those who read it
_SYNC = 0x0001


def video_packet(
    codec: Codec, payload: bytes, *, number: int, key: bool, sync_ms: int, time_ms: int
) -> bytes:
    """One picture: 32 bytes of header, whose length counts them too, and Annex B."""
    length = _HEADER.size + len(payload)
    flags = _SYNC if key else 0
    return _HEADER.pack(_VIDEO, length, _CODECS[codec], number & 0xFFFF, flags, sync_ms, time_ms, 0) + payload


def packets(
    group: Group, *, bunched: bool, delimiters: bool, keys_only: bool, number: int
) -> Sequence[bytes]:
    """The pictures of a group, a packet each; `number` is the first one's."""
    times = group.arrivals_ms() if bunched else [picture.time_ms for picture in group.pictures]
    return [
        video_packet(
            group.codec,
            picture.data if delimiters else without_delimiter(group.codec, picture.data),
            number=number + at,
            key=picture.key,
            sync_ms=group.start_ms,
            time_ms=time_ms,
        )
        for at, (picture, time_ms) in enumerate(zip(group.pictures, times, strict=True))
        if picture.key or not keys_only
    ]


def wrapped(inner: Sequence[bytes]) -> bytes:
    """Several packets as one: a header of 16 bytes, and they follow."""
    length = _WRAPPER_HEADER.size + sum(map(len, inner))
    return _WRAPPER_HEADER.pack(_WRAPPER, length) + b"".join(inner)


def video_block(group: Group) -> bytes:
    """The legacy form: 36 bytes that begin with the codec, and the whole group."""
    payload = b"".join(picture.data for picture in group.pictures)
    times = (group.start_ms, group.start_ms)
    return _BLOCK_HEADER.pack(_CODECS[group.codec], 0, 36 + len(payload), 1, *times, 0, 0, 0, 0) + payload


def without_delimiter(codec: Codec, data: bytes) -> bytes:
    """A picture without the access unit delimiter that it may begin with."""
    start = data.find(b"\0\0\1") + 3
    if start < 3 or start >= len(data):
        return data
    kind = data[start] & 0x1F if codec == "h264" else data[start] >> 1 & 0x3F
    if kind != (9 if codec == "h264" else 35):
        return data
    end = data.find(b"\0\0\1", start)
    if end < 0:
        return data
    return data[end - 1 :] if data[end - 1] == 0 else data[end:]
