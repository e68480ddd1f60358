"""What is sent and answered of segments; as in models.py."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Sha256Hex, Uuid, whole_number
from cctv_storaged.model import BackendKind, CopyState, SegmentFlag

MOST_BYTES = 2**63 - 1
LONGEST_SEGMENT = timedelta(hours=24)


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
