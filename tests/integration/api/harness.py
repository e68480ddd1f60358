"""A whole host behind its API: real journal, real folders, real server on a free port, real footage.

Assembled as the daemon assembles it; deliveries run only in tests that ask for them.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch
from uuid import UUID, uuid4

import aiohttp
import yaml

from cctv_storaged.api import segments as segment_routes
from cctv_storaged.assembly import Parts, assembled
from cctv_storaged.clock import Clock, SystemClock, rfc3339
from cctv_storaged.config import Settings, load_settings
from cctv_storaged.errors import BackendError
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import Segment
from tests.daemon import ANY_ROOM
from tests.footage import cached_ts

T = TypeVar("T")

API = "/api/v1/storage"
PATIENCE_S = 60.0
SECONDS = 2.0
"""Length of the footage most tests use."""
DELETE_PATIENCE_S = segment_routes.DELETE_PATIENCE_S
"""As it is in the product; `running` has its hosts wait longer."""


@dataclass(slots=True)
class StandingClock:
    """Noon of a day for as long as a test takes; only the monotonic clock goes on."""

    wall: datetime = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: parsed where it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any = None

    @property
    def fields(self) -> set[str]:
        """The fields a 422 names."""
        return {error["field"] for error in self.json["errors"]}


@dataclass(slots=True, kw_only=True)
class Host:
    """One host and a client of it."""

    folder: Path
    settings: Settings
    parts: Parts
    session: aiohttp.ClientSession
    token: str | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.parts.api.url

    @property
    def journal(self) -> Journal:
        return self.parts.foundation.journal

    @property
    def recordings(self) -> Path:
        return self.settings.recorders[0].path

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Reply:
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        where = path if path.startswith(("/health", "/ready", "/metrics", "/openapi")) else API + path
        async with self.session.request(
            method, self.url + where, json=json, data=data, headers=sent, params=params
        ) as response:
            body = await response.read()
            is_json = response.content_type.endswith(("/json", "+json"))
            parsed = await response.json(content_type=None) if is_json and body else None
            return Reply(response.status, response.headers, body, parsed)

    async def get(self, path: str, **params: str) -> Reply:
        return await self.request("GET", path, params=params)

    async def post(self, path: str, body: object, **headers: str) -> Reply:
        return await self.request("POST", path, json=body, headers=headers)

    async def delete(self, path: str) -> Reply:
        return await self.request("DELETE", path)

    def file(self, name: str = "gate/a.ts", *, below: Path | None = None, seconds: float = SECONDS) -> Path:
        """Real footage under a recorder root (or another folder)."""
        path = (below or self.recordings) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached_ts(seconds=seconds), path)
        return path

    async def registered(
        self, name: str = "gate/a.ts", *, camera: UUID | None = None, start: datetime | None = None
    ) -> dict[str, Any]:
        """A segment made by POST, as the answer tells it."""
        path = self.file(name)
        reply = await self.post("/segments", description(path, camera=camera, start=start))
        assert reply.status == 201, reply
        return dict(reply.json)

    def deliver(self) -> None:
        """Deliveries run from now on, until the host ends."""
        self.tasks += [asyncio.create_task(each.run()) for each in self.parts.deliveries]

    def watch(self) -> None:
        """Recorder roots are watched and scanned from now on, until the host ends."""
        self.tasks += [asyncio.create_task(each.run()) for each in self.parts.watches]

    async def delivered(self, segment: Mapping[str, Any]) -> dict[str, Any]:
        """The segment once all its copies are verified."""

        async def is_verified() -> dict[str, Any] | None:
            reply = await self.get(path_of(segment))
            copies = reply.json["copies"]
            return dict(reply.json) if all(copy["state"] == "verified" for copy in copies) else None

        return await until(is_verified)

    async def stored(self, segment_id: str) -> Segment:
        found = await self.journal.segments.by_id(UUID(segment_id))
        assert found is not None
        return found


@asynccontextmanager
async def running(
    folder: Path,
    more: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    *,
    delete_patience_s: float = PATIENCE_S,
) -> AsyncIterator[Host]:
    """A host below `folder`, with what `more` says over the embedded defaults; a clock that is not the
    host's can be set.

    The answer to a deletion comes with its end, however busy the machine is: nothing here goes on with one
    that was answered before. Tests of a store that hangs give `DELETE_PATIENCE_S`.
    """
    settings = settings_of(folder, more or {})
    for path in (*(recorder.path for recorder in settings.recorders), *settings.api.allowed_paths):
        path.mkdir(parents=True, exist_ok=True)
    async with assembled(settings, clock or SystemClock()) as parts, aiohttp.ClientSession() as session:
        await _holds_heard(parts)
        await parts.api.start()
        host = Host(folder=folder, settings=settings, parts=parts, session=session)
        try:
            with patch.object(segment_routes, "DELETE_PATIENCE_S", delete_patience_s):
                yield host
        finally:
            for task in host.tasks:
                task.cancel()
            await asyncio.gather(*host.tasks, return_exceptions=True)
            await parts.api.stop()


async def _holds_heard(parts: Parts) -> None:
    """What a daemon's schedule does ten seconds later: a store that a start waited for in vain (SeaweedFS may
    take four seconds for the probe of a new bucket with versions) is asked for its holds again.
    """
    for keeper in parts.upkeep.keepers:
        if keeper.doubt() is not None:
            with suppress(BackendError, TimeoutError):
                async with asyncio.timeout(20):
                    await keeper.recover()


def settings_of(folder: Path, more: Mapping[str, Any]) -> Settings:
    file = folder / "config.yaml"
    document = {"host_id": "nvr-test", "data_dir": str(folder / "data"), **more}
    document["api"] = {"port": 0, **more.get("api", {})}
    document.setdefault("recorders", [{"path": str(folder / "recordings")}])
    document["capacity"] = {"reserve": 0, **ANY_ROOM, **more.get("capacity", {})}
    file.write_text(yaml.safe_dump(document))
    return load_settings(file, {})


def description(
    path: Path, *, camera: UUID | None = None, start: datetime | None = None, seconds: float = SECONDS
) -> dict[str, Any]:
    """A true body of POST /segments for a file."""
    begin = start or datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    return {
        "camera_id": str(camera or uuid4()),
        "start_time": rfc3339(begin),
        "end_time": rfc3339(begin + timedelta(seconds=seconds)),
        "file_path": str(path),
        "size_bytes": os.stat(path).st_size,
        "duration_seconds": seconds,
    }


def files_below(folder: Path, ending: str = "") -> Iterator[Path]:
    """Files of these names; what is removed meanwhile is not met, where `rglob` would fail in its folder."""
    for inner, _, names in os.walk(folder):
        yield from (Path(inner, name) for name in names if name.endswith(ending))


def path_of(segment: Mapping[str, Any]) -> str:
    return f"/segments/{segment['camera_id']}/{segment['id']}"


async def until(condition: Callable[[], Awaitable[T | None]]) -> T:
    """What the condition gives once it gives something."""
    end = time.monotonic() + PATIENCE_S
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.02)
