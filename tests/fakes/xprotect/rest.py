"""`/api/rest/v1/…`: which part answers what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from tests.fakes.xprotect import configapi, envelope, sequences
from tests.fakes.xprotect.configapi import ConfigApi
from tests.fakes.xprotect.envelope import ApiError, Object
from tests.fakes.xprotect.marks import Marks
from tests.fakes.xprotect.signals import Signals
from tests.fakes.xprotect.site import Site
from tests.fakes.xprotect.tasks import Tasks

MARKS = ("bookmarks", "evidenceLocks")
SIGNALS = ("userDefinedEvents", "events", "alarms")
KINDS = (*configapi.KINDS, *MARKS, *SIGNALS, "tasks")


@dataclass(frozen=True, slots=True)
class Rest:
    """Every request that has a good token."""

    site: Site
    config: ConfigApi
    tasks: Tasks
    marks: Marks
    signals: Signals

    async def serve(self, request: web.Request, steps: Sequence[str]) -> web.Response:
        kind, *rest = steps or [""]
        if not self.site.assumptions.paths_case_sensitive:
            kind = spelt(kind)
        body = await _body(request)
        if kind in MARKS:
            return self.marks.serve(request, kind, rest, body)
        if kind in SIGNALS:
            return self.signals.serve(request, kind, rest, body)
        if kind == "tasks":
            return self.tasks.serve(request, rest)
        if kind == "cameras" and request.method == "POST" and len(rest) == 1:
            return self._camera_task(request, rest[0], body)
        if kind in configapi.KINDS:
            return self.config.serve(request, kind, rest)
        raise ApiError(404, f"Unknown resource {kind}")

    def _camera_task(self, request: web.Request, name: str, body: Object) -> web.Response:
        camera = self.site.camera(self.config.find("cameras", name).id)
        task = request.query.get("task", "")
        self.site.calls.count(f"task:{task}")
        assert camera is not None
        match task:
            case "GetSequences":
                return sequences.get_sequences(self.site, camera, body)
            case "RetrieveEdgeStorage":
                return self.tasks.retrieve(camera, body)
            case "TruncateStorage":
                self.site.media.remove(camera.id, 0, 2**62)
                return envelope.answer(self.site.assumptions, {"state": "Success"}, "result")
        raise ApiError(400, f"Unknown task: {task}", "task")


def spelt(kind: str) -> str:
    """A resource as it is published, from its name in any case."""
    return next((each for each in KINDS if each.lower() == kind.lower()), kind)


async def _body(request: web.Request) -> Object:
    """An object; empty where nothing was sent."""
    text = await request.text()
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        raise ApiError(400, "The body is no JSON") from None
    if not isinstance(value, dict):
        raise ApiError(400, "The body is no object")
    return value
