"""Segments: register, list, show, delete."""

import asyncio
import hashlib
from uuid import UUID

from aiohttp import web

from cctv_storaged.api.parsing import body_bytes, idempotency_key, parsed, path_id, query_of
from cctv_storaged.api.registering import (
    Place,
    described,
    examine,
    is_deleted,
    place_of,
    requested_span,
    require_same,
    stream_duration,
)
from cctv_storaged.api.rendering import (
    Json,
    answer,
    deletion_json,
    fleet_segment_json,
    listed_json,
    segment_json,
)
from cctv_storaged.api.routing import PREFIX
from cctv_storaged.api.segment_models import NewSegmentBody, SegmentsQuery
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import Sight, hiding_holds, sight_of
from cctv_storaged.api.spans import Position, asked_span, cursor_of, position_of
from cctv_storaged.catalog.base import CatalogQuery
from cctv_storaged.errors import Fault, JournalFull, NotFound, Unprocessable
from cctv_storaged.fleet import asked
from cctv_storaged.journal.segments import Recorded
from cctv_storaged.model import Camera, Segment, TimeSpan
from cctv_storaged.removal import kept_by_the_vms

REGISTER = "POST /segments"
DELETE_PATIENCE_S = 2.0
"""A deletion whose backend takes longer goes on by itself: its tombstone is written first."""


# Register


async def register(request: web.Request, services: Services) -> web.StreamResponse:
    key = idempotency_key(request)
    body = await body_bytes(request)
    digest = hashlib.sha256(body).digest()
    sight = sight_of(request)
    if sight.limited and not sight.sees(camera_id := parsed(body, NewSegmentBody).camera_id):
        raise Unprocessable([Fault("camera_id", f"no camera {camera_id} on this host")])
    if key is not None and (earlier := await _made_earlier(services, key, digest)) is not None:
        return _registered(Recorded(segment=earlier, created=False))
    recorded = await _register(parsed(body, NewSegmentBody), sight, services)
    if key is not None:
        made = str(recorded.segment.id)
        await services.journal.idempotency.remember(REGISTER, key, digest, made, services.clock.now())
    return _registered(recorded)


async def _register(body: NewSegmentBody, sight: Sight, services: Services) -> Recorded:
    span = requested_span(body)
    roots = [root.path for root in services.roots]
    place = place_of(body.file_path, roots, services.settings.api.allowed_paths)
    _require_own_file(place, sight, services)
    examined = await asyncio.to_thread(examine, place, body.size_bytes)
    duration = await stream_duration(examined)
    new = described(examined, await _camera(body.camera_id, services), span, duration)
    recorded = await services.ingest.register(new)
    if not recorded.created:
        require_same(recorded.segment, new)
    return recorded


def _require_own_file(place: Place, sight: Sight, services: Services) -> None:
    """Who may see some cameras must not get at another's footage by calling its file theirs."""
    if not sight.limited:
        return
    root = next((each for each in services.roots if each.path == place.root), None)
    match = None if root is None else root.layout.match(place.path)
    if root is None or match is None or not sight.sees(root.cameras.of(match).id):
        raise Unprocessable([Fault("file_path", "there is no such file of the token's cameras")])


async def _camera(camera_id: UUID, services: Services) -> Camera:
    """As the settings name it, else as the journal knows it, else new."""
    configured = services.cameras.configured.get(camera_id)
    if configured is not None:
        return configured
    known = await services.journal.cameras.camera(camera_id)
    return known or services.cameras.with_id(camera_id)


async def _made_earlier(services: Services, key: str, digest: bytes) -> Segment | None:
    made = await services.journal.idempotency.made_by(REGISTER, key, digest)
    segment = None if made is None else await services.journal.segments.by_id(UUID(made))
    return None if segment is None or is_deleted(segment) else segment


def _registered(recorded: Recorded) -> web.StreamResponse:
    segment = recorded.segment
    location = f"{PREFIX}/segments/{segment.camera_id}/{segment.id}"
    return answer(
        segment_json(segment), status=201 if recorded.created else 200, headers={"Location": location}
    )


# List


async def list_segments(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, SegmentsQuery)
    span = asked_span(query.start, query.end, services.clock.now())
    after = None if query.cursor is None else position_of(query.cursor)
    camera_id = path_id(request, "camera_id")
    if query.scope == "fleet":
        return await _list_fleet(services, camera_id, span, query.limit, after)
    return await _list_host(services, camera_id, span, query.limit, after)


async def _list_host(
    services: Services, camera_id: UUID, span: TimeSpan, limit: int, after: Position | None
) -> web.StreamResponse:
    page = await services.journal.listing.page(camera_id, span, limit, after)
    if not page.segments:
        await require_camera(services, camera_id)
    return _page_answer([listed_json(segment) for segment in page.segments], page.next)


async def _list_fleet(
    services: Services, camera_id: UUID, span: TimeSpan, limit: int, after: Position | None
) -> web.StreamResponse:
    if services.catalog is None:
        raise Unprocessable([Fault("scope", "this host is part of no fleet: PostgreSQL is not configured")])
    query = CatalogQuery(camera_id=camera_id, span=span, limit=limit, after=after)
    page = await asked(services.catalog.find(query))
    return _page_answer([fleet_segment_json(row) for row in page.rows], page.next)


def _page_answer(segments: list[dict[str, Json]], following: Position | None) -> web.StreamResponse:
    return answer({"segments": segments, "next_cursor": None if following is None else cursor_of(following)})


async def require_camera(services: Services, camera_id: UUID) -> None:
    """Raises NotFound for a camera that is neither configured nor ever had footage here."""
    if camera_id in services.cameras.configured:
        return
    if await services.journal.cameras.camera(camera_id) is None:
        raise NotFound(f"no camera {camera_id} on this host")


# One segment


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    return answer(segment_json(await segment_of(request, services)))


async def segment_of(request: web.Request, services: Services) -> Segment:
    """The segment that the path names. Raises NotFound."""
    camera_id, segment_id = path_id(request, "camera_id"), path_id(request, "segment_id")
    segment = await services.journal.segments.by_id(segment_id)
    if segment is None or segment.camera_id != camera_id or is_deleted(segment):
        raise NotFound(f"camera {camera_id} has no segment {segment_id} on this host")
    return segment


async def delete(request: web.Request, services: Services) -> web.StreamResponse:
    """204; of a segment that XProtect may hold, what became of each copy."""
    segment = await segment_of(request, services)
    try:
        async with asyncio.timeout(DELETE_PATIENCE_S):
            with hiding_holds(sight_of(request)):
                await services.remover.delete(segment.id)
    except TimeoutError:
        await _require_tombstone(services, segment.id)
    kept = kept_by_the_vms(segment)
    if kept is None:
        return web.Response(status=204)
    left = await services.journal.segments.by_id(segment.id)
    return answer(deletion_json(segment, kept, complete=left is None))


async def _require_tombstone(services: Services, segment_id: UUID) -> None:
    """With the tombstone written the deletion is certain, whatever the backend does."""
    segment = await services.journal.segments.by_id(segment_id)
    if segment is not None and not is_deleted(segment):
        raise JournalFull(f"the deletion of {segment_id} was not written down in time")
