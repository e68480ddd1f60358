"""Raw requests to the simulator of XProtect, with the examples of published material."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from tests.fakes.xprotect import management
from tests.fakes.xprotect.simulator import Simulator
from tests.fakes.xprotect.site import Camera
from tests.footage import cached_ts
from tests.services.xprotect import PASSWORD, USER, running_site

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
GRANT = {
    "grant_type": "password",
    "client_id": "GrantValidatorClient",
    "username": USER,
    "password": PASSWORD,
}
BOOKMARK = {
    "header": "Export INC-42",
    "description": "sha256=… operator=…",
    "timeBegin": "2026-11-22T09:00:00.000Z",
    "timeTriggered": "2026-11-22T09:00:00.500Z",
    "timeEnd": "2026-11-22T09:05:00.000Z",
    "reference": "INC-42",
}
LOCK = {
    "header": "Export INC-42",
    "startTime": "2026-11-22T09:00:00.000Z",
    "tagTime": "2026-11-22T09:00:00.000Z",
    "endTime": "2026-11-22T09:00:02.000Z",
    "retentionExpire": "9999-12-31T22:59:59.9999999Z",
    "retentionOption": {"retentionUnits": -1, "retentionType": "Indefinite"},
}


@dataclass(frozen=True, slots=True)
class Client:
    """Raw requests with a token."""

    simulator: Simulator
    http: aiohttp.ClientSession
    token: str

    @property
    def gate(self) -> Camera:
        return self.simulator.site.cameras[0]

    async def ask(self, method: str, path: str, body: object = None, *, rest: bool = True) -> tuple[int, Any]:
        url = self.simulator.site.url + ("/api/rest/v1" if rest else "") + path
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.request(method, url, json=body, headers=headers) as got:
            return (
                got.status,
                await got.json() if got.content_type == "application/json" else await got.text(),
            )

    async def get(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body

    async def names(self, path: str) -> list[str]:
        return [each["name"] for each in (await self.get(path))["array"]]

    async def log_in(self, **form: str) -> tuple[int, Any]:
        url = f"{self.simulator.site.url}/API/IDP/connect/token"
        async with self.http.post(url, data=GRANT | form) as got:
            return got.status, await got.json()

    async def sequences(self, **changes: object) -> tuple[int, Any]:
        body = {
            "sequenceType": "RecordingSequence",
            "time": "2026-11-22T09:05:00.000Z",
            "timeBefore": "000.00:05:30",
            "timeAfter": "000.00:05:30",
            "maxCountBefore": 100,
            "maxCountAfter": 100,
        }
        return await self.ask("POST", f"/cameras/{self.gate.id}?task=GetSequences", body | changes)

    async def retrieve(self, identifier: str = "") -> tuple[int, Any]:
        span = {"startTime": "2026-11-22T09:00:00.000Z", "endTime": "2026-11-22T09:10:00.000Z"}
        body = span | {"identifier": identifier, "relatedTasks": ""}
        return await self.ask("POST", f"/cameras/{self.gate.id}?task=RetrieveEdgeStorage", body)

    async def ended(self, answer: Any) -> list[Mapping[str, Any]]:
        """What its task said, poll by poll, up to its end."""
        told: list[Mapping[str, Any]] = []
        while not told or told[-1]["state"] not in {"Success", "Error"}:
            told.append((await self.get(f"/tasks/{answer['result']['path']['id']}"))["data"])
        return told

    async def soap(self, body: str, action: str = "Login", **headers: str) -> tuple[int, str]:
        url = f"{self.simulator.site.url}/ManagementServer/ServerCommandServiceOAuth.svc"
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "text/xml; charset=utf-8"}
        sent |= {"SOAPAction": management.ACTION + action, **headers}
        async with self.http.post(url, data=envelope(body), headers=sent) as got:
            return got.status, await got.text()


@asynccontextmanager
async def site(*cameras: Camera | str, **settings: Any) -> AsyncIterator[Client]:
    """Logged in at a site of its own."""
    async with (
        running_site(cameras or ("gate", "yard"), **settings) as started,
        aiohttp.ClientSession() as http,
    ):
        client = Client(started, http, "")
        _, token = await client.log_in()
        yield Client(started, http, token["access_token"])


async def recorded(client: Client, *seconds_after_nine: float) -> None:
    """Four seconds of footage at each."""
    path = await asyncio.to_thread(cached_ts, seconds=4)
    for after in seconds_after_nine:
        start = NINE + timedelta(seconds=after)
        await asyncio.to_thread(client.simulator.site.media.add_ts, client.gate.id, path, start)


def envelope(body: str) -> str:
    return f'<s:Envelope xmlns:s="{management.ENVELOPE}"><s:Body>{body}</s:Body></s:Envelope>'


def login(current: str = "", instance: object = "6ba7b810-9dad-11d1-80b4-00c04fd430c8") -> str:
    inside = f"<instanceId>{instance}</instanceId><currentToken>{current}</currentToken>"
    return f'<Login xmlns="{management.NAMESPACE}">{inside}</Login>'
