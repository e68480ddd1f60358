"""Events as they happen, as server-sent events (HTML, 9.2). Nothing is replayed; the journal has all."""

import asyncio
import logging
from collections.abc import Iterator
from uuid import UUID

from aiohttp import web

from cctv_storaged.api.auth import still_let_in
from cctv_storaged.api.models import EventsQuery
from cctv_storaged.api.parsing import query_of
from cctv_storaged.api.rendering import encoded, event_json
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import sight_of
from cctv_storaged.events import Event, Listener

log = logging.getLogger(__name__)

STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set once the server stops: streams without an end of their own then end."""
HEARTBEAT_S = 15.0
"""Proxies cut connections that are silent for a minute or less."""
TICK_S = 0.5
"""How often a stream looks whether its client or the server is leaving, or its token opens nothing more."""
STALL_S = 30.0
MOST_AT_ONCE = 100
RETRY_MS = 3000


async def events(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, EventsQuery)
    response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    sight = sight_of(request)
    if query.camera_id is not None:
        sight.require(query.camera_id)
    wants = (lambda event: sight.sees(event.camera_id)) if sight.limited else None
    with services.hub.listen(wants) as listener:
        await response.prepare(request)
        await _write(response, f"retry: {RETRY_MS}\n\n")
        await _follow(request, services, response, Stream(listener, query.camera_id))
    if request.transport is not None:
        await response.write_eof()
    return response


async def _follow(
    request: web.Request, services: Services, response: web.StreamResponse, stream: "Stream"
) -> None:
    """Until the client or the server leaves, or whoever listens would not be let in any more."""
    loop = asyncio.get_running_loop()
    heartbeat_at = loop.time() + HEARTBEAT_S
    while not request.app[STOPPING].is_set() and request.transport is not None:
        text = await stream.next(TICK_S)
        if not still_let_in(request, services):
            return
        if not text and loop.time() >= heartbeat_at:
            text = ": still here\n\n"
        if text:
            await _write(response, text)
            heartbeat_at = loop.time() + HEARTBEAT_S


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(STALL_S):
        await response.write(text.encode())


class Stream:
    """One listener's events as text. Ids count what was missed as well: a gap among them tells."""

    def __init__(self, listener: Listener, camera_id: UUID | None) -> None:
        self._listener = listener
        self._camera_id = camera_id
        self._number = 0

    async def next(self, timeout_s: float) -> str:
        """What has happened, once something has; empty after `timeout_s` without."""
        try:
            async with asyncio.timeout(timeout_s):
                first = await self._listener.queue.get()
        except TimeoutError:
            return ""
        return self._missed() + "".join(self._told(event) for event in self._with_more(first))

    def _with_more(self, first: Event) -> Iterator[Event]:
        yield first
        for _ in range(MOST_AT_ONCE - 1):
            if self._listener.queue.empty():
                return
            yield self._listener.queue.get_nowait()

    def _told(self, event: Event) -> str:
        if self._camera_id is not None and event.camera_id != self._camera_id:
            return ""
        self._number += 1
        return f"id: {self._number}\nevent: {event.kind}\ndata: {encoded(event_json(event))}\n\n"

    def _missed(self) -> str:
        """Word of events that did not fit the queue: the client was too slow."""
        missed, self._listener.missed = self._listener.missed, 0
        if not missed:
            return ""
        self._number += missed
        return f"id: {self._number}\nevent: missed\ndata: {encoded({'missed': missed})}\n\n"
