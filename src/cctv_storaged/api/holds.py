"""Holds: make one, look at it, put off its review or end, release it."""

import hashlib
from collections.abc import Sequence

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.auth import TOKEN_NAME
from cctv_storaged.api.hold_models import (
    ChangeHoldBody,
    HoldAnswer,
    HoldDetailAnswer,
    HoldsAnswer,
    HoldsQuery,
    NewHoldBody,
    ReleaseQuery,
)
from cctv_storaged.api.holdjson import hold_json, view_json
from cctv_storaged.api.parsing import (
    IDEMPOTENCY_HEADER,
    body_bytes,
    idempotency_key,
    parsed,
    path_id,
    query_of,
)
from cctv_storaged.api.rendering import answer
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Reach, Route
from cctv_storaged.api.services import Services
from cctv_storaged.api.sifting import page_of
from cctv_storaged.api.sight import sight_of
from cctv_storaged.errors import Fault, NotFound, Unprocessable
from cctv_storaged.holding.wish import HoldWish
from cctv_storaged.journal.holds import Hold
from cctv_storaged.journal.idempotency import RepeatKey

CREATE = "POST /holds"
HOLDS = f"{PREFIX}/holds"
HOLD = f"{HOLDS}/{{hold_id}}"


async def create(request: web.Request, services: Services) -> web.StreamResponse:
    key = idempotency_key(request)
    raw = await body_bytes(request)
    sight = sight_of(request)
    if sight.limited:
        sight.require_named(parsed(raw, NewHoldBody).camera_ids)
    repeat = None if key is None else RepeatKey(route=CREATE, key=key, request=hashlib.sha256(raw).digest())
    hold, new = await services.upkeep.holding.create(_wish(parsed(raw, NewHoldBody), request), repeat)
    headers = {"Location": f"{HOLDS}/{hold.id}"}
    return answer(hold_json(hold), status=201 if new else 200, headers=headers)


def _wish(body: NewHoldBody, request: web.Request) -> HoldWish:
    return HoldWish(
        camera_ids=tuple(body.camera_ids),
        start=body.start_time,
        end=body.end_time,
        reason=body.reason,
        case_id=body.case_id,
        created_by=_who(body.created_by, request),
        expires_at=body.expires_at,
        review_at=body.review_at,
    )


def _who(named: str | None, request: web.Request) -> str | None:
    """Whom the request names, and whose token it was: the ledger is not to know a name that anybody wrote."""
    token = request.get(TOKEN_NAME)
    return f"{named} (token {token})" if named and token and named != token else named or token


async def list_holds(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, HoldsQuery)
    in_force = None if query.in_force is None else query.in_force == "true"
    sight = sight_of(request)

    async def fetch(limit: int, after: int | None) -> tuple[Sequence[Hold], int | None]:
        page = await services.journal.holds.page(limit, after, query.camera_id, in_force)
        return page.holds, page.next

    def sees(hold: Hold) -> bool:
        return sight.sees_all(hold.camera_ids)

    found, following = await page_of(fetch, sees, sight, query.limit, query.cursor)
    return answer({"holds": [hold_json(hold) for hold in found], "next_cursor": following})


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    return answer(view_json(await services.upkeep.holding.view(await _hold_of(request, services))))


async def _hold_of(request: web.Request, services: Services) -> Hold:
    """The hold that the path names. Raises NotFound."""
    hold_id = path_id(request, "hold_id")
    hold = await services.journal.holds.by_id(hold_id)
    if hold is None or not sight_of(request).sees_all(hold.camera_ids):
        raise NotFound(f"no hold {hold_id} on this host")
    return hold


async def change(request: web.Request, services: Services) -> web.StreamResponse:
    body = parsed(await body_bytes(request), ChangeHoldBody)
    never = "expires_at" in body.model_fields_set and body.expires_at is None
    if body.review_at is None and body.expires_at is None and not never:
        raise Unprocessable([Fault("body", "names nothing to change: review_at or expires_at")])
    if sight_of(request).limited:
        await _hold_of(request, services)
    hold = await services.upkeep.holding.change(
        path_id(request, "hold_id"), review_at=body.review_at, expires_at=body.expires_at, never=never
    )
    return answer(hold_json(hold))


async def release(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, ReleaseQuery)
    by = _who(query.released_by, request)
    if sight_of(request).limited:
        await _hold_of(request, services)
    await services.upkeep.holding.release(path_id(request, "hold_id"), query.reason, by)
    return web.Response(status=204)


ROUTES: Sequence[Route] = (
    Route(
        method="POST",
        path=HOLDS,
        handler=create,
        name="createHold",
        summary="Hold footage of cameras within a span, also footage still to come: nothing deletes it",
        scope=Scope.HOLD,
        reach=Reach.SIFTED,
        body=NewHoldBody,
        headers=(IDEMPOTENCY_HEADER,),
        answers=(
            Answer(status=201, means="It is in force", model=HoldAnswer, headers=("Location",)),
            Answer(status=200, means="Made before", model=HoldAnswer, headers=("Location",)),
        ),
        problems=(problems.CONFLICT,),
    ),
    Route(
        method="GET",
        path=HOLDS,
        handler=list_holds,
        name="listHolds",
        summary="Holds, newest first, also those that were released",
        scope=Scope.HOLD,
        reach=Reach.SIFTED,
        query=HoldsQuery,
        answers=(Answer(status=200, means="One page", model=HoldsAnswer),),
    ),
    Route(
        method="GET",
        path=HOLD,
        handler=show,
        name="showHold",
        summary="One hold, what it holds now, and whether the bucket keeps it as well",
        scope=Scope.HOLD,
        reach=Reach.SIFTED,
        lane=Lane.HEAVY,
        answers=(Answer(status=200, means="The hold", model=HoldDetailAnswer),),
    ),
    Route(
        method="PATCH",
        path=HOLD,
        handler=change,
        name="changeHold",
        summary="Put off a hold's review or its end",
        scope=Scope.HOLD,
        reach=Reach.SIFTED,
        body=ChangeHoldBody,
        answers=(Answer(status=200, means="The hold as it is now", model=HoldAnswer),),
        problems=(problems.CONFLICT,),
    ),
    Route(
        method="DELETE",
        path=HOLD,
        handler=release,
        name="releaseHold",
        summary="Release a hold: what no other one keeps may go again. Its record stays",
        scope=Scope.RELEASE,
        reach=Reach.SIFTED,
        query=ReleaseQuery,
        answers=(Answer(status=204, means="Released", media_type=None),),
        problems=(problems.CONFLICT,),
    ),
)
