"""Rows read straight from the pages of a database file, where its trees no longer lead to them.

It knows SQLite's page and record format (https://www.sqlite.org/fileformat2.html), not our tables: every
page that looks as if it held records gives them up. They may be out of date or belong to any table or
index, so whoever asks has to judge them.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_HEADER_BYTES = {TABLE_LEAF: 8, INDEX_LEAF: 8, INDEX_INTERIOR: 12}  # of a page, in front of its cell pointers
_CHILD_BYTES = {TABLE_LEAF: 0, INDEX_LEAF: 0, INDEX_INTERIOR: 4}  # in front of a cell: the page below it
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # by serial type
_FILE_HEADER_BYTES = 100

Value = int | float | str | bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row of a page; `rowid` is None in an index or a table without rowids."""

    rowid: int | None
    values: tuple[Value, ...]


class DamagedRecord(Exception):
    """What stands there is no record."""


def records(descriptor: int, page_bytes: int, columns: int, *, of_table: bool) -> Iterator[Record]:
    """Every record of so many columns on any page of the file, in the order of the pages.

    `of_table`: those of tables with rowids; else those of indexes and of tables without.
    """
    kinds = (TABLE_LEAF,) if of_table else (INDEX_LEAF, INDEX_INTERIOR)
    for number in range(1, os.fstat(descriptor).st_size // page_bytes + 1):
        page = os.pread(descriptor, page_bytes, (number - 1) * page_bytes)
        start = _FILE_HEADER_BYTES if number == 1 else 0
        if page[start] in kinds:
            yield from _of_page(descriptor, page, start, columns)


def _of_page(descriptor: int, page: bytes, start: int, columns: int) -> Iterator[Record]:
    kind, cells = page[start], int.from_bytes(page[start + 3 : start + 5], "big")
    first = start + _HEADER_BYTES[kind]
    pointers = page[first : first + 2 * cells]
    for place in range(0, len(pointers) - 1, 2):
        at = int.from_bytes(pointers[place : place + 2], "big") + _CHILD_BYTES[kind]
        try:
            record = _record(descriptor, page, at, columns, of_table=kind == TABLE_LEAF)
        except (DamagedRecord, IndexError, struct.error, UnicodeDecodeError):
            continue  # the page is damaged, or never was a leaf
        if record is not None:
            yield record


def _record(descriptor: int, page: bytes, at: int, columns: int, *, of_table: bool) -> Record | None:
    size, at = _varint(page, at)
    rowid = None
    if of_table:
        rowid, at = _varint(page, at)
    local = _local_bytes(size, len(page), is_table=of_table)
    if at + local > len(page):
        raise DamagedRecord
    payload = page[at : at + local]
    if local < size:
        payload += _overflow(descriptor, page[at + local : at + local + 4], size - local, len(page))
    kinds, body = _kinds(payload)
    return Record(rowid=rowid, values=_values(payload, kinds, body)) if len(kinds) == columns else None


def _local_bytes(size: int, page_bytes: int, *, is_table: bool) -> int:
    """How much of a payload stands on the leaf itself; the rest is on overflow pages."""
    most = page_bytes - 35 if is_table else (page_bytes - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (page_bytes - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (page_bytes - 4)
    return wanted if wanted <= most else least


def _overflow(descriptor: int, pointer: bytes, size: int, page_bytes: int) -> bytes:
    content = b""
    if size > os.fstat(descriptor).st_size:
        raise DamagedRecord
    while len(content) < size:
        number = int.from_bytes(pointer, "big")
        page = os.pread(descriptor, page_bytes, (number - 1) * page_bytes) if number else b""
        if len(page) < page_bytes:
            raise DamagedRecord
        pointer, content = page[:4], content + page[4:]
    return content[:size]


def _kinds(payload: bytes) -> tuple[list[int], int]:
    """The serial types of a record's columns, and where its values begin."""
    header_bytes, at = _varint(payload, 0)
    kinds = []
    while at < header_bytes:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    return kinds, header_bytes


def _values(payload: bytes, kinds: list[int], at: int) -> tuple[Value, ...]:
    values = []
    for kind in kinds:
        value, at = _value(payload, kind, at)
        values.append(value)
    if at > len(payload):
        raise DamagedRecord
    return tuple(values)


def _value(payload: bytes, kind: int, at: int) -> tuple[Value, int]:
    """The value of one serial type at `at`, and where the next one stands."""
    if kind == 0:
        return None, at
    if kind in _INTEGER_BYTES:
        end = at + _INTEGER_BYTES[kind]
        return int.from_bytes(payload[at:end], "big", signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", payload, at)[0], at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind < 12:
        raise DamagedRecord
    end = at + (kind - 12) // 2
    content = payload[at:end]
    return (content.decode() if kind % 2 else content), end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """SQLite's big-endian varint of one to nine bytes (as a signed 64-bit number) and the place behind it."""
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9
