"""Cameras: what this host has of each, and where footage is missing."""

from datetime import datetime, timedelta
from uuid import UUID

from aiohttp import web

from cctv_storaged.api.models import SpanQuery
from cctv_storaged.api.parsing import path_id, query_of
from cctv_storaged.api.problems import plain
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.segments import require_camera
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import sight_of
from cctv_storaged.api.spans import coverage_span
from cctv_storaged.clock import rfc3339
from cctv_storaged.coverage import coverage_of
from cctv_storaged.errors import NotFound
from cctv_storaged.journal.cameras import CameraFootage
from cctv_storaged.model import Camera, TimeSpan

SEGMENTS_OF_SILENCE = 3
DELIVERY_OF_NEWS = timedelta(seconds=30)
"""The newest segment may be this much older than three of its lengths before its camera counts as silent."""


async def list_cameras(request: web.Request, services: Services) -> web.StreamResponse:
    now = services.clock.now()
    known = {footage.camera.id: footage for footage in await services.journal.cameras.all(now)}
    for camera in services.cameras.configured.values():
        known.setdefault(camera.id, _without_footage(camera))
    sight = sight_of(request)
    seen = [footage for footage in known.values() if sight.sees(footage.camera.id)]
    listed = sorted(seen, key=lambda footage: (footage.camera.name, footage.camera.id))
    return answer({"cameras": [camera_json(footage, now) for footage in listed]})


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    footage = await _footage_of(path_id(request, "camera_id"), services)
    return answer(camera_json(footage, services.clock.now()))


async def coverage(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, SpanQuery)
    now = services.clock.now()
    span = coverage_span(query.start, query.end, now)
    camera_id = path_id(request, "camera_id")
    await require_camera(services, camera_id)
    found = await coverage_of(services.journal, camera_id, span, now)
    return answer(
        {
            "spans": [_span_json(each) for each in found.spans],
            "gaps": [{**_span_json(gap.span), "cause": gap.cause} for gap in found.gaps],
        }
    )


def camera_json(footage: CameraFootage, now: datetime) -> dict[str, Json]:
    """A camera as it is now."""
    span = footage.footage
    return {
        "id": str(footage.camera.id),
        "name": plain(footage.camera.name),
        "folder": plain(footage.camera.folder),
        "first_footage": None if span is None else rfc3339(span.start),
        "last_footage": None if span is None else rfc3339(span.end),
        "segments": footage.segments,
        "bytes": footage.bytes,
        "bit_rate": footage.bit_rate,
        "state": state_of(footage, now),
    }


def state_of(footage: CameraFootage, now: datetime) -> str:
    """Whether segments keep coming."""
    if footage.newest is None or footage.heard is None:
        return "unknown"
    due = footage.heard + SEGMENTS_OF_SILENCE * footage.newest.duration + DELIVERY_OF_NEWS
    return "recording" if now <= due else "silent"


async def _footage_of(camera_id: UUID, services: Services) -> CameraFootage:
    footage = await services.journal.cameras.by_id(camera_id, services.clock.now())
    if footage is not None:
        return footage
    configured = services.cameras.configured.get(camera_id)
    if configured is None:
        raise NotFound(f"no camera {camera_id} on this host")
    return _without_footage(configured)


def _without_footage(camera: Camera) -> CameraFootage:
    return CameraFootage(
        camera=camera, segments=0, bytes=0, footage=None, newest=None, heard=None, bit_rate=None
    )


def _span_json(span: TimeSpan) -> dict[str, Json]:
    return {"start": rfc3339(span.start), "end": rfc3339(span.end)}
