"""Who is let in: tokens, scopes, loopback without tokens, and browsers that ask for foreign pages."""

import asyncio
import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from cctv_storaged.access import ADMIN_FILE, ASK_FILE, Scope
from cctv_storaged.api import auth
from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.routing import Route
from tests.integration.api.harness import API, Host, Reply, running

PROBES = ("/health", "/ready", "/metrics")


async def with_token(host: Host, *scopes: str) -> str:
    made = await host.parts.foundation.journal.tokens.all()
    if not made and "admin" not in scopes:  # the first must be able to make the others
        before, host.token = host.token, await with_token(host, "admin")
        try:
            return await with_token(host, *scopes)
        finally:
            host.token = before
    reply = await host.post("/tokens", {"name": f"test {len(made)}", "scopes": list(scopes)})
    assert reply.status == 201, reply
    return str(reply.json["secret"])


async def opened(host: Host) -> str:
    """An admin token, used by the host's client from now on."""
    host.token = await with_token(host, "admin")
    return host.token


async def raw(host: Host, text: str) -> bytes:
    """What comes back for exactly these bytes, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", host.parts.api.port)
    writer.write(text.encode("latin-1"))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


async def asked(host: Host, route: Route, token: str | None) -> Reply:
    path = route.path.removeprefix(API).replace("{camera_id}", str(uuid4()))
    path = re.sub(r"\{\w+_id\}", str(uuid4()), path)
    host.token = token
    return await host.request(route.method, path, json={} if route.body else None)


# Tokens and scopes


async def test_without_any_token_loopback_is_open(host: Host) -> None:
    assert (await host.get("/cameras")).status == 200
    assert (await host.get("/tokens")).json == {"tokens": []}


async def test_the_first_token_closes_the_door(host: Host) -> None:
    await with_token(host, "read")
    reply = await host.get("/cameras")
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="cctv-storaged"'
    assert reply.json["type"] == "urn:cctv-storaged:problem:unauthorized"


@pytest.mark.parametrize("scope", [each for each in Scope if each is not Scope.ADMIN])
async def test_a_token_opens_its_scope_and_nothing_else(host: Host, scope: Scope) -> None:
    admin = await opened(host)
    token = await with_token(host, scope)
    for route in ROUTES:
        if route.scope is None or route.name == "events":
            continue
        without, reply = await asked(host, route, None), await asked(host, route, token)
        assert without.status == 401, route.name
        if route.scope is scope:
            assert reply.status not in (401, 403), route.name
        else:
            assert reply.status == 403, route.name
            assert f'scope="{route.scope}"' in reply.headers["WWW-Authenticate"]
        assert (await asked(host, route, admin)).status not in (401, 403), route.name


async def test_every_route_says_whom_it_lets_in() -> None:
    open_to_all = {route.path for route in ROUTES if route.scope is None}
    assert open_to_all == {"/health", "/ready", "/metrics", "/openapi.json"}
    for route in ROUTES:
        if route.scope is Scope.READ and not route.path.endswith("/retention/preview"):
            assert route.method in ("GET", "HEAD")
        if route.method in ("POST", "DELETE") and route.path.endswith("/retention/preview"):
            assert route.scope is Scope.READ  # asks what would be, with a body
        elif route.method in ("POST", "DELETE"):
            wanted = (Scope.EXPORT,) if "/exports" in route.path else (Scope.WRITE, Scope.ADMIN)
            if "/holds" in route.path:
                wanted = (Scope.RELEASE,) if route.method == "DELETE" else (Scope.HOLD,)
            assert route.scope in wanted


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer wrong",
        "Bearer a b",
        "Bearer " + "x" * 4000,
        "Token x",
    ],
)
async def test_a_wrong_authorization_is_refused(host: Host, header: str) -> None:
    await opened(host)
    reply = await host.request("GET", "/cameras", headers={"Authorization": header})
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


async def test_two_authorizations_are_refused(host: Host) -> None:
    token = await opened(host)
    answer = await raw(
        host,
        f"GET {API}/cameras HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_the_schemes_name_may_be_written_in_any_case(host: Host) -> None:
    token = await opened(host)
    reply = await host.request("GET", "/cameras", headers={"Authorization": f"bEARER {token}"})
    assert reply.status == 200


async def test_a_secret_is_told_once_and_kept_nowhere(host: Host) -> None:
    secret = await opened(host)
    listed = await host.get("/tokens")
    told = {"id", "name", "scopes", "cameras", "created_at", "expires_at", "last_used_at", "last_used_from"}
    assert [set(token) for token in listed.json["tokens"]] == [told]
    assert secret not in listed.body.decode()
    files = [path for path in (host.folder / "data").rglob("*") if path.is_file()]
    assert files
    assert not any(secret.encode() in path.read_bytes() for path in files)


async def test_a_revoked_token_opens_nothing_at_once(host: Host) -> None:
    await opened(host)
    made = await host.post("/tokens", {"name": "gate keeper", "scopes": ["read"]})
    header = {"Authorization": f"Bearer {made.json['secret']}"}
    assert (await host.request("GET", "/cameras", headers=header)).status == 200
    assert (await host.delete(f"/tokens/{made.json['id']}")).status == 204
    assert (await host.request("GET", "/cameras", headers=header)).status == 401
    assert (await host.delete(f"/tokens/{made.json['id']}")).status == 404


async def test_the_same_key_makes_one_token_and_tells_its_secret_once(host: Host) -> None:
    await opened(host)
    body = {"name": "twice", "scopes": ["read", "write"]}
    replies = await asyncio.gather(
        *(host.post("/tokens", body, **{"Idempotency-Key": "t"}) for _ in range(5))
    )
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 200, 201]
    assert len({reply.json["id"] for reply in replies}) == 1
    assert [reply.json["secret"] is None for reply in sorted(replies, key=lambda r: r.status)] == [
        True
    ] * 4 + [False]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["read"]}, "name"),
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "a\nb", "scopes": ["read"]}, "name"),
        ({"name": "x" * 101, "scopes": ["read"]}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes.0"),
        ({"name": "x", "scopes": "read"}, "scopes"),
        ({"name": "x", "scopes": ["read"] * 9}, "scopes"),
    ],
)
async def test_a_token_that_cannot_be_is_refused(host: Host, body: dict[str, Any], field: str) -> None:
    reply = await host.post("/tokens", body)
    assert (reply.status, reply.fields) == (422, {field})
    assert (await host.get("/tokens")).json == {"tokens": []}


# Addresses


async def test_nobody_is_locked_out_by_the_first_token_or_the_last(host: Host) -> None:
    """Without any token with admin left, only the disk's owner could ever make another one."""
    refused = await host.post("/tokens", {"name": "viewer", "scopes": ["read"]})
    assert refused.status == 409
    assert "admin" in refused.json["detail"]
    assert (await host.get("/cameras")).status == 200, "the door is as open as before"
    first = await host.post("/tokens", {"name": "first", "scopes": ["admin"]})
    host.token = str(first.json["secret"])
    path = f"/tokens/{first.json['id']}"
    assert (await host.request("DELETE", path)).status == 409
    assert (await host.post("/tokens", {"name": "second", "scopes": ["admin"]})).status == 201
    assert (await host.request("DELETE", path)).status == 204


