"""Still pictures: a segment's own, the one nearest to a moment, and a span's on one sheet."""

from collections.abc import Mapping, Sequence

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.audit import tell_seen
from cctv_storaged.api.parsing import path_id, query_of
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Route
from cctv_storaged.api.segments import require_camera, segment_of
from cctv_storaged.api.sending import matches
from cctv_storaged.api.services import Services
from cctv_storaged.api.thumbnail_models import StoryboardQuery, ThumbnailQuery
from cctv_storaged.auditing.trail import Seen
from cctv_storaged.clock import MICROSECOND, rfc3339
from cctv_storaged.errors import Fault, NotFound, Unprocessable
from cctv_storaged.model import TimeSpan
from cctv_storaged.nearest import nearest_footage
from cctv_storaged.storyboards import LEAST_TILE, LONGEST_SPAN, Tile, vtt_of
from cctv_storaged.thumbnails import Thumbnail

JPEG = "image/jpeg"
VTT = "text/vtt"
TIME_HEADER = "Thumbnail-Time"
KEPT_BY_CLIENTS = "private, max-age=3600"
"""A segment's picture stays what it is; it goes with its segment."""
ASKED_AGAIN = "private, no-cache"
"""Footage comes and goes: the client asks each time whether it still has the right picture."""


async def of_segment(request: web.Request, services: Services) -> web.StreamResponse:
    segment = await segment_of(request, services)
    thumbnail = await services.thumbnails.of(segment)
    await tell_seen(request, services, Seen.PICTURE, segment.camera_id, _moment(thumbnail))
    return _picture(request, thumbnail, KEPT_BY_CLIENTS)


async def of_camera(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, ThumbnailQuery)
    camera_id = path_id(request, "camera_id")
    moment = query.at
    if moment is None:
        footage = await services.journal.cameras.by_id(camera_id, services.clock.now())
        if footage is None or footage.newest is None:
            await require_camera(services, camera_id)
            raise NotFound(f"camera {camera_id} has no footage yet")
        moment = footage.newest.end
    else:
        await require_camera(services, camera_id)
    place = await nearest_footage(services.journal, camera_id, moment)
    thumbnail = await services.thumbnails.at(place.segment, place.moment)
    await tell_seen(request, services, Seen.PICTURE, camera_id, _moment(thumbnail))
    return _picture(request, thumbnail, ASKED_AGAIN)


async def storyboard_text(request: web.Request, services: Services) -> web.StreamResponse:
    span, tiles = await _planned(request, services)
    return web.Response(
        text=vtt_of(span, tiles), content_type=VTT, charset="utf-8", headers={"Cache-Control": ASKED_AGAIN}
    )


async def storyboard_sheet(request: web.Request, services: Services) -> web.StreamResponse:
    span, tiles = await _planned(request, services)
    sheet = await services.storyboards.sheet(tiles)
    await tell_seen(request, services, Seen.STORYBOARD, path_id(request, "camera_id"), span)
    return _tagged(request, sheet.jpeg, sheet.tag, {"Cache-Control": ASKED_AGAIN})


async def _planned(request: web.Request, services: Services) -> tuple[TimeSpan, tuple[Tile, ...]]:
    query = query_of(request, StoryboardQuery)
    if query.end - query.start < LEAST_TILE:
        raise Unprocessable([Fault("end", "must be a second later than start, or more")])
    if query.end - query.start > LONGEST_SPAN:
        raise Unprocessable([Fault("end", f"is more than {LONGEST_SPAN.days} days after start")])
    span, camera_id = TimeSpan(query.start, query.end), path_id(request, "camera_id")
    await require_camera(services, camera_id)
    return span, await services.storyboards.plan(camera_id, span, query.tiles)


def _moment(thumbnail: Thumbnail) -> TimeSpan:
    return TimeSpan(thumbnail.moment, thumbnail.moment + MICROSECOND)


def _picture(request: web.Request, thumbnail: Thumbnail, caching: str) -> web.Response:
    headers = {"Cache-Control": caching, TIME_HEADER: rfc3339(thumbnail.moment)}
    return _tagged(request, thumbnail.jpeg, thumbnail.tag, headers)


def _tagged(request: web.Request, jpeg: bytes, tag: str, headers: Mapping[str, str]) -> web.Response:
    told = {**headers, "ETag": f'"{tag}"'}
    if matches(request.if_none_match or (), tag, weak=True):
        return web.Response(status=304, headers=told)
    return web.Response(body=jpeg, content_type=JPEG, headers=told)


_UNREADABLE = (
    problems.BAD_COPY,
    problems.BACKEND_AWAY,
    problems.SOURCE_CHANGED,
    problems.FFMPEG_MISSING,
)
_SAME = Answer(status=304, means="As the client has it", media_type=None, headers=("ETag",))
_PICTURE = Answer(status=200, means="The picture", media_type=JPEG, headers=("ETag", TIME_HEADER))

ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/segments/{{camera_id}}/{{segment_id}}/thumbnail.jpg",
        handler=of_segment,
        name="segmentThumbnail",
        summary="A segment's first key frame",
        scope=Scope.READ,
        lane=Lane.CONTENT,
        headers=("If-None-Match",),
        answers=(_PICTURE, _SAME),
        problems=_UNREADABLE,
    ),
    Route(
        method="GET",
        path=f"{PREFIX}/cameras/{{camera_id}}/thumbnail.jpg",
        handler=of_camera,
        name="cameraThumbnail",
        summary="A camera's key frame nearest to a moment, at most a minute from it",
        scope=Scope.READ,
        lane=Lane.CONTENT,
        query=ThumbnailQuery,
        headers=("If-None-Match",),
        answers=(_PICTURE, _SAME),
        problems=_UNREADABLE,
    ),
    Route(
        method="GET",
        path=f"{PREFIX}/segments/{{camera_id}}/storyboard.vtt",
        handler=storyboard_text,
        name="storyboardCues",
        summary="Which tile of the storyboard shows which part of a span (WebVTT)",
        scope=Scope.READ,
        lane=Lane.HEAVY,
        query=StoryboardQuery,
        answers=(Answer(status=200, means="The cues", media_type=VTT),),
    ),
    Route(
        method="GET",
        path=f"{PREFIX}/segments/{{camera_id}}/storyboard.jpg",
        handler=storyboard_sheet,
        name="storyboardSheet",
        summary="A span in up to 100 tiles of 160 by 90 pixels, ten to a row",
        scope=Scope.READ,
        lane=Lane.HEAVY,
        query=StoryboardQuery,
        headers=("If-None-Match",),
        answers=(
            Answer(status=200, means="The sheet", media_type=JPEG, headers=("ETag",)),
            _SAME,
        ),
        problems=_UNREADABLE,
    ),
)
