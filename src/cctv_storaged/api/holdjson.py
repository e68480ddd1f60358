"""Holds as the JSON of answers. Pure; hold_models.py says the same, and a test compares the two."""

from datetime import datetime

from cctv_storaged.api.rendering import Json
from cctv_storaged.clock import rfc3339
from cctv_storaged.holding.holding import HoldView, VmsView
from cctv_storaged.journal.holds import Hold


def hold_json(hold: Hold) -> dict[str, Json]:
    """A hold by itself."""
    return {
        "id": str(hold.id),
        "camera_ids": [str(each) for each in hold.camera_ids],
        "start_time": rfc3339(hold.start),
        "end_time": _moment(hold.end),
        "reason": hold.reason,
        "case_id": hold.case_id,
        "created_by": hold.created_by,
        "created_at": rfc3339(hold.created_at),
        "expires_at": _moment(hold.expires_at),
        "review_at": _moment(hold.review_at),
        "in_force": hold.in_force,
        "released_at": _moment(hold.released_at),
        "released_by": hold.released_by,
        "release_reason": hold.release_reason,
    }


def view_json(view: HoldView) -> dict[str, Json]:
    """A hold with what it holds now."""
    mirror: Json = None
    if view.state is not None:
        mirror = {"state": view.state, "reason": view.reason, "copies": view.locked}
    return {
        **hold_json(view.hold),
        "segments": view.segments,
        "bytes": view.bytes,
        "complete": view.complete,
        "mirror": mirror,
        "vms": None if view.vms is None else _vms_json(view.vms),
    }


def _vms_json(vms: VmsView) -> dict[str, Json]:
    marks = vms.marks
    return {
        "bookmarks": marks.bookmarks,
        "locks": marks.locks,
        "waiting": marks.waiting,
        "unsupported": marks.unsupported,
        "reason": vms.reason,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
