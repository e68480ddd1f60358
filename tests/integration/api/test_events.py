"""Events as they happen, for those who listen right now."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from cctv_storaged.api import events
from cctv_storaged.api.models import EventAnswer
from cctv_storaged.clock import SystemClock
from cctv_storaged.events import QUEUE, Event, EventKind
from tests.integration.api.harness import API, Host, path_of, running, until

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")


@dataclass(slots=True)
class Listening:
    """One stream, read as a browser's EventSource reads it."""

    response: aiohttp.ClientResponse

    async def block(self) -> dict[str, str]:
        """The next block of lines; comments under the empty name."""
        found: dict[str, str] = {}
        while True:
            line = (await asyncio.wait_for(self.response.content.readline(), 20)).decode()
            if not line.strip():
                return found
            name, _, value = line.rstrip("\n").partition(":")
            found[name] = value.removeprefix(" ")

    async def event(self) -> tuple[int, str, Any]:
        found = await self.block()
        while "event" not in found:
            found = await self.block()
        return int(found["id"]), found["event"], json.loads(found["data"])


@asynccontextmanager
async def listening(host: Host, **params: str) -> AsyncIterator[Listening]:
    headers = {} if host.token is None else {"Authorization": f"Bearer {host.token}"}
    async with host.session.get(f"{host.url}{API}/events", params=params, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        stream = Listening(response)
        assert await stream.block() == {"retry": "3000"}
        yield stream


async def test_what_happens_is_told_as_it_happens(host: Host) -> None:
    async with listening(host) as stream:
        host.deliver()
        segment = await host.registered(camera=CAMERA)
        number, kind, data = await stream.event()
        assert (number, kind, data["segment_id"], data["camera_id"]) == (
            1,
            "segment",
            segment["id"],
            str(CAMERA),
        )
        EventAnswer.model_validate(data)
        number, kind, data = await stream.event()
        assert (number, kind, data["state"], data["backend"]) == (2, "copy", "verified", "FILESYSTEM")
        await host.delete(path_of(segment))
        number, kind, data = await stream.event()
        assert (number, kind, data["segment_id"]) == (3, "deleted", segment["id"])


async def test_a_camera_can_be_listened_to_alone(host: Host) -> None:
    async with listening(host, camera_id=str(CAMERA)) as stream:
        await host.registered("other/a.ts", camera=uuid4())
        host.parts.foundation.hub.publish(
            Event(kind=EventKind.ALERT, at=datetime.now(UTC), detail="of nobody")
        )
        mine = await host.registered("gate/a.ts", camera=CAMERA)
        number, _, data = await stream.event()
        assert (number, data["segment_id"]) == (1, mine["id"])


async def test_a_token_that_is_revoked_hears_nothing_more(host: Host) -> None:
    """Its stream ends by itself, and nothing of what happens after is in it."""
    admin, reader = await made(host, "admin"), await made(host, "read")
    async with listening(host) as stream:
        host.token = admin["secret"]
        assert (await host.delete(f"/tokens/{reader['id']}")).status == 204
        await host.registered()
        assert await rest(stream) == ""


async def test_a_token_past_its_end_hears_nothing_more(tmp_path: Path) -> None:
    clock = Ahead()
    async with running(tmp_path, clock=clock) as host:
        await made(host, "admin")
        end = datetime.now(UTC) + timedelta(hours=1)
        await made(host, "read", expires_at=end.isoformat())
        async with listening(host) as stream:
            clock.ahead = timedelta(hours=2)
            assert await rest(stream) == ""


async def test_a_stream_of_nobody_ends_with_the_first_token(host: Host) -> None:
    async with listening(host) as stream:
        await made(host, "admin")
        assert await rest(stream) == ""


class Ahead(SystemClock):
    """A clock that can be set."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


async def made(host: Host, scope: str, **more: str) -> dict[str, Any]:
    """A token, which is the host's client's from now on."""
    reply = await host.post("/tokens", {"name": f"a {scope}", "scopes": [scope], **more})
    assert reply.status == 201, reply
    host.token = reply.json["secret"]
    return dict(reply.json)


async def rest(stream: Listening) -> str:
    """What is still told until the stream ends."""
    async with asyncio.timeout(20):
        return (await stream.response.content.read()).decode()


async def test_every_listener_hears_everything(host: Host) -> None:
    async with listening(host) as one, listening(host) as other:
        segment = await host.registered()
        assert (await one.event())[2] == (await other.event())[2]
        assert segment["id"]


async def test_a_name_of_any_bytes_cannot_break_the_stream(host: Host) -> None:
    async with listening(host) as stream:
        host.parts.foundation.hub.publish(
            Event(kind=EventKind.SET_ASIDE, at=datetime.now(UTC), detail="a\udcff\n\ndata: forged\r\u2028.ts")
        )
        _, kind, data = await stream.event()
        assert (kind, data["detail"]) == ("set_aside", "a\\udcff\n\ndata: forged\r\u2028.ts")


async def test_a_quiet_stream_shows_that_it_lives(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.2)
    async with listening(host) as stream:
        for _ in range(3):
            assert await stream.block() == {"": "still here"}


async def test_a_listener_too_slow_is_told_how_much_it_missed(host: Host) -> None:
    hub = host.parts.foundation.hub
    async with listening(host) as stream:
        for number in range(QUEUE + 5):  # at one go: the listener's turn comes after it
            hub.publish(Event(kind=EventKind.ALERT, at=datetime.now(UTC), detail=str(number)))
        number, kind, data = await stream.event()
        assert (number, kind, data) == (5, "missed", {"missed": 5})
        assert (await stream.event())[0] == 6


async def test_at_most_fifty_listen(host: Host) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        streams = [await session.get(f"{host.url}{API}/events") for _ in range(50)]
        assert {stream.status for stream in streams} == {200}
        refused = await host.get("/events")
        assert (refused.status, refused.json["type"]) == (429, "urn:cctv-storaged:problem:too-many-requests")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await host.get("/cameras")).status == 200
        streams[0].close()

        async def free() -> bool:
            async with session.get(f"{host.url}{API}/events") as response:
                return response.status == 200

        await until(free)
        for stream in streams:
            stream.close()


async def test_a_listener_that_left_is_forgotten(host: Host) -> None:
    hub = host.parts.foundation.hub
    async with listening(host):
        assert len(hub._listeners) == 1

    async def gone() -> bool:
        return not hub._listeners

    await until(gone)


async def test_listeners_need_the_right_to_read(host: Host) -> None:
    reply = await host.post("/tokens", {"name": "a", "scopes": ["admin"]})
    host.token = reply.json["secret"]
    reply = await host.post("/tokens", {"name": "w", "scopes": ["write"]})
    host.token = None
    assert (await host.get("/events")).status == 401
    host.token = reply.json["secret"]
    assert (await host.get("/events")).status == 403
