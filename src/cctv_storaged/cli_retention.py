"""`cctv-storaged retention`: asks the daemon what its rules delete, and says yes to a stopped pass."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from cctv_storaged.api.retention_models import (
    AmountAnswer,
    CameraPreviewAnswer,
    ConfirmAnswer,
    LockedAnswer,
    RetentionAnswer,
    RetentionPreviewAnswer,
)
from cctv_storaged.cli_cameras import camera_id
from cctv_storaged.cli_client import BAD_USAGE, DONE, FOUND_WRONG, ApiClient, tell, with_api
from cctv_storaged.clock import rfc3339
from cctv_storaged.config import load_by_hand
from cctv_storaged.errors import ConfigError
from cctv_storaged.retention.amounts import Amount

PAGE = "1000"


def show(options: argparse.Namespace) -> int:
    """Whether anything is in the way; exit code 1 while something is."""
    return with_api(options, _shown)


def preview(options: argparse.Namespace) -> int:
    """What the rules of another settings file would delete."""
    body: Mapping[str, object] = {}
    if options.new is not None:
        try:
            settings = load_by_hand(options.new, os.environ, tell)
        except ConfigError as exc:
            print(f"cctv-storaged: {exc}", file=sys.stderr)
            return BAD_USAGE
        body = settings.retention.model_dump(mode="json", exclude_none=True)
    return with_api(options, lambda api: _previewed(api, body, as_json=options.json))


def confirm(options: argparse.Namespace) -> int:
    """Lets the next pass over a camera, or over all, go on."""
    if options.all is (options.camera is not None):
        print(
            "cctv-storaged retention confirm: name a camera by its id, name or folder, or --all",
            file=sys.stderr,
        )
        return BAD_USAGE
    return with_api(options, lambda api: _confirmed(api, options.camera))


def locked(options: argparse.Namespace) -> int:
    """What should be gone and is kept."""
    return with_api(options, _listed)


def _shown(api: ApiClient) -> int:
    found = api.get("/retention", RetentionAnswer)
    if found.waiting is not None:
        print(f"nothing is deleted by its age: {found.waiting}")
    for each in found.stopped:
        print(f"camera {each.camera_id} waits for a yes: at_most {each.at_most} would delete", end=" ")
        print(_amount(each.surprise))
    if found.kept:
        print(f"{found.kept} segments that should be gone are kept (cctv-storaged retention locked)")
    decided = found.last_pass is not None
    fine = decided and found.waiting is None and not found.stopped and not found.kept
    if fine:
        print("footage is deleted at its age, nothing is in the way")
    elif not decided:
        print("no pass has come to its end since the start, or since the rules changed: none tells yet")
    print(f"last pass: {_moment(found.last_pass)}, next: {_moment(found.next_pass)}")
    return DONE if fine else FOUND_WRONG


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else rfc3339(moment)


def _previewed(api: ApiClient, body: Mapping[str, object], *, as_json: bool) -> int:
    found = api.post("/retention/preview", RetentionPreviewAnswer, body)
    if as_json:
        print(found.model_dump_json(indent=2))
        return DONE
    for camera in found.cameras:
        print("\n".join(_told(camera)))
    print(f"past at_most, of all cameras: {_amount(found.at_most)}")
    if found.unknown:
        names = ", ".join(map(repr, found.unknown))
        print(f"per_camera names {names}: no camera has that id or folder, and nothing is kept by it")
    return DONE


def _told(camera: CameraPreviewAnswer) -> Iterator[str]:
    rule = camera.rule
    limits = (("at_least", rule.at_least), ("desired", rule.desired), ("at_most", rule.at_most))
    told = ", ".join(f"{name} {limit}" for name, limit in limits if limit) or "no limit"
    yield f"{camera.name} ({camera.camera_id}): {told}"
    for word, amount in (
        ("deleted after a yes" if camera.waits_for_confirmation else "deleted at once", camera.at_most),
        ("goes first if room is short", camera.desired),
        ("may go early if room is short", camera.at_least),
        ("kept, held", camera.protected.held),
        ("kept, in use now", camera.protected.pinned),
        ("kept by a lock, or at a former store", camera.protected.locked),
    ):
        if amount.segments:
            yield f"  {word}: {_amount(amount)}"
    if camera.waits_for_confirmation:
        yield f"  waits for: cctv-storaged retention confirm {camera.camera_id}"


def _confirmed(api: ApiClient, camera: str | None) -> int:
    body = {"all": True} if camera is None else {"camera_id": camera_id(api, "CAMERA", camera)}
    found = api.post("/retention/confirm", ConfirmAnswer, body)
    for each in found.camera_ids:
        print(f"camera {each}: a pass that begins in seconds deletes what is past its at_most")
    if not found.camera_ids:
        print("nothing waits for a yes")
    return DONE


def _listed(api: ApiClient) -> int:
    cursor, told = None, False
    while True:
        page = api.get("/retention/locked", LockedAnswer, {"limit": PAGE, "cursor": cursor})
        for each in page.segments:
            told = True
            span = f"{rfc3339(each.start_time)}/{rfc3339(each.end_time)}"
            for copy in each.copies:
                print(each.camera_id, span, each.cause, copy.backend, copy.path or "-", copy.error or "")
            if not each.copies:
                print(each.camera_id, span, each.cause, "no copy")
        cursor = page.next_cursor
        if cursor is None:
            if not told:
                print("none")
            return DONE


def _amount(amount: AmountAnswer) -> str:
    footage = timedelta(days=amount.camera_days)
    return str(Amount(segments=amount.segments, bytes=amount.bytes, duration=footage))
