"""The directory of a ZIP that may be anything: what it says, of which nothing is believed yet. Pure."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_EXTRA = struct.Struct("<2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_END_SIGN = b"PK\x05\x06"

TAIL_BYTES = 65535 + _END.size + _LOCATOR.size + _END64.size
"""The end records lie in so many last bytes, the longest comment included (APPNOTE 4.3.16)."""


class NotAZip(Exception):
    """There is no directory to be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file as the directory tells it."""

    name: str
    name_bytes: int
    size_bytes: int
    crc32: int
    offset: int
    oddity: str | None  # what no file of a package has


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where the directory lies."""

    begin: int  # in the file, whatever the end record says
    size_bytes: int
    end: int  # of the end records: more bytes were appended
    before: int  # bytes put before the ZIP


def bounds(tail: bytes, file_bytes: int) -> Bounds:
    """Where the directory of a file of this size lies, by its last bytes. Raises NotAZip."""
    at = tail.rfind(_END_SIGN, 0, max(0, len(tail) - _END.size + len(_END_SIGN)))
    if at < 0:
        raise NotAZip("it does not end as a ZIP does: it is none, or it was cut off")
    found = _END.unpack_from(tail, at)
    records, size, begin = at, int(found[5]), int(found[6])
    if _FULL16 in (found[3], found[4]) or _FULL32 in (size, begin):
        records = at - _LOCATOR.size - _END64.size
        if records < 0 or tail[records : records + 4] != b"PK\x06\x06":
            raise NotAZip("its ZIP64 end record is not where it belongs")
        end64 = _END64.unpack_from(tail, records)
        size, begin = int(end64[8]), int(end64[9])
    offset = file_bytes - len(tail)
    before = offset + records - size - begin
    if before < 0:
        raise NotAZip("its directory is not where its end says: it was cut off or changed")
    return Bounds(begin=offset + records - size, size_bytes=size, end=offset + at + _END.size, before=before)


def listed(raw: bytes) -> Iterator[Listed]:
    """The files of a central directory. Raises NotAZip where it breaks off."""
    position = 0
    while position < len(raw):
        if raw[position : position + 4] != b"PK\x01\x02" or len(raw) - position < _CENTRAL.size:
            raise NotAZip(f"its directory breaks off at byte {position}")
        found = [int(number) for number in _CENTRAL.unpack_from(raw, position)[1:]]
        name_at = position + _CENTRAL.size
        extra_at = name_at + found[9]
        position = extra_at + found[10] + found[11]
        if position > len(raw):
            raise NotAZip("its directory breaks off in a name")
        yield _listed(found, raw[name_at:extra_at], raw[extra_at : extra_at + found[10]])


def _listed(found: list[int], name: bytes, extra: bytes) -> Listed:
    flags, method, crc32, packed, size = found[2], found[3], *found[6:9]
    mode, offset = found[14] >> 16, found[15]
    if _FULL32 in (packed, size, offset):
        size, packed, offset = _wide(extra, size, packed, offset)
    oddity = None
    if method != 0 or packed != size or flags & 1:
        oddity = "is compressed or encrypted, as no file of a package is"
    elif mode & 0o170000 not in (0, 0o100000):
        oddity = "is a link, folder or device and no file"
    return Listed(
        name=name.decode("utf-8", "backslashreplace"),
        name_bytes=len(name),
        size_bytes=size,
        crc32=crc32,
        offset=offset,
        oddity=oddity,
    )


def _wide(extra: bytes, *numbers: int) -> tuple[int, ...]:
    """The numbers, those that are too large for their field from the ZIP64 extra (APPNOTE 4.5.3)."""
    place = _EXTRA.size
    found = []
    for number in numbers:
        if number == _FULL32 and len(extra) >= place + 8:
            found.append(struct.unpack_from("<Q", extra, place)[0])
            place += 8
        else:
            found.append(number)
    return tuple(found)
