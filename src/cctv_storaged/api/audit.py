"""The audit: who saw footage, who changed what, who was turned away; and the answer to who asks for it."""

import json
import logging
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api.audit_models import Action, AuditAnswer, AuditQuery
from cctv_storaged.api.auth import SAFE_METHODS, TOKEN
from cctv_storaged.api.models import UUID_PATTERN
from cctv_storaged.api.observing import REQUEST_ID
from cctv_storaged.api.parsing import query_of
from cctv_storaged.api.problems import FORBIDDEN, UNAUTHORIZED, Refusal, fit, plain
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Route
from cctv_storaged.api.services import Services
from cctv_storaged.api.sight import OutOfSight
from cctv_storaged.auditing.trail import Caller, Seen
from cctv_storaged.clock import from_us, rfc3339, to_us
from cctv_storaged.errors import JournalFull
from cctv_storaged.journal.chain import BoundLine
from cctv_storaged.journal.ledgeraudit import CHANGED, READ, REFUSED, SLICE
from cctv_storaged.journal.tokens import Token
from cctv_storaged.model import TimeSpan

log = logging.getLogger(__name__)

OFTEN = frozenset({"registerSegment"})
"""Changes that recorders make all day: told once an hour, for the ledger has a line of each anyway."""
OUT_OF_SIGHT = "it is about a camera that the token is not for, or that is not there"
MOST_SLICES = 20
_ACTIONS = {READ: Action.READ, CHANGED: Action.CHANGED, REFUSED: Action.REFUSED}
_ID = re.compile(UUID_PATTERN)
_KNOWN = ("what", "by", "token", "from", "request", "certificate")


def caller_of(request: web.Request) -> Caller:
    """Who asks."""
    token: Token | None = request.get(TOKEN)
    return Caller(
        token_id=None if token is None else token.id,
        token=None if token is None else plain(token.name),
        address=request.remote,
        request_id=request.get(REQUEST_ID, ""),
        certificate=_certificate_of(request),
    )


async def tell_seen(
    request: web.Request, services: Services, what: Seen, camera_id: UUID, span: TimeSpan
) -> None:
    """Before footage goes out. While the journal's disk is full it goes out all the same, and the log says
    so: whoever has to look now must be able to.
    """
    if request.method == "HEAD":
        return
    fields = {"camera_id": camera_id, "action": what, "remote": request.remote, "start": span.start}
    try:
        if await services.upkeep.auditing.trail.seen(what, camera_id, span, caller_of(request)):
            log.info("footage seen", extra={**fields, "end": span.end})
    except (JournalFull, TimeoutError) as exc:
        log.warning("footage seen, and the ledger cannot tell it now: %s", _trouble(exc), extra=fields)


async def tell_changed(
    request: web.Request, services: Services, route: Route, response: web.StreamResponse
) -> None:
    """After a change. What was done cannot be taken back, and its answer may hold a secret that is told once:
    where the ledger cannot tell it the log does.
    """
    if request.method in SAFE_METHODS or not route.changes or response.status >= 400:
        return
    camera_id, subject = _subject(request, response)
    once = route.name in OFTEN
    with _logged_at_least("changed", request, route):
        trail = services.upkeep.auditing.trail
        await trail.changed(route.name, subject, camera_id, caller_of(request), once=once)


async def tell_refused(
    request: web.Request, services: Services, route: Route, refusal: Refusal | OutOfSight
) -> None:
    """Somebody whose token is wrong, or not enough, or of other cameras. Who has none at all is no news."""
    if "Authorization" not in request.headers:
        return
    why, camera_id = OUT_OF_SIGHT, None
    if isinstance(refusal, Refusal):
        why = refusal.problem.detail
        if refusal.problem.kind not in (UNAUTHORIZED, FORBIDDEN):
            return
    else:
        camera_id = refusal.camera_id
    with _logged_at_least("refused", request, route):
        trail = services.upkeep.auditing.trail
        await trail.refused(why, route.name, caller_of(request), camera_id)


@contextmanager
def _logged_at_least(done: str, request: web.Request, route: Route) -> Iterator[None]:
    """What cannot be told by the ledger is told by the log; it is done already."""
    fields = {"action": route.name, "remote": request.remote, "path": request.path}
    try:
        yield
    except (JournalFull, TimeoutError) as exc:
        log.warning("%s, and the ledger cannot tell it now: %s", done, _trouble(exc), extra=fields)
    except Exception:  # the item boundary: whatever it is, it is done
        log.exception("%s, and the ledger cannot tell it", done, extra=fields)


