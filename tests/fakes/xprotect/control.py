"""The control port: a plain HTTP interface for tests and operators. No part of XProtect.

GET  /state                what is recorded, marked and running, and how often what was called
POST /faults, /assumptions an object of names and values (faults.py, assumptions.py): all are set or none
POST /record               {camera, path, start}: a .ts file as what XProtect recorded of the camera
POST /edge                 the same: a .ts file that the camera itself keeps, for retrievals
POST /purge                {camera, start, end}: what is not locked goes, as by retention
POST /calls/reset          counts anew
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from aiohttp import web

from tests.fakes.xprotect import envelope
from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.envelope import ApiError, Object
from tests.fakes.xprotect.marks import Mark
from tests.fakes.xprotect.pictures import ms
from tests.fakes.xprotect.simulator import Simulator
from tests.fakes.xprotect.site import EdgeFile
from tests.fakes.xprotect.tasks import Task

_PLAIN = Assumptions()


@dataclass(frozen=True, slots=True)
class Control:
    """Steers one simulator."""

    simulator: Simulator

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/state", self._state)
        for path, handle in (
            ("/faults", self._faults),
            ("/assumptions", self._assumptions),
            ("/record", self._record),
            ("/edge", self._edge),
            ("/purge", self._purge),
            ("/calls/reset", self._reset_calls),
        ):
            app.router.add_post(path, _answering(handle))
        return app

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(state(self.simulator))

    async def _faults(self, body: Object) -> Object:
        await self.simulator.set_faults(**body)
        return self.simulator.site.faults.as_dict()

    async def _assumptions(self, body: Object) -> Object:
        return self.simulator.site.assumptions.set(body).as_dict()

    async def _record(self, body: Object) -> Object:
        camera, path, start = _file(body)
        media = self.simulator.site.media
        return {"groups": await asyncio.to_thread(media.add_ts, camera, path, start)}

    async def _edge(self, body: Object) -> Object:
        camera, path, start = _file(body)
        files = self.simulator.site.edge.setdefault(camera, [])
        files.append(EdgeFile(path=path, start=start))
        return {"files": len(files)}

    async def _purge(self, body: Object) -> Object:
        camera = envelope.read_guid(body.get("camera"), "camera")
        start, end = envelope.read_time(body, "start"), envelope.read_time(body, "end")
        return {"groups": self.simulator.site.media.remove(camera, ms(start), ms(end))}

    async def _reset_calls(self, body: Object) -> Object:
        self.simulator.site.calls.clear()
        return {}


def state(simulator: Simulator) -> Object:
    """As JSON; times in ms since 1970."""
    site = simulator.site
    return {
        "sequences": {
            str(each.id): [list(one) for one in site.media.sequences(each.id)] for each in site.cameras
        },
        "bookmarks": [_mark(each) for each in simulator.marks.bookmarks.values()],
        "locks": [_mark(each) for each in simulator.marks.locks.values()],
        "alarms": [
            {"name": each.name, "message": each.message, "camera": str(each.source)}
            for each in simulator.signals.alarms
        ],
        "events": [
            {"type": str(each.type), "camera": str(each.source) if each.source else None}
            for each in simulator.signals.events
        ],
        "tasks": [_task(each) for each in simulator.tasks.known.values()],
        "calls": dict(site.calls),
        "recorder_tokens": site.tokens.corporate_in_force,
        "recorder_connections": simulator.recorder.connections,
        "faults": site.faults.as_dict(),
        "assumptions": site.assumptions.as_dict(),
    }


def _mark(mark: Mark) -> Object:
    return {
        "id": str(mark.id),
        "start_ms": ms(mark.start),
        "end_ms": ms(mark.end),
        "cameras": [str(each) for each in mark.cameras],
        **mark.texts,
    }


def _task(task: Task) -> Object:
    return {
        "id": str(task.id),
        "camera": str(task.camera.id),
        "identifier": str(task.identifier) if task.identifier else None,
        "start_ms": ms(task.start),
        "end_ms": ms(task.end),
        "polls": task.polls,
        "outcome": task.outcome,
    }


def _file(body: Object) -> tuple[UUID, Path, datetime]:
    camera = envelope.read_guid(body.get("camera"), "camera")
    return camera, Path(envelope.read_text(body, "path")), envelope.read_time(body, "start")


def _answering(
    handle: Callable[[Object], Awaitable[Object]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        text = await request.text()
        try:
            return web.json_response(await handle(json.loads(text) if text else {}))
        except ApiError as exc:
            return web.json_response({"error": exc.text}, status=exc.status)
        except (ValueError, OSError) as exc:
            return web.json_response({"error": str(exc)}, status=400)

    return answer
