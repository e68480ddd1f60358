"""Tasks of the Config API: asked for on an object, polled under `/tasks`, cleaned up when seen to their end.

States are `Success`, `Error`, and anything else while a task is under way (MIP VMS Config API).
"""

import re

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.base import TaskProgress, TaskState
from cctv_storaged.backends.milestone.jsontree import Fields
from cctv_storaged.backends.milestone.refusals import NotThere
from cctv_storaged.backends.milestone.rest import Body, Rest, path_of
from cctv_storaged.errors import ObjectMissing, ObjectRejected

_ID = re.compile(r"[A-Za-z0-9{][A-Za-z0-9{}_.-]{0,127}")
_DONE = "done."  # what was done at once needs no task: an id of ours, which no server ever saw


class Tasks:
    """Of one site."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def ask(self, path: str, task: str, body: Body) -> Fields:
        """What the task answers at once. ObjectRejected where that is an error."""
        told = await self._rest.post(path, body, task)
        if _state(told) is TaskState.ERROR:
            raise ObjectRejected(f"{task} of {path}: {self._error(told)}")
        return told

    async def start(self, path: str, task: str, body: Body) -> str:
        """The id of the task that does it."""
        told = await self.ask(path, task, body)
        if task_id := _task_id(told):
            return task_id
        if _state(told) is TaskState.SUCCESS:
            return f"{_DONE}{task}"
        raise Unreadable(f"{task} of {path}: the answer names no task")

    async def progress(self, task_id: str) -> TaskProgress:
        """ObjectMissing where no such task is known."""
        if task_id.startswith(_DONE):
            return TaskProgress(state=TaskState.SUCCESS, percent=100, error=None)
        if not _ID.fullmatch(task_id):
            raise ObjectMissing(f"{task_id[:40]!r} is no task's id")
        told = await self._rest.one(path_of("tasks", task_id))
        state = _state(told)
        percent = 100 if state is TaskState.SUCCESS else min(max(int(told.number("progress") or 0), 0), 100)
        return TaskProgress(
            state=state, percent=percent, error=self._error(told) if state is TaskState.ERROR else None
        )

    async def clean_up(self, task_id: str) -> None:
        """One that is unknown is success."""
        if task_id.startswith(_DONE) or not _ID.fullmatch(task_id):
            return
        try:
            await self.ask(path_of("tasks", task_id), "TaskCleanup", {})
        except NotThere:
            return

    async def offered(self, path: str) -> frozenset[str]:
        """The tasks of an object, in lower case; empty where it does not tell."""
        told = await self._rest.whole(path, "tasks&noData")
        return frozenset(task.text("id").lower() for task in told.each("tasks") or ())

    def _error(self, told: Fields) -> str:
        """Number and text."""
        said = ": ".join(filter(None, (told.text("errorCode"), told.text("errorText"))))
        return self._rest.words(said) or "no reason is given"


def _state(told: Fields) -> TaskState:
    match told.text("state").lower():
        case "success" | "completed":
            return TaskState.SUCCESS
        case "error" | "failed":
            return TaskState.ERROR
        case _:
            return TaskState.RUNNING


def _task_id(told: Fields) -> str:
    """From `path` {type, id}; the type may be told in any case."""
    path = told.inner("path")
    found = path.text("id") if path is not None and path.text("type").lower() in {"tasks", ""} else ""
    return found if _ID.fullmatch(found) and not found.startswith(_DONE) else ""
