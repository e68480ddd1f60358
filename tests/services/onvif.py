"""The ONVIF device over a host of the API's tests, on free ports; and footage that it is to hand over."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from cctv_storaged.config.milestone import Milestone, MilestoneOnvif
from cctv_storaged.model import Segment
from cctv_storaged.onvif.server import OnvifServer, open_onvif
from cctv_storaged.pacing import ByteBudget
from tests.footage import Recipe, cached_ts
from tests.integration.api.harness import Host, description

GATE = UUID("123e4567-e89b-12d3-a456-426614174000")
START = datetime(2026, 11, 20, 8, 0, 0, 250_000, tzinfo=UTC)
USER, PASSWORD = "recorder", "canary & <password>"


@dataclass(frozen=True, slots=True)
class Device:
    """It listens."""

    host: Host
    server: OnvifServer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.http_port}"

    def rtsp(self, camera: UUID = GATE, *, user: str = "") -> str:
        return f"rtsp://{user}127.0.0.1:{self.server.rtsp_port}/replay/{camera}"


@asynccontextmanager
async def device(host: Host, *, password: str = PASSWORD) -> AsyncIterator[Device]:
    """The device of a host, listening on loopback."""
    server = opened(host, onvif_settings(password))
    assert server is not None
    await server.start()
    try:
        yield Device(host, server)
    finally:
        await server.stop()


def onvif_settings(password: str = PASSWORD, bind: str = "127.0.0.1") -> Milestone:
    onvif = MilestoneOnvif(enabled=True, bind=bind, username=USER, password=SecretStr(password))
    free = onvif.model_copy(update={"http_port": 0, "rtsp_port": 0})
    return Milestone(url="https://mgmt.example", onvif=free)


def opened(host: Host, settings: Milestone) -> OnvifServer | None:
    foundation = host.parts.foundation

    async def doubt(segment: Segment, backend: str, why: str) -> None:
        await host.journal.copies.doubt(segment.id, backend, why)

    return open_onvif(
        settings,
        host_id=foundation.settings.host_id,
        journal=host.journal,
        backends=foundation.backends,
        pins=host.parts.pruner.pins,
        metrics=foundation.metrics,
        clock=foundation.clock,
        budget=ByteBudget(None),
        doubt=doubt,
    )


async def recorded(
    host: Host, name: str, start: datetime, *, camera: UUID = GATE, recipe: Recipe | None = None
) -> Path:
    """Real footage registered as a segment that begins at a moment; its file."""
    recipe = recipe or {}
    path = host.recordings / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cached_ts(**recipe), path)
    seconds = recipe.get("seconds", 2)
    reply = await host.post("/segments", description(path, camera=camera, start=start, seconds=seconds))
    assert reply.status == 201, reply
    return path


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)
