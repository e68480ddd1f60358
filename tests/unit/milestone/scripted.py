"""A management server that says what it is told to: for answers that no XProtect should ever give.

Everything that was asked is kept, so that a test can see what was sent, and what was not.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from cctv_storaged.backends.milestone.discovery import Discovered, discover
from cctv_storaged.backends.milestone.httpwire import HttpWire, open_session
from cctv_storaged.backends.milestone.identity import Identity
from cctv_storaged.backends.milestone.rest import Rest
from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.backends.milestone.tls import management_trust
from cctv_storaged.backends.milestone.xprotect import XProtect
from cctv_storaged.clock import Clock, SystemClock

CERTIFICATES = Path(__file__).parents[2] / "services" / "certificates"
CA = str(CERTIFICATES / "ca.pem")
USER = "storaged"
PASSWORD = "canary & 100% pässword+"
GATEWAY_TOKEN = "/API/IDP/connect/token"
DIRECT_TOKEN = "/IDP/connect/token"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `body` is bytes as they are, anything else as JSON."""

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    endless: bool = False  # the body again and again
    wait: asyncio.Event | None = None  # before it answers

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    data: bytes

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.data.decode(), strict_parsing=True).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.data)


Said = Reply | Callable[[Asked], Reply]


@dataclass(slots=True)
class Scripted:
    """What it says, by method and path: the last of several is said again and again."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    said: dict[str, list[Said]] = field(default_factory=dict)
    logins: int = 0

    def say(self, line: str, *replies: Said) -> None:
        """`line` as in `GET /api/rest/v1/sites`."""
        self.said[line] = list(replies)

    def of(self, line: str) -> list[Asked]:
        """The requests for it."""
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == line]

    def token(self, _: Asked) -> Reply:
        """Another one each time, which is how it is seen that it was renewed."""
        self.logins += 1
        return Reply({"access_token": f"token-{self.logins}", "expires_in": 3600, "token_type": "Bearer"})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(
            request.method, request.path, request.query_string, dict(request.headers), await request.read()
        )
        self.asked.append(asked)
        replies = self.said.get(f"{asked.method} {asked.path}")
        if not replies:
            return web.json_response(
                {"httpCode": 404, "details": [{"errorText": "not scripted"}]}, status=404
            )
        said = replies.pop(0) if len(replies) > 1 else replies[0]
        reply = said if isinstance(said, Reply) else said(asked)
        if reply.wait is not None:
            await reply.wait.wait()
        return await _sent(request, reply)


async def _sent(request: web.Request, reply: Reply) -> web.StreamResponse:
    if not reply.endless:
        headers = {"Content-Type": "application/json", **reply.headers}
        return web.Response(body=reply.data, status=reply.status, headers=headers)
    response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(reply.data)
    return response


@contextlib.asynccontextmanager
async def scripted(tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> AsyncIterator[Scripted]:
    """On a free port of this host, and willing to log anyone in."""
    server = Scripted()
    server.say("GET /api/.well-known/uris", Reply({"ProductVersion": "25.2.1.1"}))
    server.say(f"POST {GATEWAY_TOKEN}", server.token)
    server.say(f"POST {DIRECT_TOKEN}", server.token)
    app = web.Application(client_max_size=1024 * 1024)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, address, 0, ssl_context=tls)
    try:
        await site.start()
        server.url = f"{'https' if tls else 'http'}://{address}:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


def target_of(server: Scripted, **changes: Any) -> MilestoneTarget:
    """With an authority of the tests' own, which is loaded sooner than all those of the system."""
    facts: dict[str, Any] = {"username": USER, "password": PASSWORD, "allow_plain_http": True, "ca_file": CA}
    facts["connect_s"] = 30  # a busy machine is no server that is away
    return MilestoneTarget(url=server.url, **(facts | changes))


@dataclass(frozen=True, slots=True)
class Client:
    """Log-in and REST, without what stands on them."""

    identity: Identity
    rest: Rest


@contextlib.asynccontextmanager
async def client(server: Scripted, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Client]:
    target, clock = target_of(server, **changes), clock or SystemClock()
    async with open_session(target, management_trust(target)) as session:
        wire = HttpWire(session, target, clock)

        async def discovered() -> Discovered:
            return await discover(wire, target.url)

        identity = Identity(wire, target, clock, discovered)
        try:
            yield Client(identity, Rest(wire, identity, discovered))
        finally:
            await identity.close()


@contextlib.asynccontextmanager
async def xprotect(server: Scripted, clock: Clock | None = None, **changes: Any) -> AsyncIterator[XProtect]:
    """The whole client."""
    vms = XProtect(target_of(server, **changes), clock or SystemClock())
    try:
        yield vms
    finally:
        await vms.close()
