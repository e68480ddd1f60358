"""What is sent and answered of deliveries that wait, and of files set aside; as in models.py."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Uuid, whole_number
from cctv_storaged.model import BackendKind


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
