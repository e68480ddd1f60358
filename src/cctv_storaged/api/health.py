"""Probes: whether the process lives, whether it does its work, and its metrics."""

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from cctv_storaged import __version__
from cctv_storaged.api.problems import plain
from cctv_storaged.api.rendering import answer
from cctv_storaged.api.services import Services


async def health(request: web.Request, services: Services) -> web.StreamResponse:
    configuration = services.configuration.now
    return answer(
        {
            "status": "alive",
            "version": __version__,
            "config_version": None if configuration.version is None else plain(configuration.version),
            "config_hash": configuration.hash,
        }
    )


async def ready(request: web.Request, services: Services) -> web.StreamResponse:
    readiness = services.health.readiness()
    parts = [
        {"name": plain(part.name), "trouble": part.trouble, "essential": part.essential}
        for part in readiness.parts
    ]
    return answer({"ready": readiness.ready, "parts": parts}, status=200 if readiness.ready else 503)


async def metrics(request: web.Request, services: Services) -> web.StreamResponse:
    return web.Response(
        body=generate_latest(services.metrics.registry),
        headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"},
    )
