"""What a route is: its handler, whom it lets in, and what of it the OpenAPI document tells."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from aiohttp import web
from pydantic import BaseModel

from cctv_storaged.access import Scope
from cctv_storaged.api.problems import Kind
from cctv_storaged.api.services import Services

Handler = Callable[[web.Request, Services], Awaitable[web.StreamResponse]]

PREFIX = "/api/v1/storage"


class Lane(Enum):
    """Which limit on simultaneous requests a route stands under."""

    FREE = "free"  # probes must be answered whatever else goes on
    ORDINARY = "ordinary"
    HEAVY = "heavy"  # seconds of work for one request
    CONTENT = "content"
    EVENTS = "events"


class Reach(Enum):
    """What a route tells of, and so what a token that is limited to cameras gets of it."""

    HOST = "host"  # the whole host, or cameras without distinction: nothing
    CAMERA = "camera"  # the camera in its path: that of its cameras
    SIFTED = "sifted"  # several: the handler asks `sight_of`
    NEUTRAL = "neutral"  # no camera at all: everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One kind of success."""

    status: int
    means: str
    model: type[BaseModel] | None = None  # None: no body, or one of another media type
    media_type: str | None = "application/json"  # None: no body
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    name: str  # operationId
    summary: str
    scope: Scope | None  # None: everybody, unless the settings protect it
    answers: tuple[Answer, ...]
    lane: Lane = Lane.ORDINARY
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_required: bool = True
    headers: tuple[str, ...] = ()  # request headers that mean something here
    problems: tuple[Kind, ...] = ()  # besides those any route of its sort may give
    reach: Reach | None = None  # None: that of its path's camera; where there is none, the host
    changes: bool = True  # whether a method that may change something does: a line in the audit

    @property
    def reaches(self) -> Reach:
        """What it tells of; denied to limited tokens where nobody said otherwise."""
        if self.reach is not None:
            return self.reach
        return Reach.CAMERA if "{camera_id}" in self.path else Reach.HOST
