"""The fleet: how each host was when it said so last, from the catalog."""

import asyncio
from collections.abc import Sequence

from aiohttp import web

from cctv_storaged.access import Scope
from cctv_storaged.api import problems
from cctv_storaged.api.fleet_models import FleetAnswer
from cctv_storaged.api.problems import plain
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX, Answer, Lane, Route
from cctv_storaged.api.services import Services
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import NotFound
from cctv_storaged.fleet import STALE_S, Fleet, FleetHost


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    if services.fleet is None:
        raise NotFound("this host is part of no fleet: PostgreSQL is not configured")
    return await asyncio.to_thread(_fleet_answer, await services.fleet.now())


def _fleet_answer(fleet: Fleet) -> web.Response:
    """In a thread: two thousand hosts with fifty alarms each are seconds of work."""
    return answer(
        {
            "at": rfc3339(fleet.at),
            "stale_after_seconds": STALE_S,
            "complete": fleet.complete,
            "hosts": [_host_json(each) for each in fleet.hosts],
        }
    )


def _host_json(host: FleetHost) -> dict[str, Json]:
    known, word = host.known, host.known.word
    oldest = word.oldest_undelivered
    return {
        "host_id": plain(word.host_id),
        "journal_id": word.journal_id,
        "twin": host.twin,
        "stale": host.stale,
        "seen_at": rfc3339(known.seen_at),
        "seen_seconds_ago": round(known.seen_s_ago, 3),
        "started_at": rfc3339(word.started_at),
        "version": word.version,
        "config_version": word.config_version,
        "config_hash": word.config_hash,
        "config_waiting": list(word.config_waiting),
        "mode": word.mode,
        "backend": word.backend,
        "cameras": word.cameras,
        "backlog_segments": word.backlog_segments,
        "backlog_bytes": word.backlog_bytes,
        "copies_failed": word.copies_failed,
        "oldest_undelivered": None if oldest is None else rfc3339(oldest),
        "disk_days_left": word.disk_days_left,
        "alarms": [
            {"name": each.name, "subject": each.subject, "text": each.text, "since": each.since}
            for each in word.alarms
        ],
        "alarms_standing": word.alarms_standing,
    }


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/fleet",
        handler=show,
        name="showFleet",
        summary="Every host of the fleet: when it was heard last, its settings, backlog, disks and alarms",
        scope=Scope.READ,
        lane=Lane.HEAVY,
        answers=(Answer(status=200, means="The hosts, by name", model=FleetAnswer),),
        problems=(problems.NOT_FOUND, problems.CATALOG_AWAY),
    ),
)
