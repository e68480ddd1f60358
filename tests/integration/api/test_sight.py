"""A token that is limited to cameras: what it may do with them, and that it learns nothing of any other."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.routing import Reach
from cctv_storaged.clock import rfc3339
from tests.integration.api.exported import GATE, YARD, body_of, moment
from tests.integration.api.harness import API, Host, Reply, description, running

CAMERAS = [
    {"id": str(GATE), "name": "Main gate", "folder": "gate"},
    {"id": str(YARD), "name": "Backyard", "folder": "yard"},
]
SCOPES = ["read", "write", "export", "hold", "release"]
SPAN = {"start": rfc3339(moment(0)), "end": rfc3339(moment(2))}
VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\d(T[\d:.]+Z)?|gAAAA[\w=-]+|urn:cctv-storaged:request:\w+|\d+\.\d+", re.ASCII
)
"""Times, sealed cursors, request ids, and days to a thousandth."""
REACH = {(route.method, route.path): route.reaches for route in ROUTES}


@dataclass(slots=True)
class Scene:
    """A host with two cameras, and a token that sees one of them."""

    host: Host
    admin: str = ""
    limited: str = ""
    own: dict[str, str] = field(default_factory=dict)  # ids by the names that paths give them
    others: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=lambda: {str(YARD), "Backyard", "yard"})

    async def more_of_the_other(self, number: int) -> None:
        """Another segment, export and hold of the camera that may not be seen, and ones of both cameras."""
        self.host.token = self.admin
        made = await self.host.registered(f"yard/{number}.ts", camera=YARD, start=moment(number * 10))
        self.others = {"camera_id": str(YARD), "segment_id": str(made["id"])}
        for cameras in ((YARD,), (GATE, YARD)):
            export = await self.host.post("/exports", body_of(*cameras, end_s=number + 1))
            hold = await self.host.post("/holds", hold_of(*cameras))
            assert (export.status, hold.status) == (202, 201), (export, hold)
            self.others |= {"export_id": export.json["id"], "hold_id": hold.json["id"]}
            self.secrets |= set(self.others.values())
        self.host.token = self.limited


def hold_of(*cameras: UUID) -> dict[str, Any]:
    return {
        "camera_ids": [str(each) for each in cameras],
        "start_time": rfc3339(moment(0)),
        "reason": "theft",
    }


@asynccontextmanager
async def scene_of(folder: Path) -> AsyncIterator[Scene]:
    more = {"cameras": CAMERAS, "api": {"protect_metrics": True, "allowed_paths": [str(folder / "in")]}}
    async with running(folder, more) as host:
        scene = Scene(host)
        admin = await host.post("/tokens", {"name": "admin", "scopes": ["admin"]})
        scene.admin = host.token = admin.json["secret"]
        made = await host.registered("gate/a.ts", camera=GATE, start=moment(0))
        export = await host.post("/exports", body_of(GATE))
        hold = await host.post("/holds", hold_of(GATE))
        scene.own = {"camera_id": str(GATE), "segment_id": made["id"]}
        scene.own |= {"export_id": export.json["id"], "hold_id": hold.json["id"]}
        body = {"name": "gate keeper", "scopes": SCOPES, "cameras": [str(GATE)]}
        limited = await host.post("/tokens", body)
        assert limited.status == 201, limited
        scene.own["token_id"] = limited.json["id"]
        scene.limited = limited.json["secret"]
        await scene.more_of_the_other(0)
        yield scene


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def asked(scene: Scene, method: str, path: str, operation: Any, ids: Mapping[str, str]) -> Reply:
    where = re.sub(r"{(\w+)}", lambda found: ids.get(found[1], scene.own[found[1]]), path).removeprefix(API)
    named = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    query = {name: value for name, value in SPAN.items() if name in named}
    if "reason" in named:
        query["reason"] = "over"
    body = None
    if "requestBody" in operation:
        body = {"camera_id": str(YARD), "camera_ids": [str(YARD)], "name": "x", "scopes": ["read"]}
    reply = await scene.host.request(method, where, params=query, json=body)
    sent = where + str(body)
    text = reply.body.decode(errors="replace") + str(dict(reply.headers))
    leaked = [secret for secret in scene.secrets if secret in text and secret not in sent]
    assert leaked == [], (method, where, reply)
    return reply


async def seen(scene: Scene, document: Mapping[str, Any]) -> dict[tuple[str, str], tuple[int, str]]:
    """Everything that can be looked at with the token's own ids, without what changes by itself."""
    found = {}
    for method, path, operation in operations(document):
        if method == "GET" and operation["operationId"] != "events":
            reply = await asked(scene, method, path, operation, scene.own)
            text = "" if reply.json is None else VOLATILE.sub("*", reply.body.decode())
            found[method, path] = reply.status, text
    return found


