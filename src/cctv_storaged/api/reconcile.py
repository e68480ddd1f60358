"""The four-way difference of folders, journal, backends and catalog: begin it, watch it, cancel it."""

from collections.abc import Sequence

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.auth import MAY_ADMIN, TOKEN_NAME
from cctv_storaged.api.parsing import body_bytes, parsed
from cctv_storaged.api.problems import Refusal, plain
from cctv_storaged.api.reconcile_models import ReconcileAnswer, ReconcileBody
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Route
from cctv_storaged.api.services import Services
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.reconciling.brake import Braked
from cctv_storaged.reconciling.differences import Difference, Kind, SectionAccount
from cctv_storaged.reconciling.run import Run

PATH = f"{PREFIX}/reconcile"


async def begin(request: web.Request, services: Services) -> web.StreamResponse:
    sent = await body_bytes(request) if request.body_exists else b""
    body = parsed(sent or b"{}", ReconcileBody)
    if body.force and not body.apply:
        raise Unprocessable([Fault("force", "means something with apply only")])
    if body.force and not request.get(MAY_ADMIN, True):
        raise Refusal(problems.FORBIDDEN, "force needs a token with the scope admin")
    reconciler = services.upkeep.reconciling.reconciler
    run = await reconciler.begin(apply=body.apply, force=body.force, why=request.get(TOKEN_NAME, "api"))
    return answer(_document(run), status=202, headers={"Location": PATH})


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    return answer(_document(await services.upkeep.reconciling.reconciler.last()))


async def cancel(request: web.Request, services: Services) -> web.StreamResponse:
    await services.upkeep.reconciling.reconciler.cancel()
    return web.Response(status=204)


def _document(run: Run | None) -> dict[str, Json]:
    if run is None:
        return {"status": "none", "run": None}
    return {"status": "running" if run.outcome is None else run.outcome, "run": _run_json(run)}


def _run_json(run: Run) -> dict[str, Json]:
    return {
        "id": str(run.id),
        "apply": run.apply,
        "force": run.force,
        "why": run.why,
        "started_at": rfc3339(run.started_at),
        "finished_at": None if run.finished_at is None else rfc3339(run.finished_at),
        "resumed": run.resumed,
        "phase": run.phase,
        "section": None if run.section is None else plain(run.section),
        "looked": sum(each.looked for each in run.sections),
        "sections": [_section_json(each) for each in run.sections],
        "differences": [_differences_json(run, kind) for kind in run.findings.counts],
        "braked": [_brake_json(each) for each in run.braked],
        "error": None if run.error is None else plain(run.error),
    }


def _section_json(account: SectionAccount) -> dict[str, Json]:
    return {
        "name": plain(account.name),
        "kind": account.kind,
        "looked": account.looked,
        "elsewhere": account.elsewhere,
        "young": account.young,
        "under_way": account.under_way,
        "done": account.done,
        "trouble": None if account.trouble is None else plain(account.trouble),
    }


def _differences_json(run: Run, kind: Kind) -> dict[str, Json]:
    count = run.findings.counts[kind]
    samples = [_sample_json(each) for each in run.findings.samples if each.kind is kind]
    return {
        "kind": kind,
        "found": count.found,
        "applied": count.applied,
        "lost": count.lost,
        "lost_held": count.lost_held,
        "lost_held_samples": [_sample_json(each) for each in count.lost_held_samples],
        "samples": samples,
    }


def _sample_json(difference: Difference) -> dict[str, Json]:
    return {
        "section": plain(difference.section),
        "path": None if difference.path is None else plain(difference.path),
        "segment_id": None if difference.segment_id is None else str(difference.segment_id),
        "camera_id": None if difference.camera_id is None else str(difference.camera_id),
        "detail": plain(difference.detail),
    }


def _brake_json(stop: Braked) -> dict[str, Json]:
    return {
        "section": plain(stop.section),
        "camera_id": None if stop.camera_id is None else str(stop.camera_id),
        "gone": stop.gone,
        "compared": stop.compared,
    }


ROUTES: Sequence[Route] = (
    Route(
        method="POST",
        path=PATH,
        handler=begin,
        name="beginReconcile",
        summary="Compare folders, journal, backend and catalog; with `apply`, mend what differs",
        scope=Scope.WRITE,
        body=ReconcileBody,
        body_required=False,
        answers=(
            Answer(
                status=202,
                means="It is begun; GET tells how far it is",
                model=ReconcileAnswer,
                headers=("Location",),
            ),
        ),
        problems=(problems.CONFLICT,),
    ),
    Route(
        method="GET",
        path=PATH,
        handler=show,
        name="showReconcile",
        summary="The comparison under way, or what the last one found",
        scope=Scope.READ,
        answers=(Answer(status=200, means="How far it is, and what it found", model=ReconcileAnswer),),
    ),
    Route(
        method="DELETE",
        path=PATH,
        handler=cancel,
        name="cancelReconcile",
        summary="End the comparison under way; what was mended stays mended",
        scope=Scope.WRITE,
        answers=(Answer(status=204, means="It is over", media_type=None),),
        problems=(problems.NOT_FOUND,),
    ),
)
