"""The host's clock: whether ages mean anything, and somebody's word that they do."""

from collections.abc import Sequence

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api.place_models import ClockAnswer
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Reach, Route
from cctv_storaged.api.services import Services
from cctv_storaged.clock import rfc3339
from cctv_storaged.clockguard import ClockState

STEPS = 20


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    return await _told(services.upkeep.clock_guard.state(), services)


async def confirm(request: web.Request, services: Services) -> web.StreamResponse:
    return await _told(await services.upkeep.clock_guard.confirm(), services)


async def _told(state: ClockState, services: Services) -> web.StreamResponse:
    steps: list[Json] = [
        {"at": rfc3339(step.at), "by_seconds": step.by.total_seconds()}
        for step in await services.journal.clocks.steps(STEPS)
    ]
    return answer(
        {
            "now": rfc3339(state.now),
            "distrust": state.distrust,
            "synchronized": state.synchronized,
            "trusted_from": None if state.trusted_from is None else rfc3339(state.trusted_from),
            "steps": steps,
        }
    )


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/clock",
        handler=show,
        name="showClock",
        summary="Whether the host's clock is trusted, and its last steps",
        scope=Scope.READ,
        reach=Reach.NEUTRAL,
        answers=(Answer(status=200, means="The clock", model=ClockAnswer),),
    ),
    Route(
        method="POST",
        path=f"{PREFIX}/clock/confirm",
        handler=confirm,
        name="confirmClock",
        summary="The clock is right as it is: things may be deleted by their age again",
        scope=Scope.ADMIN,
        answers=(Answer(status=200, means="It is trusted", model=ClockAnswer),),
    ),
)
