"""Bodies, queries and answers as pydantic models: they check what comes in, and OpenAPI is made of them.

Answers are rendered by hand (rendering.py), which is several times faster; a test holds every rendered
answer against its model here.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cctv_storaged.events import EventKind
from cctv_storaged.model import GapCause

UUID_PATTERN = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_UUID = re.compile(UUID_PATTERN)
# A space stands for a plus sign that somebody forgot to escape in a query.
_MOMENT = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,30}))?(?:[Zz]|(?P<sign>[+\- ])(?P<hours>[0-9]{2}):(?P<minutes>[0-5][0-9]))"
)


def parse_uuid(value: object) -> UUID:
    """A UUID in its usual form with dashes (RFC 9562, 4). Raises ValueError."""
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ValueError("must be a UUID such as 123e4567-e89b-12d3-a456-426614174000")
    return UUID(value)


def parse_moment(value: object) -> datetime:
    """An RFC 3339 date-time in UTC, to the microsecond. Raises ValueError."""
    if isinstance(value, datetime):
        return value
    found = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be an RFC 3339 time with its offset, such as 2025-01-23T10:00:00Z")
    try:
        naive = datetime.fromisoformat(f"{found['date']}T{found['time']}")
        fraction = timedelta(microseconds=int((found["fraction"] or "").ljust(6, "0")[:6]))
        return (naive + fraction).replace(tzinfo=_offset(found)).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise ValueError("is no possible time") from exc


def _offset(found: re.Match[str]) -> timezone:
    if found["sign"] is None:
        return UTC
    distance = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
    return timezone(-distance if found["sign"] == "-" else distance)


def whole_number(value: object) -> object:
    """A query's number: digits and nothing else."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value, re.ASCII):
        return int(value)
    if isinstance(value, str):
        raise ValueError("must be a whole number")
    return value


Uuid = Annotated[UUID, BeforeValidator(parse_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
Moment = Annotated[
    datetime, BeforeValidator(parse_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Incoming(BaseModel):
    """What a caller sends: nothing beyond the fields named."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


class Outgoing(BaseModel):
    """What a caller is answered. Later versions may add fields: clients pass over what they do not know."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


# Cameras


class SpanQuery(Incoming):
    """A span of time, at most 366 days."""

    start: Moment | None = None
    """Begin of the span asked for. Alone: from then until now (24 h where it lies ahead)."""
    end: Moment | None = None
    """End of the span, exclusive. Alone: the 24 h before it. With neither: the last 24 h."""


class CameraAnswer(Outgoing):
    """A camera and what this host has of it."""

    id: Uuid
    name: str
    folder: str
    """Its part of a recorder's path; commands and `retention.per_camera` take it for the id."""
    first_footage: Moment | None
    last_footage: Moment | None
    segments: int
    bytes: int
    bit_rate: float | None
    """Bits per second, measured over the newest segments."""
    state: Literal["recording", "silent", "unknown"]
    """`recording` while segments keep coming, `unknown` without any footage."""


class CamerasAnswer(Outgoing):
    """Every camera that is configured or has ever had footage here."""

    cameras: list[CameraAnswer]


class SpanAnswer(Outgoing):
    """Half-open `[start, end)`."""

    start: Moment
    end: Moment


class GapAnswer(Outgoing):
    """A span without footage."""

    start: Moment
    end: Moment
    cause: GapCause
    """docs/reference/coverage.md"""


class CoverageAnswer(Outgoing):
    """Spans and gaps together fill the span asked for."""

    spans: list[SpanAnswer]
    gaps: list[GapAnswer]


# Events


class EventsQuery(Incoming):
    """Which events."""

    camera_id: Uuid | None = None
    """Only those of this camera."""


class EventAnswer(Outgoing):
    """The `data` of one server-sent event; its `event` is the kind."""

    kind: EventKind
    at: Moment
    camera_id: Uuid | None
    segment_id: Uuid | None
    export_id: Uuid | None
    backend: str | None
    state: str | None
    detail: str | None


# Health and problems


class HealthAnswer(Outgoing):
    """The process lives."""

    status: Literal["alive"]
    version: str
    config_version: str | None
    """What the settings in force call themselves."""
    config_hash: str
    """SHA-256 of the settings in force, without host_id and secrets."""


class PartAnswer(Outgoing):
    """One part of the daemon."""

    name: str
    trouble: str | None
    """Null: it works."""
    essential: bool
    """Whether the daemon is not ready without it."""


class ReadyAnswer(Outgoing):
    """Whether the daemon does its work."""

    ready: bool
    parts: list[PartAnswer]


class FieldErrorAnswer(Outgoing):
    """One value that cannot be used."""

    field: str
    message: str


class ProblemAnswer(Outgoing):
    """A problem after RFC 9457."""

    type: str
    """A URN, the same for every problem of this kind."""
    title: str
    status: int
    detail: str
    instance: str | None = None
    """`urn:cctv-storaged:request:` and the X-Request-Id, under which the log tells of it."""
    errors: list[FieldErrorAnswer] | None = None
    """What is wrong field by field, for 422."""