async def test_another_address_is_closed_from_the_start(tmp_path: Path) -> None:
    async with running(tmp_path, {"api": {"host": "0.0.0.0"}}) as host:
        session = host.session
        url = f"http://127.0.0.1:{host.parts.api.port}"
        async with session.get(url + API + "/cameras") as response:
            assert response.status == 401
        token = (tmp_path / "data" / ADMIN_FILE).read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Host": "nvr-01.example"}
        async with session.get(url + API + "/tokens", headers=headers) as response:
            assert response.status == 200
            assert [token["scopes"] for token in (await response.json())["tokens"]] == [["admin"]]
            revoke = (await response.json())["tokens"][0]["id"]
        async with session.delete(f"{url}{API}/tokens/{revoke}", headers=headers) as response:
            assert response.status == 409, "the last token with admin stays"
        await host.parts.foundation.journal.tokens.revoke(UUID(revoke))
        async with session.get(url + API + "/cameras") as response:
            assert response.status == 401  # no token at all is no open door here


async def test_an_admin_token_that_could_not_be_written_locks_nobody_out(tmp_path: Path) -> None:
    """Its hash in the journal without the file would be a door whose key nobody has."""
    reachable = {"api": {"host": "0.0.0.0"}}
    in_the_way = tmp_path / "data" / ADMIN_FILE
    in_the_way.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        async with running(tmp_path, reachable):
            pass
    in_the_way.rmdir()
    async with running(tmp_path, reachable) as host:
        assert in_the_way.stat().st_mode & 0o777 == 0o600
        headers = {"Authorization": f"Bearer {in_the_way.read_text().strip()}"}
        url = f"http://127.0.0.1:{host.parts.api.port}{API}/tokens"
        async with host.session.get(url, headers=headers) as response:
            assert response.status == 200


async def test_whoever_owns_the_data_dir_gets_another_admin_token_by_a_restart(tmp_path: Path) -> None:
    """The admin token was lost: without this, nobody could administer the host again."""
    async with running(tmp_path) as host:
        await opened(host)
        assert not (tmp_path / "data" / ADMIN_FILE).exists()
    (tmp_path / "data" / ASK_FILE).touch()
    async with running(tmp_path) as host:
        host.token = (tmp_path / "data" / ADMIN_FILE).read_text().strip()
        assert not (tmp_path / "data" / ASK_FILE).exists()
        listed = (await host.get("/tokens")).json["tokens"]
        assert [token["scopes"] for token in listed] == [["admin"], ["admin"]]
        assert (await host.request("DELETE", f"/tokens/{listed[0]['id']}")).status == 204
    async with running(tmp_path) as host:
        assert len(await host.parts.foundation.journal.tokens.all()) == 1, "once asked for is once made"


