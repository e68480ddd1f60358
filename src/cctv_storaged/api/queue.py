"""The queue: what is undelivered where and why, and another try on request."""

from aiohttp import web

from cctv_storaged.api.parsing import body_bytes, parsed
from cctv_storaged.api.problems import FORBIDDEN, Refusal
from cctv_storaged.api.queue_models import RetryBody
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import sight_of
from cctv_storaged.bringing import Bringing
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.journal.copies import Backlog, Retried
from cctv_storaged.model import Copy, CopyState, Segment, TimeSpan

SAMPLE = 50
"""Failed copies shown with their reasons; all of them are counted."""


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    journal = services.journal
    backends = [
        _backend_json(delivery, await journal.copies.backlog(delivery.name))
        for delivery in services.deliveries
    ]
    failures = [
        _failure_json(segment, copy)
        for segment in await journal.copies.failures(SAMPLE)
        for copy in segment.copies
        if copy.state is CopyState.FAILED
    ]
    return answer(
        {
            "backends": backends,
            "failures": failures,
            "set_aside": await journal.segments.set_aside_counts(),
            "catalog": await _catalog_json(services),
        }
    )


async def retry(request: web.Request, services: Services) -> web.StreamResponse:
    sent = await body_bytes(request) if request.body_exists else b""
    body = parsed(sent or b"{}", RetryBody)
    sight = sight_of(request)
    if body.camera_id is not None:
        sight.require(body.camera_id)
    elif sight.limited:
        raise Refusal(FORBIDDEN, "the token is limited to cameras: name one as camera_id")
    chosen = _chosen(body, services)
    copies = services.journal.copies
    if body.camera_id is None:
        retried = await copies.retry_failed(body.backend)
    else:
        retried = Retried(retried=await copies.urge(body.camera_id, _span(body), body.backend))
    for delivery in chosen:
        delivery.reopen()
    return answer({"retried": retried.retried, "asked_again": retried.asked_again})


def _chosen(body: RetryBody, services: Services) -> list[Bringing]:
    chosen = [each for each in services.deliveries if body.backend in (None, each.name)]
    if body.backend is not None and not chosen:
        names = ", ".join(each.name for each in services.deliveries)
        raise Unprocessable([Fault("backend", f"is not in use here; {names} is")])
    if body.camera_id is None and (body.start is not None or body.end is not None):
        raise Unprocessable([Fault("camera_id", "is required with start and end")])
    return chosen


def _span(body: RetryBody) -> TimeSpan:
    missing = [name for name in ("start", "end") if getattr(body, name) is None]
    if missing:
        raise Unprocessable([Fault(name, "is required with camera_id") for name in missing])
    assert body.start is not None and body.end is not None
    if body.end <= body.start:
        raise Unprocessable([Fault("end", "must be later than start")])
    return TimeSpan(body.start, body.end)


def _backend_json(delivery: Bringing, backlog: Backlog) -> dict[str, Json]:
    return {
        "name": delivery.name,
        "segments": backlog.segments,
        "bytes": backlog.bytes,
        "failed": backlog.failed,
        "gaps": backlog.gaps,
        "oldest": None if backlog.oldest is None else rfc3339(backlog.oldest),
        "trouble": delivery.trouble,
    }


def _failure_json(segment: Segment, copy: Copy) -> dict[str, Json]:
    return {
        "segment_id": str(segment.id),
        "camera_id": str(segment.camera_id),
        "start_time": rfc3339(segment.span.start),
        "backend": copy.backend,
        "path": copy.path,
        "attempts": copy.attempts,
        "error": copy.error,
    }


async def _catalog_json(services: Services) -> Json:
    if services.cataloguing is None:
        return None
    return {"segments": await services.journal.outbox.lag(), "trouble": services.cataloguing.trouble}