def _trouble(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _subject(request: web.Request, response: web.StreamResponse) -> tuple[UUID | None, UUID | None]:
    """Camera and thing that were changed: out of the path, or the address of what was made."""
    named = request.match_info
    found = [UUID(each) for each in _ID.findall(response.headers.get("Location", ""))]
    camera = UUID(named["camera_id"]) if "camera_id" in named else None
    if camera is None and len(found) == 2:
        camera = found[0]
    things = [UUID(value) for name, value in named.items() if name != "camera_id"]
    return camera, next(reversed(things or found), None)


def _certificate_of(request: web.Request) -> str | None:
    """The common name of the client's certificate, which TLS has verified."""
    transport = request.transport
    tls = None if transport is None else transport.get_extra_info("ssl_object")
    if not isinstance(tls, ssl.SSLObject):
        return None
    subject = (tls.getpeercert() or {}).get("subject", ())
    pairs = [pair for part in subject for pair in part if isinstance(pair, tuple)]
    names = [pair[1] for pair in pairs if pair[0] == "commonName"]
    return fit(names[0]) if names else None


# Asked


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, AuditQuery)
    found: list[dict[str, Json]] = []
    before = query.before
    for _ in range(MOST_SLICES):
        lines = await services.journal.audit_lines.before(before)
        for bound in lines:
            before = bound.line.no
            if _wanted(bound, query):
                found.append(_entry_json(bound))
            if len(found) == query.limit:
                return answer({"entries": found, "next_before": before})
        if len(lines) < SLICE:
            return answer({"entries": found, "next_before": None})
    return answer({"entries": found, "next_before": before})


def _wanted(bound: BoundLine, query: AuditQuery) -> bool:
    line = bound.line
    return (
        (query.camera_id is None or line.camera_id == query.camera_id.bytes)
        and (query.action is None or _action(bound) == query.action)
        and (query.start is None or line.at_us >= to_us(query.start))
        and (query.end is None or line.at_us < to_us(query.end))
        and (query.token_id is None or _facts(line.detail).get("token") == str(query.token_id))
        and (query.request_id is None or _facts(line.detail).get("request") == query.request_id)
    )


def _action(bound: BoundLine) -> str:
    return _ACTIONS.get(bound.line.cause) or bound.line.kind


def _entry_json(bound: BoundLine) -> dict[str, Json]:
    line, facts = bound.line, _facts(bound.line.detail)
    return {
        "no": line.no,
        "at": rfc3339(from_us(line.at_us)),
        "action": _action(bound),
        "what": facts.get("what") or line.cause,
        "id": _id_of(line.segment_id),
        "camera_id": _id_of(line.camera_id),
        "start": _moment(line.start_us) if any(line.camera_id) else None,
        "end": _moment(line.end_us) if any(line.camera_id) else None,
        "by": facts.get("by"),
        "token_id": facts.get("token"),
        "address": facts.get("from"),
        "certificate": facts.get("certificate"),
        "request_id": facts.get("request"),
        "detail": _rest(line.detail, facts),
    }


def _facts(detail: str) -> Mapping[str, str]:
    try:
        read = json.loads(detail)
    except ValueError:
        return {}
    return (
        {key: str(value) for key, value in read.items() if value is not None}
        if isinstance(read, dict)
        else {}
    )


def _rest(detail: str, facts: Mapping[str, str]) -> str:
    """What has no field of its own."""
    if not facts:
        return plain(detail)
    return ", ".join(f"{key}: {value}" for key, value in facts.items() if key not in _KNOWN)


def _id_of(value: bytes) -> str | None:
    return str(UUID(bytes=value)) if any(value) else None


def _moment(microseconds: int) -> str | None:
    """The end of a hold without one lies beyond the calendar."""
    try:
        return rfc3339(from_us(microseconds))
    except OverflowError:
        return None


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/audit",
        handler=show,
        name="listAudit",
        summary="Who saw, fetched, held and changed what, newest first",
        scope=Scope.ADMIN,
        query=AuditQuery,
        answers=(Answer(status=200, means="One page", model=AuditAnswer),),
    ),
)
