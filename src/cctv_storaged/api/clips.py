"""A span as one MP4: to be watched while it is made, or in any parts once it is whole (RFC 9110, 14)."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.audit import tell_seen
from cctv_storaged.api.clip_models import ClipQuery
from cctv_storaged.api.parsing import path_id, query_of
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Route
from cctv_storaged.api.segments import require_camera
from cctv_storaged.api.sending import asked_range, matches, named, requested_part, send
from cctv_storaged.api.services import Services
from cctv_storaged.auditing.trail import Seen
from cctv_storaged.clips import Begun, Clip
from cctv_storaged.clock import rfc3339
from cctv_storaged.config.units import format_duration
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.model import TimeSpan

MEDIA_TYPE = "video/mp4"
PATIENCE_S = 2.0
"""A player that asks for everything, as browsers do, can seek at once if the clip is whole so soon."""
START_HEADER, LEAD_HEADER = "Clip-Start", "Clip-Lead-Seconds"
HEADERS = ("ETag", "Accept-Ranges", "Content-Disposition", START_HEADER, LEAD_HEADER)


async def clip(request: web.Request, services: Services) -> web.StreamResponse:
    camera_id = path_id(request, "camera_id")
    span = _span(query_of(request, ClipQuery), services.settings.playback.max_clip)
    await require_camera(services, camera_id)
    rows = await services.clips.rows(camera_id, span)
    tag = await services.clips.tag_of(rows, span)
    headers = {
        "ETag": f'"{tag}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": await _disposition(camera_id, span, services),
    }
    if request.if_none_match is not None and matches(request.if_none_match, tag, weak=True):
        return web.Response(status=304, headers=headers)
    if request.method == "HEAD" and not services.clips.is_whole(tag):
        return _response(200, headers)  # making it to say its length would be a GET
    async with services.clips.open(tag, rows, span) as made:
        await made.begin()  # what cannot be made is seen by nobody
        await tell_seen(request, services, Seen.CLIP, camera_id, span)
        return await _answer(request, made, headers, tag)


async def _answer(request: web.Request, made: Clip, headers: dict[str, str], tag: str) -> web.StreamResponse:
    asked = asked_range(request, tag)
    begun = await made.begin()
    headers = headers | _told(begun)
    if asked is not None and await _is_whole_soon(made, asked):
        size_bytes = await made.end()
        part = requested_part(asked, size_bytes)
        if part is not None:
            last = part.start + part.length - 1
            headers["Content-Range"] = f"bytes {part.start}-{last}/{size_bytes}"
            blocks = made.blocks(part.start, part.length)
            return await send(request, _response(206, headers, part.length), blocks)
    response = _response(200, headers, made.size_bytes if made.finished else None)
    if request.method == "HEAD":
        return response
    return await send(request, response, made.blocks())


async def _is_whole_soon(made: Clip, asked: str) -> bool:
    """A part needs the whole's length; who wants all from the first byte on gets that rather than waits."""
    if made.finished or "".join(asked.split()).lower() != "bytes=0-":
        return True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await made.end()
    return made.finished


def _response(status: int, headers: dict[str, str], length: int | None = None) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = MEDIA_TYPE
    if length is not None:
        response.content_length = length
    return response


def _told(begun: Begun) -> dict[str, str]:
    lead_s = begun.lead.total_seconds()
    return {START_HEADER: rfc3339(begun.start), LEAD_HEADER: f"{lead_s:.3f}"}


def _span(query: ClipQuery, longest: timedelta) -> TimeSpan:
    if query.end <= query.start:
        raise Unprocessable([Fault("end", "must be later than start")])
    span = TimeSpan(query.start, query.end)
    if span.duration > longest:
        message = f"is more than {format_duration(longest)} after start, which playback.max_clip permits"
        raise Unprocessable([Fault("end", f"{message}; an export may be longer")])
    return span


async def _disposition(camera_id: UUID, span: TimeSpan, services: Services) -> str:
    known = services.cameras.configured.get(camera_id) or await services.journal.cameras.camera(camera_id)
    name = str(camera_id) if known is None else known.name
    return named("inline", f"{name}_{span.start:%Y%m%dT%H%M%SZ}.mp4")


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/segments/{{camera_id}}/clip.mp4",
        handler=clip,
        name="clip",
        summary="A span as an MP4, copied from the key frame at or before its start",
        scope=Scope.READ,
        lane=Lane.CONTENT,
        query=ClipQuery,
        headers=("If-None-Match", "Range", "If-Range"),
        answers=(
            Answer(status=200, means="All of the clip", media_type=MEDIA_TYPE, headers=HEADERS),
            Answer(
                status=206,
                means="The range asked for",
                media_type=MEDIA_TYPE,
                headers=(*HEADERS, "Content-Range"),
            ),
            Answer(status=304, means="As the client has it", media_type=None, headers=("ETag",)),
        ),
        problems=(
            problems.CONFLICT,
            problems.RANGE_NOT_SATISFIABLE,
            problems.UNPLAYABLE,
            problems.MEDIA_FAILED,
            problems.BAD_COPY,
            problems.BACKEND_AWAY,
            problems.NO_ROOM,
        ),
    ),
)
