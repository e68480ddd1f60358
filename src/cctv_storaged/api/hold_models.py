"""What is asked of holds, and answered; as in models.py."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Uuid, whole_number
from cctv_storaged.api.sifting import CURSOR
from cctv_storaged.holding.holding import MirrorState
from cctv_storaged.holding.wish import MOST_CAMERAS

MOST_HOLDS = 100
_LINE = r"^[^\x00-\x1f\x7f-\x9f]+$"
Reason = Annotated[str, Field(strict=True, min_length=1, max_length=2000, pattern=_LINE)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=255, pattern=_LINE)]


class NewHoldBody(Incoming):
    """A hold to be made: cameras and a span that nothing may delete."""

    camera_ids: Annotated[list[Uuid], Field(min_length=1, max_length=MOST_CAMERAS)]
    """The cameras, each once; also ones that have recorded nothing yet."""
    start_time: Moment
    """Begin of the span; may lie ahead."""
    end_time: Moment | None = None
    """End of the span, exclusive; may lie ahead. Left out: it has none."""
    reason: Reason
    """Why, for whoever asks later."""
    case_id: Name | None = None
    """The case it belongs to. Exports of the same case are held with it."""
    created_by: Name | None = None
    """Who asks for it. Left out: the name of the token."""
    expires_at: Moment | None = None
    """When it ends by itself. Left out: it does not."""
    review_at: Moment | None = None
    """When somebody should ask whether it is still needed. Left out: in 90 days."""


class ChangeHoldBody(Incoming):
    """What of a hold is to be another; what is left out stays."""

    review_at: Moment | None = None
    """Another day for the review. It ends the alarm of one that is due."""
    expires_at: Moment | None = None
    """A later day for its end; null: it does not end by itself any more."""


class HoldsQuery(Incoming):
    """Which holds."""

    camera_id: Uuid | None = None
    """Only those on this camera."""
    in_force: Literal["true", "false"] | None = None
    """Only those in force, or only those that were released."""
    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=MOST_HOLDS)] = 50
    """Most holds in one answer."""
    cursor: Annotated[str, Field(pattern=CURSOR)] | None = None
    """`next_cursor` of the answer before, with the other parameters as they were."""


class ReleaseQuery(Incoming):
    """A release and why."""

    reason: Reason
    """Why, for whoever asks later; the ledger keeps it."""
    released_by: Name | None = None
    """Who releases it. Left out: the name of the token."""


class HoldAnswer(Outgoing):
    """A hold."""

    id: Uuid
    camera_ids: list[Uuid]
    start_time: Moment
    end_time: Moment | None
    """Null: it has none."""
    reason: str
    case_id: str | None
    created_by: str | None
    created_at: Moment
    expires_at: Moment | None
    review_at: Moment | None
    in_force: bool
    released_at: Moment | None
    released_by: str | None
    """`expiry` where its day had come."""
    release_reason: str | None


class HoldMirrorAnswer(Outgoing):
    """Whether the bucket keeps the footage as well, against everybody who has a key to it."""

    state: MirrorState
    """`mirrored`: every copy has a legal hold. `in_progress`: some lack theirs. `local_only`: no bucket of
    this host can have one; the journal keeps this program from deleting the footage, and nobody else."""
    reason: str | None
    """Why it is not mirrored, or not yet."""
    copies: Annotated[int, Field(ge=0)]
    """Copies with a legal hold."""


class HoldVmsAnswer(Outgoing):
    """What XProtect knows of the hold: a bookmark and, where edition, version and settings allow it, an
    evidence lock for each camera and stretch."""

    bookmarks: Annotated[int, Field(ge=0)]
    """Bookmarks that are there."""
    locks: Annotated[int, Field(ge=0)]
    """Evidence locks that are there: XProtect deletes nothing under them."""
    waiting: Annotated[int, Field(ge=0)]
    """Marks still to be placed; of a hold that was released, to be removed."""
    unsupported: Annotated[int, Field(ge=0)]
    """Marks that its edition or version does not offer."""
    reason: str | None
    """Why there are not as many as there should be."""


class HoldDetailAnswer(HoldAnswer):
    """A hold and what it holds now."""

    segments: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    complete: bool
    """False: there is more than was counted, or it was just released and marks are still being taken off."""
    mirror: HoldMirrorAnswer | None
    """Null: it was released."""
    vms: HoldVmsAnswer | None
    """Null: no XProtect has anything to do with it."""


class HoldsAnswer(Outgoing):
    """One page of holds, newest first."""

    holds: list[HoldAnswer]
    next_cursor: str | None
    """For the next page; null on the last one."""