@pytest.mark.parametrize(("address", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
async def test_tokens_that_travel_in_the_clear_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, address: str, warned: bool
) -> None:
    async with running(tmp_path, {"api": {"host": address}}):
        said = [line for line in caplog.messages if "tokens travel in the clear" in line]
    assert bool(said) is warned


async def test_auth_none_asks_for_no_token_even_where_there_is_one(tmp_path: Path) -> None:
    async with running(tmp_path, {"api": {"auth": "none"}}) as host:
        await with_token(host, "read")
        assert (await host.get("/tokens")).status == 200


@pytest.mark.parametrize(("protect", "status"), [(False, 200), (True, 401)])
async def test_probes_need_a_token_only_where_they_are_protected(
    tmp_path: Path, protect: bool, status: int
) -> None:
    async with running(tmp_path, {"api": {"protect_metrics": protect}}) as host:
        token = await with_token(host, "read")
        for probe in PROBES:
            reply = await host.get(probe)
            assert (reply.status == 401) == (status == 401)
            host.token = token
            assert (await host.get(probe)).status in (200, 503)
            host.token = None


async def test_probes_that_name_cameras_need_a_token_once_one_is_limited_to_cameras(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From elsewhere: this machine's own scraper needs none."""
    admin = await opened(host)
    segment = await host.registered()
    named, neutral = ("/metrics", "/ready"), ("/health", "/openapi.json")

    async def refused(elsewhere: bool) -> set[str]:
        host.token = None
        with monkeypatch.context() as patched:
            patched.setattr(auth, "is_local", lambda address: not elsewhere)
            return {probe for probe in (*named, *neutral) if (await host.get(probe)).status == 401}

    assert await refused(elsewhere=True) == set()
    host.token = admin
    limited = {"name": "limited", "scopes": ["read"], "cameras": [segment["camera_id"]]}
    made = (await host.post("/tokens", limited)).json
    assert await refused(elsewhere=True) == set(named)
    assert await refused(elsewhere=False) == set()
    with monkeypatch.context() as patched:
        patched.setattr(auth, "is_local", lambda address: False)
        host.token = made["secret"]
        assert {(await host.get(probe)).status for probe in named} == {403}
        host.token = admin
        assert {(await host.get(probe)).status for probe in named} <= {200, 503}
    await host.delete(f"/tokens/{made['id']}")
    assert await refused(elsewhere=True) == set()


# Browsers


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8082", "127.0.0.1.evil.example", "192.168.1.5", "[fe80::1]"]
)
async def test_an_open_api_answers_to_this_machines_names_only(host: Host, name: str) -> None:
    for path in (f"{API}/cameras", "/health", "/metrics", "/nowhere"):
        answer = await raw(host, f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 421 "), path
        assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:1", "localhost.", "127.9.9.9:80", "[::1]:8082", "nvr.localhost"]
)
async def test_this_machines_names_are_known(host: Host, name: str) -> None:
    answer = await raw(host, f"GET {API}/cameras HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "header",
    ["", "Host: a\r\nHost: b\r\n", "Host: \r\n", "Host: a b\r\n", "Host: user@x\r\n", "Host: x/y\r\n"],
)
async def test_a_host_header_that_is_none_is_refused(host: Host, header: str) -> None:
    answer = await raw(host, f"GET {API}/cameras HTTP/1.1\r\n{header}Connection: close\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]  # aiohttp refuses some of them by itself, as HTTP/1.0
    assert b"application/problem+json" in answer


async def test_an_old_client_without_host_is_answered(host: Host) -> None:
    assert b" 200 " in (await raw(host, "GET /health HTTP/1.0\r\n\r\n")).splitlines()[0]


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "x"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost:1"}, False),
        ({"Origin": "http://{host}"}, True),
        ({"Origin": "https://{host}"}, True),
        ({"Origin": "http://{host}", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
async def test_changes_are_not_taken_from_foreign_pages(
    host: Host, headers: dict[str, str], taken: bool
) -> None:
    own = f"127.0.0.1:{host.parts.api.port}"
    sent = {name: value.format(host=own) for name, value in headers.items()}
    reply = await host.post("/queue/retry", {}, **sent)
    assert reply.status == (200 if taken else 403)
    if "Sec-Fetch-Site" in headers or "Origin" in headers:
        assert (await host.request("GET", "/cameras", headers=sent)).status == 200  # reading changes nothing


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_a_form_cannot_post(host: Host, kind: str) -> None:
    """What a page may send without asking first (a CORS "simple request") is no JSON."""
    reply = await host.request("POST", "/queue/retry", data=b"{}", headers={"Content-Type": kind})
    assert reply.status == 415


async def test_no_answer_invites_other_origins(host: Host) -> None:
    async with host.session.options(
        f"{host.url}{API}/queue/retry",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    ) as response:
        assert response.status == 405
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_a_page_elsewhere_with_a_token_still_needs_the_token(host: Host) -> None:
    token = await opened(host)
    async with aiohttp.ClientSession() as session:
        url = f"http://localhost:{host.parts.api.port}{API}/cameras"
        async with session.get(
            url, headers={"Host": "nvr.example", "Authorization": f"Bearer {token}"}
        ) as response:
            assert response.status == 200
