"""Bytes for a client: ranges, validators, and a body that is whole or visibly broken.

RFC 9110: 13 (preconditions), 14 (ranges). The first block is read before the status is sent, so that what
cannot be read is told as a problem; what fails later breaks the connection off.
"""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import ETag, web

from cctv_storaged.api.problems import RANGE_NOT_SATISFIABLE, Refusal

STALL_S = 60.0
"""A client that takes no byte for so long has left."""
ANY = "*"
_RANGE = re.compile(
    r"\s*bytes\s*=\s*(?P<first>[0-9]{0,1000})-(?P<last>[0-9]{0,1000})\s*", re.ASCII | re.IGNORECASE
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `[start, start + length)` of a content."""

    start: int
    length: int


def asked_range(request: web.Request, tag: str | None) -> str | None:
    """The Range header, unless If-Range says that the client's part is of another content (13.1.5)."""
    condition = request.headers.get("If-Range")
    if request.method != "GET":
        return None
    if condition is not None and (tag is None or condition.strip() != f'"{tag}"'):
        return None
    return request.headers.get("Range")


def requested_part(header: str | None, size_bytes: int) -> Part | None:
    """What a Range header asks for of so many bytes; None: everything.

    One range only: several are answered with everything, which RFC 9110 14.2 permits; so is what is no range.
    Raises Refusal for a range that begins behind the end.
    """
    found = None if header is None else _RANGE.fullmatch(header)
    if found is None or not (found["first"] or found["last"]):
        return None
    if not found["first"]:
        length = min(int(found["last"]), size_bytes)
        part = Part(size_bytes - length, length)
    else:
        first = int(found["first"])
        last = min(int(found["last"]), size_bytes - 1) if found["last"] else size_bytes - 1
        if found["last"] and int(found["last"]) < first:
            return None
        part = Part(first, last - first + 1)
    if part.length <= 0:
        headers = {"Content-Range": f"bytes */{size_bytes}"}
        raise Refusal(RANGE_NOT_SATISFIABLE, f"the content has {size_bytes} bytes", headers)
    return part


def named(kind: str, full: str) -> str:
    """Content-Disposition with a name that is safe everywhere (RFC 6266) and, where it differs, the full one
    (RFC 8187)."""
    full = "".join("_" if char in "/\\" or unicodedata.category(char)[0] == "C" else char for char in full)
    safe = _UNSAFE.sub("_", unicodedata.normalize("NFKD", full).encode("ascii", "ignore").decode())
    header = f'{kind}; filename="{safe}"'
    return header if safe == full else f"{header}; filename*=UTF-8''{quote(full, safe='')}"


def matches(given: tuple[ETag, ...], tag: str | None, *, weak: bool) -> bool:
    """Whether a tag is among those of If-Match or If-None-Match (RFC 9110, 13.1)."""
    return any(each.value == ANY or (each.value == tag and (weak or not each.is_weak)) for each in given)


async def send(
    request: web.Request,
    response: web.StreamResponse,
    blocks: AsyncIterator[bytes],
    length: int | None = None,
    wrong: Exception | None = None,
) -> web.StreamResponse:
    """The blocks; raises `wrong` where they are not `length` bytes, and TimeoutError at a client that stalls.

    The status goes out once there is a first one.
    """
    sent = 0
    async for block in blocks:
        sent += len(block)
        if length is not None and wrong is not None and sent > length:
            raise wrong
        if not response.prepared:
            await response.prepare(request)
        async with asyncio.timeout(STALL_S):
            await response.write(block)
    if length is not None and wrong is not None and sent != length:
        raise wrong
    await response.write_eof()
    return response
