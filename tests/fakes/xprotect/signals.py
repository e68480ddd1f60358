"""User-defined events, events and alarms by REST (4.3 of the paper)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from aiohttp import web

from tests.fakes.xprotect import configapi, envelope
from tests.fakes.xprotect.envelope import ApiError, Object
from tests.fakes.xprotect.site import Site, guid
from tests.fakes.xprotect.tasks import Tasks

BUILT_IN_EVENTS = (
    UUID("85867627-b287-4439-9e55-a63701e1715b"),
    UUID("77b1e70d-ba8d-4bb8-9ee8-43b09746d82a"),
    UUID("7605f8b0-7f5f-4432-b223-0bb2dc3f1f5c"),
)
RETRIEVAL_EVENT = guid("event that retrieves")
"""A rule of the site's retrieves on it, where `Site.rule_retrieves` is set."""
_UNKNOWN = "Bad request: Unknown request"


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that was raised."""

    id: UUID
    name: str
    message: str
    source: UUID
    at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """A user-defined event that was triggered."""

    id: UUID
    type: UUID
    source: UUID | None
    at: datetime


@dataclass(slots=True)
class Signals:
    """All there were."""

    site: Site
    tasks: Tasks
    alarms: list[Alarm] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    event_types: dict[UUID, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.event_types |= {each: f"Built-in event {at}" for at, each in enumerate(BUILT_IN_EVENTS)}
        self.event_types[RETRIEVAL_EVENT] = "Retrieve footage"

    def serve(self, request: web.Request, kind: str, steps: Sequence[str], body: Object) -> web.Response:
        handlers: Mapping[str, Callable[[web.Request, Sequence[str], Object], web.Response]] = {
            "userDefinedEvents": self._event_types,
            "events": self._events,
            "alarms": self._alarms,
        }
        return handlers[kind](request, steps, body)

    def _event_types(self, request: web.Request, steps: Sequence[str], body: Object) -> web.Response:
        match (request.method, *steps):
            case ("GET",):
                told = [self._event_type(each) for each in self.event_types]
                page = configapi.chosen(self.site.assumptions, request.query, told)
                return envelope.array(self.site.assumptions, page)
            case ("POST",):
                made = uuid4()
                self.event_types[made] = envelope.read_text(body, "name")
                return envelope.answer(self.site.assumptions, self._event_type(made), "result", status=201)
        raise ApiError(400, _UNKNOWN)

    def _event_type(self, each: UUID) -> Object:
        name = self.event_types[each]
        relations = {"self": {"type": "userDefinedEvents", "id": each}}
        return {"id": each, "name": name, "displayName": name, "relations": relations}

    def _events(self, request: web.Request, steps: Sequence[str], body: Object) -> web.Response:
        assumptions = self.site.assumptions
        match (request.method, *steps):
            case ("GET",):
                told = [_told_event(each) for each in self.events]
                page = configapi.chosen(assumptions, request.query, told)
                return envelope.array(assumptions, page)
            case ("GET", name):
                wanted = envelope.read_guid(name, "id")
                for each in self.events:
                    if each.id == wanted:
                        return envelope.answer(assumptions, _told_event(each))
                raise ApiError(404, f"events {name} was not found")
            case ("POST",):
                return envelope.answer(assumptions, _told_event(self._trigger(body)), status=202)
        raise ApiError(400, _UNKNOWN)

    def _trigger(self, body: Object) -> Event:
        kind = envelope.read_guid(envelope.read_text(body, "type"), "type")
        if kind not in self.event_types:
            raise ApiError(400, f"unknown event type {kind}", "type")
        source = None
        if body.keys() - {"type"}:
            if self.site.assumptions.event_source == "refused":
                raise ApiError(400, "unknown fields", sorted(body.keys() - {"type"})[0])
            if self.site.assumptions.event_source == "kept" and "source" in body:
                source = _source(body)
        event = Event(uuid4(), kind, source, self.site.now())
        self.events.append(event)
        if kind == RETRIEVAL_EVENT:
            self._obey_rule(source)
        return event

    def _obey_rule(self, source: UUID | None) -> None:
        """ "Retrieve and store remote recordings from": the event's camera, or all that can."""
        before = self.site.rule_retrieves
        if before is None:
            return
        now = self.site.now()
        for camera in self.site.known():
            if source in (None, camera.id) and self.site.has_edge_storage(camera):
                self.tasks.begin(camera, now - before, now)

    def _alarms(self, request: web.Request, steps: Sequence[str], body: Object) -> web.Response:
        assumptions = self.site.assumptions
        match (request.method, *steps):
            case ("GET",):
                told = [_told_alarm(each) for each in self.alarms]
                page = configapi.chosen(assumptions, request.query, told)
                return envelope.array(assumptions, page)
            case ("POST",):
                name, message = envelope.read_text(body, "name"), envelope.read_text(body, "message")
                alarm = Alarm(uuid4(), name, message, _source(body), self.site.now())
                if self.site.camera(alarm.source) is None:
                    raise ApiError(400, f"unknown source {alarm.source}", "source")
                self.alarms.append(alarm)
                return envelope.answer(assumptions, _told_alarm(alarm), status=202)
        raise ApiError(400, _UNKNOWN)


def _source(body: Object) -> UUID:
    """A camera's id, or a path to it."""
    return envelope.read_guid(envelope.read_text(body, "source").removeprefix("cameras/"), "source")


def _told_event(event: Event) -> Object:
    told: dict[str, object] = {"id": event.id, "type": event.type, "time": event.at}
    if event.source is not None:
        told["source"] = f"cameras/{event.source}"
    return told


def _told_alarm(alarm: Alarm) -> Object:
    return {
        "id": alarm.id,
        "name": alarm.name,
        "message": alarm.message,
        "source": f"cameras/{alarm.source}",
        "time": alarm.at,
    }
