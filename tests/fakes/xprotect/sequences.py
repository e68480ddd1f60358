"""The task `GetSequences` of a camera: what is recorded around a time (3.2a of the paper)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from tests.fakes.xprotect import envelope
from tests.fakes.xprotect.envelope import ApiError, Object
from tests.fakes.xprotect.media import Stretch
from tests.fakes.xprotect.pictures import moment, ms
from tests.fakes.xprotect.site import Camera, Site

KINDS = ("RecordingSequence", "MotionSequence", "RecordingWithTriggerSequence")
_NEEDED = ("sequenceType", "time", "timeBefore", "timeAfter", "maxCountBefore", "maxCountAfter")
_SPAN = re.compile(r"(\d{3})\.([01]\d|2[0-3]):([0-5]\d):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class _Asked:
    centre_ms: int
    window: Stretch
    before: int
    after: int


def get_sequences(site: Site, camera: Camera, body: Object) -> web.Response:
    """Answers sequences that overlap the window."""
    assumptions = site.assumptions
    if assumptions.rest_sequences != "yes":
        raise ApiError(int(assumptions.rest_sequences), "Unknown task: GetSequences")
    absent = [name for name in _NEEDED if name not in body]
    if absent:
        raise envelope.missing(*absent)
    kind = envelope.read_text(body, "sequenceType")
    if kind not in KINDS:
        raise ApiError(400, f"unknown sequenceType {kind}", "sequenceType")
    asked = _asked(body)
    found = recorded(site, camera, asked.window) if kind != "MotionSequence" else []
    chosen = _chosen(found, asked)[: assumptions.sequences_limit]
    told = [_told(each) for each in (sorted(chosen) if assumptions.sequences_sorted else chosen)]
    result: Object = {"state": "Success", "sequences": told}
    return envelope.answer(
        assumptions, result, assumptions.sequences_wrapper, status=assumptions.sequences_status
    )


def recorded(site: Site, camera: Camera, window: Stretch) -> Sequence[Stretch]:
    """Whole or clipped, as is assumed; and retention eats them, where that is a fault of the site's."""
    found = site.media.sequences(camera.id, window.start_ms, window.end_ms)
    clipped = [
        Stretch(max(each.start_ms, window.start_ms), min(each.end_ms, window.end_ms)) for each in found
    ]
    if clipped and site.faults.take("eat_after_sequences"):
        for each in clipped:
            site.media.remove(camera.id, each.start_ms, each.end_ms + 1)
    return clipped if site.assumptions.sequences_clipped else found


def _chosen(found: Sequence[Stretch], asked: _Asked) -> list[Stretch]:
    """Those nearest to the time asked for come first, on either side of it."""
    before = [each for each in found if each.start_ms <= asked.centre_ms]
    after = [each for each in found if each.start_ms > asked.centre_ms]
    return [*reversed(before[-asked.before :] if asked.before else []), *after[: asked.after]]


def _asked(body: Object) -> _Asked:
    centre = envelope.read_time(body, "time")
    earliest, latest = centre - _span(body, "timeBefore"), centre + _span(body, "timeAfter")
    return _Asked(
        ms(centre),
        Stretch(ms(earliest), ms(latest)),
        _count(body, "maxCountBefore"),
        _count(body, "maxCountAfter"),
    )


def _span(body: Object, name: str) -> timedelta:
    """`ddd.HH:mm:ss`"""
    read = _SPAN.fullmatch(envelope.read_text(body, name))
    if read is None:
        raise ApiError(400, f"{name} is written ddd.HH:mm:ss", name)
    days, hours, minutes, seconds = map(int, read.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _count(body: Object, name: str) -> int:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ApiError(400, f"{name} is a number of at least 0", name)
    return value


def _told(each: Stretch) -> Object:
    start = moment(each.start_ms)
    return {"timeBegin": start, "timeTrigger": start, "timeEnd": moment(each.end_ms)}
