"""What the audit's resource takes and answers."""

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Uuid, whole_number


class Action(StrEnum):
    """What somebody did."""

    READ = "read"  # footage went out: content, clip, playlist, picture, storyboard
    CHANGED = "changed"  # a request that changes something succeeded
    REFUSED = "refused"  # a wrong token, or one without the right
    EXPORTED = "exported"  # an export was completed
    DOWNLOADED = "downloaded"  # and fetched
    HELD = "held"
    RELEASED = "released"


class AuditQuery(Incoming):
    """Which entries."""

    before: Annotated[int, BeforeValidator(whole_number), Field(ge=1)] | None = None
    """Entries with numbers below it: `next_before` of the answer before."""
    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=500)] = 100
    """Most entries in one answer; there may be fewer, and more behind them."""
    camera_id: Uuid | None = None
    """Entries about this camera only."""
    action: Action | None = None
    """Entries of this sort only."""
    token_id: Uuid | None = None
    """What this token did."""
    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    """What came of this request."""
    start: Moment | None = None
    """Written at that moment or later."""
    end: Moment | None = None
    """Written before it."""


class AuditEntryAnswer(Outgoing):
    """One entry: a line of the ledger, under its number."""

    no: int
    at: Moment
    """When it was written."""
    action: Action
    what: str
    """Of `read` the way: content, clip, playlist, picture, storyboard. Else the operation, or the line's
    cause."""
    id: Uuid | None
    """Of the segment, hold, export or token, where it is about one."""
    camera_id: Uuid | None
    start: Moment | None
    """Begin of the footage, of `read` in whole hours; of what was changed the moment."""
    end: Moment | None
    by: str | None
    """The token's name, or whom the request named; null where the API is open."""
    token_id: Uuid | None
    address: str | None
    """Where it was asked from."""
    certificate: str | None
    """The common name of the client's certificate, where one is asked for."""
    request_id: str | None
    detail: str
    """What has no field of its own."""


class AuditAnswer(Outgoing):
    """One page, newest first."""

    entries: list[AuditEntryAnswer]
    next_before: int | None
    """Where to go on; null when these were the last. What is older stands in the ledger's archives."""
