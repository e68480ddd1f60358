"""What may be asked of a hold. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.journal.holds import NewHold

MOST_CAMERAS = 256
"""Each gets a line in the ledger, in the very commit."""
REVIEW_AFTER = timedelta(days=90)
"""A hold that nobody asks about any more keeps footage for ever: by then somebody is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldWish:
    """What somebody asks for; field by field it is possible, and no more is known of it."""

    camera_ids: tuple[UUID, ...]
    start: datetime
    end: datetime | None  # None: open
    reason: str
    case_id: str | None = None
    created_by: str | None = None
    expires_at: datetime | None = None
    review_at: datetime | None = None


def hold_of(wish: HoldWish, now: datetime) -> NewHold:
    """The hold that a wish is. Raises Unprocessable with everything that is wrong with it by itself."""
    faults = (*_camera_faults(wish), *_time_faults(wish, now))
    if faults:
        raise Unprocessable(faults)
    return NewHold(
        id=uuid4(),
        camera_ids=wish.camera_ids,
        start=wish.start,
        end=wish.end,
        reason=wish.reason,
        case_id=wish.case_id,
        created_by=wish.created_by,
        expires_at=wish.expires_at,
        review_at=wish.review_at or now + REVIEW_AFTER,
    )


def require_ahead(field: str, moment: datetime | None, now: datetime) -> None:
    """Raises Unprocessable for a day that is over."""
    faults = tuple(_ahead(field, moment, now))
    if faults:
        raise Unprocessable(faults)


def _camera_faults(wish: HoldWish) -> Iterator[Fault]:
    seen: set[UUID] = set()
    for number, camera_id in enumerate(wish.camera_ids):
        if camera_id in seen:
            yield Fault(f"camera_ids.{number}", "is named before")
        seen.add(camera_id)


def _time_faults(wish: HoldWish, now: datetime) -> Iterator[Fault]:
    if wish.end is not None and wish.end <= wish.start:
        yield Fault("end_time", "must be later than start_time")
    yield from _ahead("expires_at", wish.expires_at, now)
    yield from _ahead("review_at", wish.review_at, now)


def _ahead(field: str, moment: datetime | None, now: datetime) -> Iterator[Fault]:
    if moment is not None and moment <= now:
        yield Fault(field, "must lie ahead")
