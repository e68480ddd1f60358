"""A segment's bytes: ranges, validators, and a body that is whole or visibly broken.

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

from cctv_storaged.api.problems import PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE, Refusal
from cctv_storaged.api.segments import segment_of
from cctv_storaged.api.services import Services
from cctv_storaged.errors import SourceChanged
from cctv_storaged.model import Segment

MEDIA_TYPE = "video/mp2t"
MAX_AGE_S = 3600
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


async def content(request: web.Request, services: Services) -> web.StreamResponse:
    segment = await segment_of(request, services)
    tag = None if segment.sha256 is None else segment.sha256.hex()
    headers = await _headers(segment, services)
    if request.if_match is not None and not matches(request.if_match, tag, weak=False):
        raise Refusal(PRECONDITION_FAILED, "the content's ETag is none of those in If-Match")
    if request.if_none_match is not None and matches(request.if_none_match, tag, weak=True):
        return web.Response(status=304, headers=headers)
    part = _requested_part(request, segment, tag)
    if part is not None:
        last = part.start + part.length - 1
        headers["Content-Range"] = f"bytes {part.start}-{last}/{segment.size_bytes}"
    response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
    response.content_type = MEDIA_TYPE
    whole = part or Part(0, segment.size_bytes)
    response.content_length = whole.length
    if request.method == "HEAD":
        return response
    return await _send(request, response, segment, whole, services)


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


def disposition(name: str, segment: Segment) -> str:
    """How a segment is called when it is saved."""
    return named("attachment", f"{name}_{segment.span.start:%Y%m%dT%H%M%SZ}.ts")


def named(kind: str, full: str) -> str:
    """Content-Disposition with a name that is safe everywhere (RFC 6266) and, where it differs, the full one
    (RFC 8187)."""
    full = "".join("_" if char in "/\\" or unicodedata.category(char)[0] == "C" else char for char in full)
    safe = _UNSAFE.sub("_", unicodedata.normalize("NFKD", full).encode("ascii", "ignore").decode())
    header = f'{kind}; filename="{safe}"'
    return header if safe == full else f"{header}; filename*=UTF-8''{quote(full, safe='')}"


async def _headers(segment: Segment, services: Services) -> dict[str, str]:
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": f"private, max-age={MAX_AGE_S}",
        "Content-Disposition": disposition(await _camera_name(segment, services), segment),
    }
    if segment.sha256 is not None:
        headers["ETag"] = f'"{segment.sha256.hex()}"'
    return headers


async def _camera_name(segment: Segment, services: Services) -> str:
    configured = services.cameras.configured.get(segment.camera_id)
    if configured is not None:
        return configured.name
    known = await services.journal.cameras.camera(segment.camera_id)
    return str(segment.camera_id) if known is None else known.name


def matches(given: tuple[ETag, ...], tag: str | None, *, weak: bool) -> bool:
    """Whether a tag is among those of If-Match or If-None-Match (RFC 9110, 13.1)."""
    return any(each.value == ANY or (each.value == tag and (weak or not each.is_weak)) for each in given)


def _requested_part(request: web.Request, segment: Segment, tag: str | None) -> Part | None:
    """If-Range holds the part back unless the client's earlier part is of this very content (13.1.5)."""
    if request.method != "GET":
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and (tag is None or condition.strip() != f'"{tag}"'):
        return None
    return requested_part(request.headers.get("Range"), segment.size_bytes)


async def _send(
    request: web.Request, response: web.StreamResponse, segment: Segment, part: Part, services: Services
) -> web.StreamResponse:
    async with services.reader.open(segment, part.start, part.length) as blocks:
        rest = part.length
        async for block in _from_the_first(blocks, response, request):
            if len(block) > rest:
                raise SourceChanged(f"{len(block) - rest} bytes too many of {segment.id}")
            async with asyncio.timeout(STALL_S):
                await response.write(block)
            rest -= len(block)
        if rest:
            raise SourceChanged(f"{rest} bytes too few of {segment.id}")
    await response.write_eof()
    return response


async def _from_the_first(
    blocks: AsyncIterator[bytes], response: web.StreamResponse, request: web.Request
) -> AsyncIterator[bytes]:
    """The blocks; the status goes out once there is a first one."""
    async for block in blocks:
        if not response.prepared:
            await response.prepare(request)
        yield block
