"""Retention: where it stands, what rules would delete, saying yes to a pass, and what backends keep."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.auth import TOKEN_NAME
from cctv_storaged.api.parsing import body_bytes, parsed, query_of
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.retention_models import (
    ConfirmAnswer,
    ConfirmBody,
    LockedAnswer,
    LockedQuery,
    RetentionAnswer,
    RetentionPreviewAnswer,
    RetentionPreviewBody,
    RetentionRuleBody,
)
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Route
from cctv_storaged.api.segments import require_camera
from cctv_storaged.api.services import Services
from cctv_storaged.clock import rfc3339
from cctv_storaged.config.units import format_duration
from cctv_storaged.journal.deletions import KEPT, Kept
from cctv_storaged.retention.amounts import NOTHING, Amount
from cctv_storaged.retention.preview import CameraPreview
from cctv_storaged.retention.rules import Clause, Policy, Priority, Rule, key_of
from cctv_storaged.retention.runs import MOST_COUNTED, Stopped

RETENTION = f"{PREFIX}/retention"
NOBODY = "somebody on this host"
"""Who says yes where the API is open."""


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    retention = services.upkeep.retention
    last, due = retention.last_pass, retention.next_pass()
    return answer(
        {
            "waiting": retention.waiting,
            "last_pass": None if last is None else rfc3339(last),
            "next_pass": None if due is None else rfc3339(due),
            "kept": await services.journal.deletions.count_kept(MOST_COUNTED),
            "stopped": [_stopped_json(each) for each in retention.stopped.values()],
        }
    )


async def preview(request: web.Request, services: Services) -> web.StreamResponse:
    body = RetentionPreviewBody()
    if request.body_exists:
        body = parsed(await body_bytes(request) or b"{}", RetentionPreviewBody)
    retention = services.upkeep.retention
    policy = _policy(body, retention.policy)
    cameras = await retention.preview(policy)
    total = sum((each.weights.of(Clause.AT_MOST) for each in cameras), NOTHING)
    return answer(
        {
            "at": rfc3339(services.clock.now()),
            "cameras": [_preview_json(each) for each in cameras],
            "at_most": _amount_json(total),
            "unknown": policy.without_camera(each.camera for each in cameras),
        }
    )


async def confirm(request: web.Request, services: Services) -> web.StreamResponse:
    body = parsed(await body_bytes(request), ConfirmBody)
    by = request.get(TOKEN_NAME, NOBODY)
    if body.camera_id is not None:
        await require_camera(services, body.camera_id)
    confirmed = await services.upkeep.retention.confirm(body.camera_id, body.until, by)
    return answer({"camera_ids": [str(each) for each in confirmed]})


async def locked(request: web.Request, services: Services) -> web.StreamResponse:
    query = query_of(request, LockedQuery)
    after = None
    if query.cursor is not None:
        due, no = map(int, query.cursor.split("-"))
        after = (KEPT + due, no)
    page = await services.journal.deletions.kept(query.limit, after)
    following = None if page.next is None else f"{page.next[0] - KEPT}-{page.next[1]}"
    return answer({"segments": [_kept_json(each) for each in page.kept], "next_cursor": following})


def _policy(body: RetentionPreviewBody, in_force: Policy) -> Policy:
    policy = in_force
    if body.default is not None:
        policy = replace(policy, default=_rule(body.default))
    if body.per_camera is not None:
        policy = replace(
            policy, per_camera={key_of(key): _rule(rule) for key, rule in body.per_camera.items()}
        )
    return policy


def _rule(body: RetentionRuleBody) -> Rule:
    return Rule(
        at_least=body.at_least,
        desired=body.desired,
        at_most=body.at_most,
        priority=Priority[body.priority.upper()],
    )


def _preview_json(found: CameraPreview) -> Mapping[str, Json]:
    weights = found.weights
    return {
        "camera_id": str(found.camera.id),
        "name": found.camera.name,
        "rule": {
            "at_least": _limit_text(found.rule.at_least),
            "desired": _limit_text(found.rule.desired),
            "at_most": _limit_text(found.rule.at_most),
            "priority": found.rule.priority.name.lower(),
        },
        **{str(clause): _amount_json(weights.of(clause)) for clause in Clause},
        "protected": {
            "held": _amount_json(weights.held),
            "pinned": _amount_json(weights.pinned),
            "locked": _amount_json(weights.locked),
        },
        "waits_for_confirmation": found.stops,
    }


def _stopped_json(stopped: Stopped) -> Mapping[str, Json]:
    return {
        "camera_id": str(stopped.camera_id),
        "at_most": format_duration(stopped.at_most),
        "surprise": _amount_json(stopped.unexplained),
    }


def _amount_json(amount: Amount) -> Mapping[str, Json]:
    return {"segments": amount.segments, "bytes": amount.bytes, "camera_days": round(amount.days, 6)}


def _limit_text(limit: timedelta | None) -> str | None:
    return None if limit is None else format_duration(limit)


def _kept_json(kept: Kept) -> Mapping[str, Json]:
    segment = kept.segment
    return {
        "segment_id": str(segment.id),
        "camera_id": str(segment.camera_id),
        "start_time": rfc3339(segment.span.start),
        "end_time": rfc3339(segment.span.end),
        "size_bytes": segment.size_bytes,
        "cause": kept.cause,
        "copies": [
            {"backend": copy.backend, "path": copy.path, "error": copy.error}
            for copy in segment.copies
            if copy.error is not None  # else its bytes are gone
        ],
        "tried_again_at": rfc3339(kept.due),
    }


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=RETENTION,
        handler=show,
        name="showRetention",
        summary="Whether footage is deleted by age now, and which cameras wait for a yes",
        scope=Scope.READ,
        answers=(Answer(status=200, means="Where it stands", model=RetentionAnswer),),
    ),
    Route(
        method="POST",
        path=f"{RETENTION}/preview",
        handler=preview,
        name="previewRetention",
        changes=False,
        summary="What rules would delete now, camera by camera; deletes nothing",
        scope=Scope.READ,
        lane=Lane.HEAVY,
        body=RetentionPreviewBody,
        body_required=False,
        answers=(Answer(status=200, means="What would go and what stays", model=RetentionPreviewAnswer),),
    ),
    Route(
        method="POST",
        path=f"{RETENTION}/confirm",
        handler=confirm,
        name="confirmRetention",
        summary="Let retention delete what it stopped at because it was so much",
        scope=Scope.ADMIN,
        body=ConfirmBody,
        answers=(Answer(status=200, means="A pass that begins in seconds goes on", model=ConfirmAnswer),),
        problems=(problems.NOT_FOUND,),
    ),
    Route(
        method="GET",
        path=f"{RETENTION}/locked",
        handler=locked,
        name="listLocked",
        summary="Segments that should be gone and are kept by a lock of their store, or at a former one",
        scope=Scope.READ,
        query=LockedQuery,
        answers=(Answer(status=200, means="One page", model=LockedAnswer),),
    ),
)
