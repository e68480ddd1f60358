"""Jobs that the site does for a client: retrieval from a camera's device, and how a client sees it
(1.5 and 2.2 of the paper): Idle, then in progress, then Success or Error, and cleaned up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from aiohttp import web

from tests.fakes.xprotect import configapi, envelope
from tests.fakes.xprotect.envelope import NOT_SET, ApiError, Object
from tests.fakes.xprotect.site import Camera, Site

RETRIEVING_EDITIONS = ("Corporate", "Expert", "Professional+")


class RetrievalFailed(Exception):
    """The device did not give what it was asked for."""

    def __init__(self, text: str, code: int = 60277) -> None:
        super().__init__(text)
        self.code = code


Retrieve = Callable[[Site, Camera, datetime, datetime], Awaitable[None]]
"""Puts a span of a camera's own footage into the media database, or raises RetrievalFailed."""


@dataclass(slots=True, kw_only=True)
class Task:
    """One retrieval."""

    camera: Camera
    start: datetime
    end: datetime
    identifier: UUID | None
    started: datetime
    id: UUID = field(default_factory=uuid4)
    ended: datetime = NOT_SET
    polls: int = 0
    outcome: Literal["Success", "Error"] | None = None
    error_code: int = 0
    error_text: str = ""


@dataclass(slots=True)
class Tasks:
    """All that were not cleaned up."""

    site: Site
    fetch: Retrieve
    known: dict[UUID, Task] = field(default_factory=dict)
    _jobs: set[asyncio.Task[None]] = field(default_factory=set)

    def retrieve(self, camera: Camera, body: Object) -> web.Response:
        """The task `RetrieveEdgeStorage` of a camera."""
        assumptions = self.site.assumptions
        self._refuse(camera)
        start, end = envelope.read_time(body, "startTime"), envelope.read_time(body, "endTime")
        if end <= start:
            raise ApiError(400, "endTime is not after startTime", "endTime")
        identifier = _identifier(body)
        _related(body)
        task = self._same(identifier) if identifier is not None else None
        task = task or self.begin(camera, start, end, identifier)
        told: Object = {"state": "Idle", "path": {"type": "tasks", "id": task.id}}
        return envelope.answer(
            assumptions, told, assumptions.retrieve_wrapper, status=assumptions.retrieve_status
        )

    def begin(self, camera: Camera, start: datetime, end: datetime, identifier: UUID | None = None) -> Task:
        """A retrieval, whoever asked for it: REST or a rule."""
        task = Task(camera=camera, start=start, end=end, identifier=identifier, started=self.site.now())
        self.known[task.id] = task
        job = asyncio.get_running_loop().create_task(self._run(task))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return task

    def serve(self, request: web.Request, steps: Sequence[str]) -> web.Response:
        """`/tasks` and `/tasks/{id}`."""
        if self.site.faults.tasks_forgotten:
            self.known.clear()
            self.site.faults.tasks_forgotten = False
        match (request.method, *steps):
            case ("GET",):
                told = [self._told(task) for task in self.known.values()]
                page = configapi.chosen(self.site.assumptions, request.query, told)
                return envelope.array(self.site.assumptions, page)
            case ("GET", name):
                task = self._find(name)
                task.polls += 1
                return envelope.answer(self.site.assumptions, self._told(task))
            case ("POST", name) if request.query.get("task") == "TaskCleanup":
                return self._clean_up(self._find(name))
        raise ApiError(400, "Bad request: Unknown request")

    async def close(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _refuse(self, camera: Camera) -> None:
        status = self.site.assumptions.retrieval_refused_status
        if self.site.faults.edition not in RETRIEVING_EDITIONS:
            raise ApiError(status, f"XProtect {self.site.faults.edition} retrieves no remote recordings")
        if not self.site.has_edge_storage(camera):
            raise ApiError(status, f"Remote recording is not enabled for {camera.name}", "edgeStorageEnabled")
        if not self.site.is_enabled(camera):
            raise ApiError(status, f"{camera.name} is disabled", "enabled")

    def _same(self, identifier: UUID) -> Task | None:
        """The task that has this identifier already, where it is taken for the same."""
        task = next((task for task in self.known.values() if task.identifier == identifier), None)
        if task is not None and self.site.assumptions.identifier_reuse == "rejected":
            raise ApiError(400, f"A job with the identifier {identifier} exists", "identifier")
        return task if self.site.assumptions.identifier_reuse == "merged" else None

    async def _run(self, task: Task) -> None:
        faults = self.site.faults
        while faults.tasks_hang:
            await asyncio.sleep(0.01)
        try:
            if faults.task_error is not None:
                raise RetrievalFailed("The retrieval failed", faults.task_error)
            if faults.storage_full or not faults.storage_available:
                raise RetrievalFailed("The storage cannot be written to", 60278)
            if not faults.retrieves_nothing:
                await self.fetch(self.site, task.camera, task.start, task.end)
        except Exception as exc:  # noqa: BLE001 - whatever it was, a client sees a failed task
            task.error_code = exc.code if isinstance(exc, RetrievalFailed) else 60277
            task.error_text = f"VMO{task.error_code}: {exc}"
        task.outcome = "Error" if task.error_code else "Success"
        task.ended = self.site.now()

    def _find(self, name: str) -> Task:
        task = self.known.get(envelope.read_guid(name, "id"))
        if task is None:
            raise ApiError(404, f"tasks {name} was not found", "id", "NotFound")
        return task

    def _clean_up(self, task: Task) -> web.Response:
        self.site.calls.count("task:TaskCleanup")
        if task.outcome is None:
            raise ApiError(400, "The task has not ended")
        del self.known[task.id]
        return envelope.answer(self.site.assumptions, {"state": "Success"}, "result")

    def _told(self, task: Task) -> dict[str, object]:
        polls, needed = task.polls, self.site.faults.task_polls
        over = task.outcome is not None and polls > needed
        progress = 100 if over else min(99, 100 * polls // (needed + 1))
        state = (task.outcome or "") if over else self.site.assumptions.running_state
        return {
            "id": task.id,
            "taskType": "StorageRetrieval",
            "displayName": f"Retrieve remote recordings from {task.camera.name}",
            "state": state if polls else "Idle",
            "progress": progress if polls else 0,
            "errorCode": task.error_code if over else 0,
            "errorText": task.error_text if over else "",
            "taskStartTime": task.started,
            "taskEndTime": task.ended if over else NOT_SET,
            "startTime": task.start,
            "endTime": task.end,
            "relations": {"self": {"type": "tasks", "id": task.id}},
        }


def _identifier(body: Object) -> UUID | None:
    """ "Must be either empty or a valid GUID" """
    text = envelope.read_text(body, "identifier", "")
    return envelope.read_guid(text, "identifier") if text else None


def _related(body: Object) -> None:
    for each in envelope.read_text(body, "relatedTasks", "").replace(";", ",").split(","):
        if each.strip():
            envelope.read_guid(each.strip(), "relatedTasks")
