"""A hold as a snapshot has it."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from cctv_storaged.clock import to_us
from cctv_storaged.journal.heldback import KeptHold
from cctv_storaged.model import Camera


def kept_hold(camera: Camera, **changes: Any) -> KeptHold:
    """In force, of all times, unless told otherwise."""
    facts: dict[str, Any] = {
        "id": uuid4(),
        "case_id": "2026/17",
        "reason": "robbery",
        "created_by": "anna",
        "created_us": to_us(datetime(2026, 1, 24, tzinfo=UTC)),
        "start_us": 0,
        "end_us": 2**62,
        "expires_us": None,
        "review_us": None,
        "released_us": None,
        "released_by": None,
        "release_reason": None,
        "cameras": (camera,),
    }
    return KeptHold(**facts | changes)
