"""Footage played: a span as an HLS playlist (RFC 8216)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api.audit import tell_seen
from cctv_storaged.api.parsing import path_id, query_of
from cctv_storaged.api.playback_models import PlaylistQuery
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Route
from cctv_storaged.api.segments import require_camera
from cctv_storaged.api.sending import matches
from cctv_storaged.api.services import Services
from cctv_storaged.api.spans import asked_span
from cctv_storaged.auditing.trail import Seen
from cctv_storaged.config.units import format_duration
from cctv_storaged.errors import Fault, NotFound, Unprocessable
from cctv_storaged.model import TimeSpan

MEDIA_TYPE = "application/vnd.apple.mpegurl"


async def playlist(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, PlaylistQuery)
    longest = services.settings.playback.max_span
    span = playable_span(query.start, query.end, services.clock.now(), longest)
    camera_id = path_id(request, "camera_id")
    made = await services.playlists.of(camera_id, span)
    if made is None:
        await require_camera(services, camera_id)
        raise NotFound(await services.playlists.nearest(camera_id, span))
    if made.signed:  # to be had anew each time: the URLs in it open footage, and run out
        headers = {"Cache-Control": "no-store"}
    else:  # footage comes and goes, so it is asked about each time, and seldom sent again
        headers = {"Cache-Control": "private, no-cache", "ETag": f'"{made.tag}"'}
        if matches(request.if_none_match or (), made.tag, weak=True):
            return web.Response(status=304, headers=headers)
    await tell_seen(request, services, Seen.PLAYLIST, camera_id, span)
    return web.Response(body=made.text, content_type=MEDIA_TYPE, headers=headers)


def playable_span(
    start: datetime | None, end: datetime | None, now: datetime, longest: timedelta
) -> TimeSpan:
    """As `asked_span`, and not too long: where no start was given it moves up. Raises Unprocessable."""
    span = asked_span(start, end, now)
    if span.duration <= longest:
        return span
    if start is None:
        return TimeSpan(span.end - longest, span.end)
    message = f"is more than {format_duration(longest)} after start, which playback.max_span permits"
    raise Unprocessable([Fault("end", message)])


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/segments/{{camera_id}}/playlist.m3u8",
        handler=playlist,
        name="playlist",
        summary="A span of a camera's footage as an HLS playlist",
        scope=Scope.READ,
        lane=Lane.CONTENT,
        query=PlaylistQuery,
        headers=("If-None-Match",),
        answers=(
            Answer(status=200, means="The playlist", media_type=MEDIA_TYPE, headers=("ETag",)),
            Answer(status=304, means="As the client has it", media_type=None, headers=("ETag",)),
        ),
    ),
)
