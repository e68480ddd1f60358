"""The ZIP around a package, byte by byte (PKWARE APPNOTE 6.3.10): stored entries, ZIP64 where it must be.

Every byte outside the files' contents follows from their names, sizes, times and CRCs. So a checker can hold
the whole file against what it must be, and nothing can hide in it. Pure: bytes and numbers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_EXTRA = struct.Struct("<2H")
_ZIP64_ID = 1
_MADE_BY = 3 << 8 | 45  # Unix, version 4.5 of the format
_NEEDED, _NEEDED64 = 10, 45
_FILE_ATTRIBUTES = 0o100644 << 16
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_FIRST, _LAST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file in the ZIP. `offset`: where its local header begins."""

    name: str  # ASCII
    moment: datetime  # written in UTC
    size_bytes: int
    crc32: int
    offset: int

    @property
    def data_offset(self) -> int:
        return self.offset + local_size(self.name, self.size_bytes)

    @property
    def end(self) -> int:
        return self.data_offset + self.size_bytes


def local_size(name: str, size_bytes: int) -> int:
    """Bytes of a local header."""
    return _LOCAL.size + len(name) + (_EXTRA.size + 16 if size_bytes >= _FULL32 else 0)


def local_header(entry: Entry) -> bytes:
    """What stands before the contents (APPNOTE 4.3.7)."""
    large = entry.size_bytes >= _FULL32
    extra = _extra(entry.size_bytes, entry.size_bytes) if large else b""
    size = _FULL32 if large else entry.size_bytes
    day, time = _dos(entry.moment)
    version = _NEEDED64 if large else _NEEDED
    lengths = len(entry.name), len(extra)
    fixed = _LOCAL.pack(b"PK\x03\x04", version, 0, 0, time, day, entry.crc32, size, size, *lengths)
    return fixed + entry.name.encode("ascii") + extra


def directory(entries: Sequence[Entry]) -> bytes:
    """What stands after the last file: central directory and end records (APPNOTE 4.3.12 to 4.3.16)."""
    listed = b"".join(map(central_record, entries))
    return listed + end_records(len(entries), len(listed), entries[-1].end if entries else 0)


def end_records(count: int, size: int, begin: int) -> bytes:
    """What ends the ZIP: `count` records of `size` bytes in all lie at `begin`."""
    if count < _FULL16 and size < _FULL32 and begin < _FULL32:
        return _END.pack(b"PK\x05\x06", 0, 0, count, count, size, begin, 0)
    end64 = _END64.pack(b"PK\x06\x06", _END64.size - 12, _MADE_BY, _NEEDED64, 0, 0, count, count, size, begin)
    locator = _LOCATOR.pack(b"PK\x06\x07", 0, begin + size, 1)
    counts = min(count, _FULL16), min(count, _FULL16)
    end = _END.pack(b"PK\x05\x06", 0, 0, *counts, min(size, _FULL32), min(begin, _FULL32), 0)
    return end64 + locator + end


def central_record(entry: Entry) -> bytes:
    """The entry's line in the central directory (APPNOTE 4.3.12)."""
    wide = [number for number in (entry.size_bytes, entry.size_bytes, entry.offset) if number >= _FULL32]
    extra = _extra(*wide) if wide else b""
    day, time = _dos(entry.moment)
    version = _NEEDED64 if wide else _NEEDED
    size, offset = min(entry.size_bytes, _FULL32), min(entry.offset, _FULL32)
    about = _MADE_BY, version, 0, 0, time, day, entry.crc32, size, size
    lengths = len(entry.name), len(extra), 0
    fixed = _CENTRAL.pack(b"PK\x01\x02", *about, *lengths, 0, 0, _FILE_ATTRIBUTES, offset)
    return fixed + entry.name.encode("ascii") + extra


def _extra(*numbers: int) -> bytes:
    return _EXTRA.pack(_ZIP64_ID, 8 * len(numbers)) + struct.pack(f"<{len(numbers)}Q", *numbers)


def _dos(moment: datetime) -> tuple[int, int]:
    """Day and time of APPNOTE 4.4.6, every two seconds; UTC."""
    near = min(max(moment.astimezone(UTC), _FIRST), _LAST)
    day = (near.year - 1980) << 9 | near.month << 5 | near.day
    return day, near.hour << 11 | near.minute << 5 | near.second // 2
