"""The site as a whole: what it is, who is asked for sequences, and that nothing deletes footage."""

import ast
import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import cctv_storaged.backends.milestone
from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.backends.milestone.imageserver import Door
from cctv_storaged.backends.milestone.refusals import NotThere, Refusal, Refused
from cctv_storaged.backends.milestone.sequencesapi import REMEMBERED_S, Sequences
from cctv_storaged.backends.milestone.target import SequencesApi
from cctv_storaged.backends.milestone.xprotect import XProtect
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectMissing
from cctv_storaged.model import TimeSpan
from cctv_storaged.wiring import open_vms
from tests.unit.config.given import load
from tests.unit.milestone.scripted import PASSWORD, Reply, scripted, target_of, xprotect
from tests.unit.milestone.test_identity import SetClock

CAMERA = UUID(int=5)
NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
SPAN = TimeSpan(NINE, NINE + timedelta(minutes=1))
URIS = "GET /api/.well-known/uris"
OIDC = "GET /idp/.well-known/openid-configuration"
SITES = "GET /api/rest/v1/sites"
SITE = Reply({"array": [{"id": str(UUID(int=9)), "name": "Here", "version": "25.3"}]})


# -- discovery


async def test_a_site_tells_its_version_and_its_clock() -> None:
    async with scripted() as server, xprotect(server, SetClock()) as vms:
        server.say(SITES, Reply(SITE.body, headers={"Date": "Sun, 22 Nov 2026 09:01:00 GMT"}))
        site = await vms.site()
        assert vms.location == server.url
    assert (site.id, site.name, site.release) == (UUID(int=9), "Here", (25, 2))
    assert site.clock_skew == timedelta(seconds=60.5)


@pytest.mark.parametrize(("told", "release"), [("21.2.1", (21, 2)), ("", (25, 3)), ("new", (0, 0))])
async def test_a_gateway_that_tells_no_addresses_is_known_by_its_identity_provider(
    told: str, release: tuple[int, int]
) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(URIS, Reply(b"", 404))
        server.say(OIDC, Reply({"token_endpoint": "https://elsewhere/token", "server_version": told}))
        server.say(SITES, SITE)
        assert (await vms.site()).release == release


async def test_a_server_without_oauth_is_told_by_its_version() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(URIS, Reply(b"", 404))
        server.say(OIDC, Reply({"server_version": "20.3.1"}))
        with pytest.raises(BackendUnavailable, match="2021 R1 is needed"):
            await vms.site()
        server.say(OIDC, Reply(b"", 404))
        with pytest.raises(BackendUnavailable, match=r"no XProtect.*milestone\.url"):
            await vms.site()


async def test_the_gateways_own_path_is_used_and_no_other_host_gets_a_token() -> None:
    async with scripted() as other, scripted() as server, xprotect(server) as vms:
        gateways = [f"{other.url}/API/", f"{server.url}/vms/API/"]
        told = {"ApiGateways": gateways, "IdentityProvider": f"{other.url}/IDP", "ProductVersion": "25.1"}
        server.say(URIS, Reply(told))
        server.say("GET /vms/API/rest/v1/sites", SITE)
        assert (await vms.site()).name == "Here"
    assert not other.asked


@pytest.mark.parametrize(
    "told",
    [
        {"ApiGateways": "https://x/", "ProductVersion": 25},
        {"ApiGateways": [17, None, "https://[", "\x00"], "ProductVersion": "25.2"},
        {"ApiGateways": {"a": 1}},
        {},
    ],
)
async def test_addresses_that_cannot_be_read_are_left_alone(told: object) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(URIS, Reply(told))
        server.say(SITES, SITE)
        assert (await vms.site()).name == "Here"


@pytest.mark.parametrize("reply", [Reply(b"<html>"), Reply(b"[]"), Reply(b" " * 300_000), Reply(b"", 502)])
async def test_what_is_no_management_server_gets_no_password(reply: Reply) -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(URIS, reply)
        with pytest.raises(BackendUnavailable):
            await vms.site()
    assert [asked.method for asked in server.asked] == ["GET"]


async def test_a_user_that_sees_no_site_lacks_a_role() -> None:
    async with scripted() as server, xprotect(server) as vms:
        server.say(SITES, Reply({"array": []}))
        with pytest.raises(BackendUnavailable, match="may see no site") as caught:
            await vms.site()
    assert caught.value.reason == "auth"


async def test_after_the_end_nothing_is_asked() -> None:
    async with scripted() as server:
        async with xprotect(server) as vms:
            server.say(SITES, SITE)
            await vms.site()
        asked = len(server.asked)
        with pytest.raises(BackendUnavailable, match="closed"):
            await vms.site()
        await vms.close()  # once more does no harm
        assert len(server.asked) == asked


async def test_a_log_in_that_is_under_way_does_not_hold_up_the_end() -> None:
    async with scripted() as server:
        server.say(URIS, Reply(b"{}", wait=asyncio.Event()))
        async with xprotect(server) as vms:
            asking = asyncio.ensure_future(vms.site())
            async with asyncio.timeout(30):
                while not server.asked:
                    await asyncio.sleep(0.005)
        with pytest.raises((BackendUnavailable, asyncio.CancelledError)):
            await asking