async def test_a_token_of_one_camera_learns_nothing_of_another(tmp_path: Path) -> None:
    """Over all routes of the document: no id, no name, and no count, which would change with the other's."""
    async with scene_of(tmp_path) as scene:
        document = (await scene.host.get("/openapi.json")).json
        before = await seen(scene, document)
        for number in (1, 2, 3):
            await scene.more_of_the_other(number)
        after = await seen(scene, document)
        assert {key: (before[key], after[key]) for key in before if before[key] != after[key]} == {}
        for key, (status, text) in after.items():
            whole = REACH[key] is Reach.HOST
            assert (status == 403) is whole, (key, status, text)
            assert whole or status in (200, 409), (key, status, text)  # 409: the export has no file yet


async def test_what_is_of_another_camera_is_not_there_for_it(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scene:
        document = (await scene.host.get("/openapi.json")).json
        for method, path, operation in operations(document):
            if operation["operationId"] == "events":
                continue
            reply = await asked(scene, method, path, operation, scene.others)
            reach = REACH[method, path]
            named = "{camera_id}" in path or "{export_id}" in path or "{hold_id}" in path
            if named or reach is Reach.HOST:
                assert reply.status in (403, 404, 422), (method, path, reply)
        scene.host.token = scene.admin
        assert (await scene.host.get(f"/segments/{YARD}/{scene.others['segment_id']}")).status == 200
        assert (await scene.host.get(f"/holds/{scene.others['hold_id']}")).json["released_at"] is None
        assert (await scene.host.get(f"/exports/{scene.others['export_id']}")).status == 200


async def test_its_own_camera_is_all_there_is(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scene:
        host = scene.host
        assert [each["id"] for each in (await host.get("/cameras")).json["cameras"]] == [str(GATE)]
        assert [each["id"] for each in (await host.get("/exports")).json["exports"]] == [
            scene.own["export_id"]
        ]
        assert [each["id"] for each in (await host.get("/holds")).json["holds"]] == [scene.own["hold_id"]]
        report = await host.get("/retention/report")
        assert [each["id"] for each in report.json["cameras"]] == [str(GATE)]
        made = await host.post("/exports", body_of(GATE, end_s=1))
        assert made.status == 202
        assert made.json["created_by"] == "gate keeper"
        first = await host.get("/exports", limit="1")
        second = await host.get("/exports", limit="1", cursor=first.json["next_cursor"])
        assert [made.json["id"], scene.own["export_id"]] == [
            each["id"] for page in (first, second) for each in page.json["exports"]
        ]
        assert (await host.get("/exports", cursor="1")).status == 422, "a number would count others' rows"


async def test_footage_of_another_camera_cannot_be_called_its_own(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scene:
        host = scene.host
        stolen, own = host.file("yard/new.ts"), host.file("gate/new.ts")
        handed_in = host.file("new.ts", below=tmp_path / "in")
        for path in (stolen, handed_in, host.recordings / "yard/0.ts"):
            reply = await host.post("/segments", description(path, camera=GATE, start=moment(60)))
            assert (reply.status, reply.fields) == (422, {"file_path"}), (path, reply)
        reply = await host.post("/segments", description(own, camera=YARD, start=moment(60)))
        assert (reply.status, reply.fields) == (422, {"camera_id"})


async def test_holds_of_several_cameras_keep_its_footage_and_stay_unseen(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scene:
        assert (await scene.host.delete(f"/holds/{scene.own['hold_id']}?reason=over")).status == 204
        reply = await scene.host.delete(f"/segments/{GATE}/{scene.own['segment_id']}")
        assert reply.status == 409
        assert not [secret for secret in scene.secrets if secret in reply.body.decode()], reply


async def test_events_of_its_camera_are_all_it_hears(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scene, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {scene.limited}"}
        url = f"{scene.host.url}{API}/events"
        async with session.get(url, headers=headers, params={"camera_id": str(YARD)}) as refused:
            assert refused.status == 404
        async with session.get(url, headers=headers) as stream:
            await stream.content.readuntil(b"\n\n")
            await scene.more_of_the_other(1)
            scene.host.token = scene.admin
            made = await scene.host.registered("gate/b.ts", camera=GATE, start=moment(90))
            told = await stream.content.readuntil(b"\n\n")
        assert told.startswith(b"id: 1\nevent: segment\n")
        assert made["id"].encode() in told


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"scopes": ["admin"]}, {"cameras"}),
        ({"cameras": [str(GATE), str(UUID(int=9))]}, {"cameras.1"}),
        ({"cameras": []}, {"cameras"}),
    ],
)
async def test_a_limit_that_means_nothing_is_refused(
    tmp_path: Path, more: dict[str, Any], fields: set[str]
) -> None:
    async with running(tmp_path, {"cameras": CAMERAS}) as host:
        host.token = (await host.post("/tokens", {"name": "admin", "scopes": ["admin"]})).json["secret"]
        body = {"name": "x", "scopes": ["read"], "cameras": [str(GATE)], **more}
        reply = await host.post("/tokens", body)
        assert (reply.status, reply.fields) == (422, fields)
