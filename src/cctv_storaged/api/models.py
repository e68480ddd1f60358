"""Bodies, queries and answers as pydantic models: they check what comes in, and OpenAPI is made of them.

Answers are rendered by hand (rendering.py), which is several times faster; a test holds every rendered
answer against its model here.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cctv_storaged.access import Scope
from cctv_storaged.events import EventKind
from cctv_storaged.model import BackendKind, CopyState, GapCause, SegmentFlag

UUID_PATTERN = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
MOST_BYTES = 2**63 - 1
LONGEST_SEGMENT = timedelta(hours=24)
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


# Segments


class NewSegmentBody(Incoming):
    """A closed segment that somebody describes in full."""

    camera_id: Uuid
    """The camera it belongs to; one not known yet becomes known by this."""
    start_time: Moment
    """When it begins."""
    end_time: Moment
    """When it ends: after it begins, and at most 24 h later."""
    file_path: Annotated[
        str, Field(strict=True, min_length=2, max_length=4096, pattern=r"^/[^\x00-\x1f\x7f-\x9f]+$")
    ]
    """Absolute path, below a recorder root or one of `api.allowed_paths`, with no link on the way."""
    size_bytes: Annotated[int, Field(strict=True, ge=1, le=MOST_BYTES)]
    """Its size, exactly."""
    duration_seconds: Annotated[float, Field(strict=True, gt=0, le=90_000, allow_inf_nan=False)]
    """Its length; must agree with the span and with the stream's own clock within 1 s or 2 %."""


class SegmentsQuery(Incoming):
    """Which segments of a camera."""

    start: Moment | None = None
    """Begin of the span asked for. Alone: from then until now (24 h where it lies ahead)."""
    end: Moment | None = None
    """End of the span, exclusive. Alone: the 24 h before it. With neither: the last 24 h."""
    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1000)] = 100
    """Most segments in one answer."""
    cursor: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """`next_cursor` of the answer before, with the other parameters as they were."""
    scope: Literal["host", "fleet"] = "host"
    """`host` asks this host's journal, `fleet` the catalog of all hosts."""


class CopyAnswer(Outgoing):
    """One segment at one backend."""

    backend: BackendKind
    path: str | None
    """Object key, or path inside the backend; known once stored."""
    state: CopyState
    attempts: int
    """Failed deliveries that were this segment's own."""
    error: str | None
    """What the last delivery failed of."""
    stored_at: Moment | None
    verified_at: Moment | None


class DeletedCopyAnswer(Outgoing):
    """What a deletion did with one copy."""

    backend: BackendKind
    path: str | None
    outcome: Literal["deleted", "deleting", "retention_managed_by_vms"]
    """`deleting`: it follows by itself. `retention_managed_by_vms`: XProtect keeps its own recordings until
    its own retention deletes them; nothing here can."""


class DeletionAnswer(Outgoing):
    """What the deletion of a segment did that XProtect may hold."""

    id: Uuid
    complete: bool
    """False: what a backend could not delete now follows by itself."""
    detail: str
    """What is left in XProtect."""
    copies: list[DeletedCopyAnswer]


class SegmentAnswer(Outgoing):
    """One closed `.ts` file of one camera."""

    id: Uuid
    camera_id: Uuid
    start_time: Moment
    end_time: Moment
    duration_seconds: float
    size_bytes: int
    checksum: Sha256Hex | None
    """SHA-256 in hex; known once delivery has begun."""
    storage_backend: BackendKind | None
    """The backend that answers for the bytes; null until one has them."""
    storage_path: str | None
    """Where they are there."""
    created_at: Moment
    flags: list[SegmentFlag]
    """What a careful reader of the footage should know."""
    held: bool
    """Whether a hold keeps it from being deleted."""
    copies: list[CopyAnswer]


class FleetCopyAnswer(Outgoing):
    """One segment at one backend, as the catalog was told by a host of any version."""

    backend: str
    path: str | None
    state: str
    attempts: None
    """Only the host knows."""
    error: None
    """Only the host knows."""
    stored_at: Moment | None
    verified_at: Moment | None


class FleetSegmentAnswer(Outgoing):
    """One segment of any host, as the catalog knows it; other programs may have written it."""

    id: Uuid
    camera_id: Uuid
    start_time: Moment
    end_time: Moment
    duration_seconds: float
    size_bytes: int
    checksum: str | None
    storage_backend: str
    storage_path: str
    created_at: Moment | None
    flags: list[str]
    held: None
    """Only the host knows."""
    copies: list[FleetCopyAnswer]
    host_id: str
    """The host it is of; empty where another program wrote it."""