# -- which interface tells sequences


class Interface:
    """One of the two: counts its questions, and answers or refuses."""

    def __init__(self, refusal: BackendError | None = None) -> None:
        self.refusal = refusal
        self.asked = 0

    async def recorded(self, *_: object) -> tuple[TimeSpan, ...]:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return (SPAN,)


def refused(status: int) -> BackendError:
    refusal = Refusal(status=status, told=True)
    return NotThere("no", refusal) if status == 404 else Refused("no", refusal)


async def door() -> Door:
    return Door(host="recorder", port=7563)


async def asked(sequences: Sequences) -> object:
    return await sequences.recorded(CAMERA, SPAN, door)


def choosing(rest: Interface, soap: Interface, api: SequencesApi, clock: SetClock) -> Sequences:
    ours: tuple[Any, Any] = (rest, soap)
    return Sequences(*ours, api, clock)


@pytest.mark.parametrize("status", [400, 404])
async def test_soap_is_asked_where_rest_has_no_sequences_and_that_is_remembered(status: int) -> None:
    rest, soap, clock = Interface(refused(status)), Interface(), SetClock()
    sequences = choosing(rest, soap, SequencesApi.AUTO, clock)
    for _ in range(3):
        assert await asked(sequences) == (SPAN,)
    assert (rest.asked, soap.asked) == (1, 3)
    clock.at += REMEMBERED_S  # the site may have been upgraded meanwhile
    rest.refusal = None
    await asked(sequences)
    assert (rest.asked, soap.asked) == (2, 3)


async def test_what_soap_could_not_answer_either_is_not_remembered() -> None:
    rest, soap = Interface(refused(404)), Interface(ObjectMissing("no such camera"))
    sequences = choosing(rest, soap, SequencesApi.AUTO, SetClock())
    for _ in range(2):
        with pytest.raises(ObjectMissing):
            await asked(sequences)
    assert rest.asked == 2


async def test_a_site_that_is_away_is_not_taken_for_an_old_one() -> None:
    rest, soap = Interface(BackendUnavailable("away", reason="server")), Interface()
    with pytest.raises(BackendUnavailable):
        await asked(choosing(rest, soap, SequencesApi.AUTO, SetClock()))
    assert soap.asked == 0


async def test_the_settings_may_name_one_interface() -> None:
    rest, soap = Interface(refused(404)), Interface()
    with pytest.raises(ObjectMissing):
        await asked(choosing(rest, soap, SequencesApi.REST, SetClock()))
    assert soap.asked == 0
    assert await asked(choosing(rest, soap, SequencesApi.SOAP, SetClock())) == (SPAN,)
    assert rest.asked == 1


# -- settings


BLOCK = """
milestone:
  url: https://mgmt.example
  username: storaged
  password: canary-secret
  sequences_api: soap
  recorder_host_override: {REC-1: 10.0.0.7}
  timeout: {connect_s: 1, request_s: 2, read_s: 3}
"""


def test_a_site_is_opened_from_the_settings_only_where_there_is_one(tmp_path: Path) -> None:
    assert open_vms(load(tmp_path, ""), SetClock()) is None
    vms = open_vms(load(tmp_path, BLOCK), SetClock())
    assert isinstance(vms, XProtect)
    assert vms.location == "https://mgmt.example"


async def test_no_secret_is_in_what_the_client_looks_like() -> None:
    async with scripted() as server:
        assert PASSWORD not in repr(target_of(server))
        async with xprotect(server) as vms:
            assert PASSWORD not in repr(vars(vms))


def test_the_client_is_what_the_daemon_asks_for() -> None:
    vms: type[Vms] = XProtect
    assert {name for name in vars(Vms) if not name.startswith("_")} <= set(dir(vms))


# -- nothing deletes


def test_no_call_removes_recordings() -> None:
    """`TruncateStorage` empties a whole device; what is deleted are marks of our own, by their ids."""
    package = Path(cctv_storaged.backends.milestone.__file__).parent
    texts = {(source.name, text) for source in package.rglob("*.py") for text in _texts(source)}
    assert len(texts) > 500  # the sources are really read
    assert not [found for found in texts if "truncate" in found[1].lower()]
    assert {name for name, text in texts if text == "DELETE"} == {"rest.py"}
    assert _callers(package, "delete") == {("marks.py", "_remove")}
    assert _callers(package, "_remove") == {("marks.py", "remove_bookmark"), ("marks.py", "unlock")}


def _texts(source: Path) -> Iterator[str]:
    """Every literal text of a module but its docstrings."""
    tree = ast.parse(source.read_text())
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


def _callers(package: Path, method: str) -> set[tuple[str, str]]:
    """File and function of each call of a method of this name."""
    return {
        (source.name, function.name)
        for source in package.rglob("*.py")
        for function in ast.walk(ast.parse(source.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == method
    }
