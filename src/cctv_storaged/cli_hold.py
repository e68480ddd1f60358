"""`cctv-storaged hold`: makes, lists, shows, puts off and releases holds, by the API of a running daemon."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from uuid import UUID

from cctv_storaged.api.hold_models import HoldAnswer, HoldDetailAnswer, HoldsAnswer
from cctv_storaged.api.models import CamerasAnswer
from cctv_storaged.cli_cameras import camera_id
from cctv_storaged.cli_client import DONE, OUT_OF_REACH, ApiClient, ApiError, with_api
from cctv_storaged.clock import rfc3339
from cctv_storaged.logs.lines import one_line

MOST_NAMED = 3
"""Cameras of a hold in one line."""


def add(options: argparse.Namespace) -> int:
    """`hold add`"""
    return with_api(options, lambda api: _add(api, options))


def list_holds(options: argparse.Namespace) -> int:
    """`hold list`"""
    return with_api(options, lambda api: _list(api, options))


def show(options: argparse.Namespace) -> int:
    """`hold show`"""
    return with_api(options, lambda api: _show(api, options))


def put_off(options: argparse.Namespace) -> int:
    """`hold put-off`"""
    return with_api(options, lambda api: _put_off(api, options))


def release(options: argparse.Namespace) -> int:
    """`hold release`"""
    return with_api(options, lambda api: _release(api, options))


def _add(api: ApiClient, options: argparse.Namespace) -> int:
    asked = {
        "camera_ids": [camera_id(api, "--camera", each) for each in options.camera],
        "start_time": options.start,
        "end_time": options.end,
        "reason": options.reason,
        "case_id": options.case,
        "created_by": options.by,
        "expires_at": options.expires,
        "review_at": options.review,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    hold = api.post("/holds", HoldAnswer, body, key=api.new_key())
    _print(hold.model_dump_json() if options.json else str(hold.id))
    return DONE


def _list(api: ApiClient, options: argparse.Namespace) -> int:
    names = None if options.json else _names(api)
    empty = True
    for hold in _all(api, options):
        empty = False
        _print(hold.model_dump_json() if names is None else _line(hold, names))
    if empty and not options.json:
        _print("none")
    return DONE


def _names(api: ApiClient) -> dict[UUID, str]:
    """Of all cameras; none for a token that may not read."""
    try:
        return {each.id: each.name for each in api.get("/cameras", CamerasAnswer).cameras}
    except ApiError as exc:
        if exc.code == OUT_OF_REACH:
            raise
        return {}


def _all(api: ApiClient, options: argparse.Namespace) -> Iterator[HoldAnswer]:
    camera = None if options.camera is None else camera_id(api, "--camera", options.camera)
    query = {"camera_id": camera, "in_force": None if options.all else "true", "limit": "100"}
    cursor: str | None = None
    while True:
        page = api.get("/holds", HoldsAnswer, {**query, "cursor": cursor})
        yield from page.holds
        cursor = page.next_cursor
        if cursor is None:
            return


def _show(api: ApiClient, options: argparse.Namespace) -> int:
    hold = api.get(f"/holds/{_id(options)}", HoldDetailAnswer)
    _print(hold.model_dump_json() if options.json else "\n".join(_details(hold, _names(api))))
    return DONE


def _put_off(api: ApiClient, options: argparse.Namespace) -> int:
    body: dict[str, str | None] = {}
    if options.review is not None:
        body["review_at"] = options.review
    if options.expires is not None:
        body["expires_at"] = None if options.expires == "never" else options.expires
    hold = api.patch(f"/holds/{_id(options)}", HoldAnswer, body)
    _print(hold.model_dump_json() if options.json else _line(hold, _names(api)))
    return DONE


def _release(api: ApiClient, options: argparse.Namespace) -> int:
    api.delete(f"/holds/{_id(options)}", {"reason": options.reason, "released_by": options.by})
    return DONE


def _id(options: argparse.Namespace) -> UUID:
    hold_id: UUID = options.id
    return hold_id


def _line(hold: HoldAnswer, names: Mapping[UUID, str]) -> str:
    state = "in force" if hold.in_force else "released"
    cameras = ", ".join(names.get(each, str(each)) for each in hold.camera_ids[:MOST_NAMED])
    if len(hold.camera_ids) > MOST_NAMED:
        cameras += f" and {len(hold.camera_ids) - MOST_NAMED} more"
    case = "" if hold.case_id is None else f"case {hold.case_id}: "
    return one_line(f"{hold.id}  {state}  {_span(hold)}  {cameras}  {case}{hold.reason}")


def _named(camera: UUID, names: Mapping[UUID, str]) -> str:
    return f"{names[camera]} ({camera})" if camera in names else str(camera)


def _span(hold: HoldAnswer) -> str:
    return f"{rfc3339(hold.start_time)} to {'no end' if hold.end_time is None else rfc3339(hold.end_time)}"


def _details(hold: HoldDetailAnswer, names: Mapping[UUID, str]) -> Iterator[str]:
    yield _line(hold, names)
    facts = {
        "cameras": ", ".join(_named(each, names) for each in hold.camera_ids),
        "case": hold.case_id,
        "reason": hold.reason,
        "made": f"{rfc3339(hold.created_at)}{'' if hold.created_by is None else f' by {hold.created_by}'}",
        "expires": None if hold.expires_at is None else rfc3339(hold.expires_at),
        "review": None if hold.review_at is None else rfc3339(hold.review_at),
        "released": _released(hold),
        "holds": f"{'' if hold.complete else 'more than '}{hold.segments} segments, {hold.bytes} bytes",
        "bucket": _mirror(hold),
        "XProtect": _vms(hold),
    }
    for name, fact in facts.items():
        if fact is not None:
            yield one_line(f"{name + ':':10}{fact}")


def _released(hold: HoldAnswer) -> str | None:
    if hold.released_at is None:
        return None
    by = "" if hold.released_by is None else f" by {hold.released_by}"
    return f"{rfc3339(hold.released_at)}{by}: {hold.release_reason}"


def _mirror(hold: HoldDetailAnswer) -> str | None:
    if hold.mirror is None:
        return None
    told = hold.mirror.state.value.replace("_", " ")
    why = "" if hold.mirror.reason is None else f" ({hold.mirror.reason})"
    return f"{told}{why}, {hold.mirror.copies} copies with a legal hold"


def _vms(hold: HoldDetailAnswer) -> str | None:
    if hold.vms is None:
        return None
    vms = hold.vms
    why = "" if vms.reason is None else f" ({vms.reason})"
    more = [f"{vms.waiting} waiting"] if vms.waiting else []
    more += [f"{vms.unsupported} not offered there"] if vms.unsupported else []
    return ", ".join([f"{vms.bookmarks} bookmarks", f"{vms.locks} evidence locks", *more]) + why


def _print(text: str) -> None:
    sys.stdout.write(text.encode(errors="backslashreplace").decode() + "\n")