class SegmentsAnswer(Outgoing):
    """Segments that overlap the span, oldest first; with `scope=fleet` of every host."""

    segments: list[SegmentAnswer | FleetSegmentAnswer]
    next_cursor: str | None
    """Where to go on; null when these were the last."""


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


# Queue


class BackendQueueAnswer(Outgoing):
    """What one backend still has to get."""

    name: BackendKind
    segments: int
    bytes: int
    failed: int
    """Copies that wait for a human; `POST /queue/retry` tries them again."""
    gaps: int
    """MILESTONE only: what XProtect does not hold though it should; `POST /queue/retry` asks it anew."""
    oldest: Moment | None
    """Start of the oldest undelivered segment."""
    trouble: str | None
    """Why nothing is delivered to it right now."""


class FailedCopyAnswer(Outgoing):
    """One copy that cannot be delivered without help."""

    segment_id: Uuid
    camera_id: Uuid
    start_time: Moment
    backend: BackendKind
    path: str | None
    """Where its bytes were put: they are damaged, or gone. Null: they never were."""
    attempts: int
    error: str | None


class CatalogQueueAnswer(Outgoing):
    """What the catalog has yet to be told."""

    segments: int
    """Counted up to 100,000."""
    trouble: str | None


class QueueAnswer(Outgoing):
    """Where deliveries stand."""

    backends: list[BackendQueueAnswer]
    failures: list[FailedCopyAnswer]
    """Some of the failed copies, the damaged ones first."""
    set_aside: dict[str, int]
    """Files that are no segments, by reason; `GET /set-aside` lists them."""
    catalog: CatalogQueueAnswer | None
    """Null without PostgreSQL."""


class SetAsideQuery(Incoming):
    """Which files set aside."""

    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1000)] = 100
    """Most files in one answer."""
    cursor: Annotated[str, Field(max_length=2048, pattern=r"^[A-Za-z0-9_-]+$")] | None = None
    """`next_cursor` of the answer before."""


class SetAsideFileAnswer(Outgoing):
    """A file under a recorder root that is no segment; it was left where it is."""

    path: str
    """Below the root."""
    root: str
    reason: str
    """A short stable word, as in `storage_segments_quarantined`."""
    detail: str
    """What is wrong with it, for people."""
    size_bytes: int
    seen_at: Moment
    """When it was found to be so."""


class SetAsideAnswer(Outgoing):
    """Files set aside now, newest first. One that is gone or has become a segment is not among them."""

    files: list[SetAsideFileAnswer]
    next_cursor: str | None
    """Where to go on; null when these were the last."""


class RetryBody(Incoming):
    """Which copies to deliver now. `{}`, or no body at all: every failed one.

    With a camera and a span: all that is undelivered of that footage, before everything else.
    """

    backend: BackendKind | None = None
    camera_id: Uuid | None = None
    start: Moment | None = None
    end: Moment | None = None


class RetryAnswer(Outgoing):
    """How many copies are due again."""

    retried: int
    """Copies that are put again, or proven where they were stored."""
    asked_again: int
    """Copies with neither source nor bytes as far as anybody knows: the backend is asked once more."""


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


# Tokens


class NewTokenBody(Incoming):
    """A token to be made."""

    name: Annotated[
        str, Field(strict=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
    ]
    """What it is for, for people."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    """What it allows; `admin` allows everything."""
    cameras: Annotated[list[Uuid], Field(min_length=1, max_length=1000)] | None = None
    """The cameras that it is limited to. Left out: all there are and will be. Not with `admin`."""
    expires_at: Moment | None = None
    """When it ends by itself. Left out: never."""


class TokenAnswer(Outgoing):
    """A token without its secret, which nobody keeps."""

    id: Uuid
    name: str
    scopes: list[Scope]
    cameras: list[Uuid] | None
    """The cameras that it is limited to; null: all."""
    created_at: Moment
    expires_at: Moment | None
    """When it ends by itself; null: never."""
    last_used_at: Moment | None
    """To five minutes; null where it was not used, or by a version that did not note it."""
    last_used_from: str | None
    """The address that it was used from then."""


class NewTokenAnswer(TokenAnswer):
    """A token at the only moment its secret is told."""

    secret: str | None
    """For `Authorization: Bearer`. Null when a repeated Idempotency-Key is answered."""


class TokensAnswer(Outgoing):
    """Every token, oldest first."""

    tokens: list[TokenAnswer]


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
