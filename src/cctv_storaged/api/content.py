"""A segment's bytes: as they were recorded, or as a VMS gives them back, which a header says."""

from aiohttp import web

from cctv_storaged.api.audit import tell_seen
from cctv_storaged.api.problems import PRECONDITION_FAILED, Refusal
from cctv_storaged.api.segments import segment_of
from cctv_storaged.api.sending import Part, asked_range, matches, named, requested_part, send
from cctv_storaged.api.services import Services
from cctv_storaged.auditing.trail import Seen
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import SourceChanged
from cctv_storaged.model import Segment
from cctv_storaged.reading import Content

MEDIA_TYPE = "video/mp2t"
MAX_AGE_S = 3600
ORIGIN, REMUXED = "Content-Origin", "remuxed-from-vms"
"""These are not the recorded bytes, but their pictures read back from a VMS (docs/reference/read-back.md)."""
SPAN = "Content-Span"
"""From when to when they show: perhaps less than the segment, or a little more at its begin."""


async def content(request: web.Request, services: Services) -> web.StreamResponse:
    segment = await segment_of(request, services)
    async with services.reader.content(segment) as found:
        return await _answer(request, services, found)


async def _answer(request: web.Request, services: Services, found: Content) -> web.StreamResponse:
    tag = None if found.sha256 is None else found.sha256.hex()
    headers = await _headers(found, services)
    if request.if_match is not None and not matches(request.if_match, tag, weak=False):
        raise Refusal(PRECONDITION_FAILED, "the content's ETag is none of those in If-Match")
    if request.if_none_match is not None and matches(request.if_none_match, tag, weak=True):
        return web.Response(status=304, headers=headers)
    part = requested_part(asked_range(request, tag), found.size_bytes)
    if part is not None:
        last = part.start + part.length - 1
        headers["Content-Range"] = f"bytes {part.start}-{last}/{found.size_bytes}"
    response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
    response.content_type = MEDIA_TYPE
    whole = part or Part(0, found.size_bytes)
    response.content_length = whole.length
    if request.method == "HEAD":
        return response
    await tell_seen(request, services, Seen.CONTENT, found.segment.camera_id, found.segment.span)
    async with found.opened(whole.start, whole.length, True) as opened:
        wrong = SourceChanged(f"{found.segment.id} has other than the {whole.length} bytes asked for")
        return await send(request, response, opened.blocks, whole.length, wrong)


def disposition(name: str, segment: Segment) -> str:
    """How a segment is called when it is saved."""
    return named("attachment", f"{name}_{segment.span.start:%Y%m%dT%H%M%SZ}.ts")


async def _headers(found: Content, services: Services) -> dict[str, str]:
    segment = found.segment
    # What was read back may be had as recorded the next time: whoever has it asks.
    caching = "private, no-cache" if found.remuxed else f"private, max-age={MAX_AGE_S}"
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": caching,
        "Content-Disposition": disposition(await _camera_name(segment, services), segment),
    }
    if found.remuxed:
        headers[ORIGIN] = REMUXED
        headers[SPAN] = f"{rfc3339(found.span.start)}/{rfc3339(found.span.end)}"
    if found.sha256 is not None:
        headers["ETag"] = f'"{found.sha256.hex()}"'
    return headers


async def _camera_name(segment: Segment, services: Services) -> str:
    configured = services.cameras.configured.get(segment.camera_id)
    if configured is not None:
        return configured.name
    known = await services.journal.cameras.camera(segment.camera_id)
    return str(segment.camera_id) if known is None else known.name
