"""Bookmarks and evidence locks by REST (4.1 and 4.2 of the paper)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from aiohttp import web

from tests.fakes.xprotect import envelope
from tests.fakes.xprotect.envelope import ApiError, Object
from tests.fakes.xprotect.pictures import ms
from tests.fakes.xprotect.site import Site

_UNKNOWN = "Bad request: Unknown request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A bookmark or an evidence lock: its span, and what else it says."""

    id: UUID
    start: datetime
    tag: datetime
    end: datetime
    cameras: tuple[UUID, ...]
    texts: Mapping[str, str]
    further: Mapping[str, object] = field(default_factory=dict)
    created: datetime
    changed: datetime


@dataclass(slots=True)
class Marks:
    """All there are."""

    site: Site
    bookmarks: dict[UUID, Mark] = field(default_factory=dict)
    locks: dict[UUID, Mark] = field(default_factory=dict)
    references: int = 0

    def serve(self, request: web.Request, kind: str, steps: Sequence[str], body: Object) -> web.Response:
        _since(self.site, (24, 2))
        if kind == "bookmarks":
            return self._marks(request, steps, body, _BOOKMARK, self.bookmarks)
        if self.site.faults.edition != "Corporate":
            status = self.site.assumptions.lock_refused_status
            raise ApiError(status, f"XProtect {self.site.faults.edition} has no evidence locks")
        return self._marks(request, steps, body, _LOCK, self.locks)

    def _marks(
        self,
        request: web.Request,
        steps: Sequence[str],
        body: Object,
        form: "_Form",
        marks: dict[UUID, Mark],
    ) -> web.Response:
        match (request.method, *steps):
            case ("POST",) if "task" in request.query:
                return self._mark_task(request.query["task"])
            case ("POST",):
                return self._create(body, form, marks)
            case ("GET", name):
                return self._answer(form, _find(marks, name, form), 200)
            case ("PATCH", name):
                return self._change(_find(marks, name, form), body, form, marks)
            case ("DELETE", name):
                return self._delete(_find(marks, name, form), marks)
        raise ApiError(400, _UNKNOWN)  # and so for a collection that is asked for

    def _mark_task(self, task: str) -> web.Response:
        """Of the searches neither body nor answer was published where we read: they are not simulated."""
        if task != "newReference":
            raise ApiError(400, f"Unknown task: {task} (not simulated)", "task")
        self.references += 1
        return envelope.answer(self.site.assumptions, {"reference": f"no.{self.references:06d}"}, "result")

    def _create(self, body: Object, form: "_Form", marks: dict[UUID, Mark]) -> web.Response:
        mark = form.read(body, self.site, None)
        for camera in mark.cameras:
            if self.site.camera(camera) is None:
                raise ApiError(400, f"cameras {camera} was not found", form.devices)
        if form is _LOCK and self.site.faults.partial_locks:
            mark = _without_last_camera(mark)
        self._keep(mark, form, marks)
        status = _status(form, self.site)
        return self._answer(form, mark, status)

    def _change(self, mark: Mark, body: Object, form: "_Form", marks: dict[UUID, Mark]) -> web.Response:
        assumptions = self.site.assumptions
        before = envelope.plain(assumptions, self._told(form, mark))
        assert isinstance(before, dict)
        changed = form.read({**before, **body}, self.site, mark)
        self._keep(changed, form, marks)
        return self._answer(form, changed, 200)

    def _keep(self, mark: Mark, form: "_Form", marks: dict[UUID, Mark]) -> None:
        marks[mark.id] = mark
        if form is _LOCK:
            self.site.media.lock(mark.id, mark.cameras, ms(mark.start), ms(mark.end))

    def _delete(self, mark: Mark, marks: dict[UUID, Mark]) -> web.Response:
        del marks[mark.id]
        self.site.media.unlock(mark.id)
        if self.site.assumptions.delete_status == 204:
            return web.Response(status=204)
        return envelope.answer(self.site.assumptions, {"state": "Success"}, "result")

    def _answer(self, form: "_Form", mark: Mark, status: int) -> web.Response:
        assumptions = self.site.assumptions
        created = assumptions.bookmark_wrapper if form is _BOOKMARK else assumptions.lock_wrapper
        told = self._told(form, mark)
        wrapper = created if status == _status(form, self.site) != 200 else "data"
        return envelope.answer(assumptions, told, wrapper, status=status)

    def _told(self, form: "_Form", mark: Mark) -> dict[str, object]:
        told: dict[str, object] = {"id": mark.id, **mark.texts, **mark.further}
        told |= dict(zip(form.times, (mark.start, mark.tag, mark.end), strict=True))
        paths = [{"type": "cameras", "id": camera} for camera in mark.cameras]
        told[form.devices] = paths if form is _LOCK else paths[0]
        told["user"] = self.site.user
        told["relations"] = {"self": {"type": form.kind, "id": mark.id}}
        if form is _LOCK:
            told |= {"created": mark.created, "lastModified": mark.changed}
            told["retentionSize"] = self.site.media.locked_bytes
        else:
            camera = self.site.camera(mark.cameras[0])
            told["deviceName"] = camera.name if camera else ""
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How a bookmark and a lock differ."""

    kind: str
    times: tuple[str, str, str]
    devices: str
    needed: tuple[str, ...]

    def read(self, body: Object, site: Site, before: Mark | None) -> Mark:
        absent = [name for name in (*self.needed, *self.times, self.devices) if name not in body]
        if absent:
            raise envelope.missing(*absent)
        start, tag, end = (envelope.read_time(body, name) for name in self.times)
        if site.assumptions.marks_checked and not start <= tag <= end:
            raise ApiError(400, f"{' ≤ '.join(self.times)} does not hold", self.times[1])
        now = site.now()
        return Mark(
            id=before.id if before else uuid4(),
            start=start,
            tag=tag,
            end=end,
            cameras=self._cameras(body[self.devices]),
            texts={name: envelope.read_text(body, name, "") for name in _TEXTS},
            further={name: body[name] for name in _RETENTION if name in body},
            created=before.created if before else now,
            changed=now,
        )

    def _cameras(self, value: object) -> tuple[UUID, ...]:
        if self.devices == "devicePath":
            return (envelope.read_camera_path(value, "devicePath"),)
        if not isinstance(value, list) or not value:
            raise ApiError(400, "devicePaths is a list", "devicePaths")
        return tuple(envelope.read_camera_path(each, "devicePaths") for each in value)


_TEXTS = ("header", "description", "reference")
_RETENTION = ("retentionExpire", "retentionOption")
_BOOKMARK = _Form(
    kind="bookmarks",
    times=("timeBegin", "timeTriggered", "timeEnd"),
    devices="devicePath",
    needed=("header",),
)
_LOCK = _Form(
    kind="evidenceLocks",
    times=("startTime", "tagTime", "endTime"),
    devices="devicePaths",
    needed=("header",),
)


def _status(form: _Form, site: Site) -> int:
    """Of an answer to a creation."""
    return site.assumptions.bookmark_status if form is _BOOKMARK else site.assumptions.lock_status


def _without_last_camera(mark: Mark) -> Mark:
    """A partial lock: its answer tells only the cameras that it covers (D, 4.2: how this is told)."""
    return Mark(
        id=mark.id,
        start=mark.start,
        tag=mark.tag,
        end=mark.end,
        cameras=mark.cameras[:-1],
        texts=mark.texts,
        further=mark.further,
        created=mark.created,
        changed=mark.changed,
    )


def _find(marks: Mapping[UUID, Mark], name: str, form: _Form) -> Mark:
    mark = marks.get(envelope.read_guid(name, "id"))
    if mark is None:
        raise ApiError(404, f"{form.kind} {name} was not found", "id", "NotFound")
    return mark


def _since(site: Site, release: tuple[int, int]) -> None:
    year, number = site.faults.version.split(".")[:2]
    if (int(year), int(number)) < release:
        raise ApiError(404, "Not Found")
