"""XProtect's REST: every published form is understood, and nothing that a server sends can do harm."""

import asyncio
import gzip
from typing import Any

import pytest

from cctv_storaged.backends.milestone import rest
from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.refusals import Forbidden, NotThere, Refused
from cctv_storaged.backends.milestone.rest import path_of
from cctv_storaged.errors import BackendError, BackendThrottled, BackendUnavailable
from tests.unit.milestone.scripted import PASSWORD, Reply, client, scripted

THINGS = "GET /api/rest/v1/things"
THING = "GET /api/rest/v1/things/1"
POST_THING = "POST /api/rest/v1/things/1"


# -- what is understood


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"id": "1"}},
        {"result": {"id": "1"}},
        {"id": "1"},
        {"Data": {"ID": "1"}},
        {"data": {"id": 1, "data": {"id": "inner"}}},
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
async def test_an_object_is_found_in_every_envelope(body: object, status: int) -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply(body, status))
        server.say(POST_THING, Reply(body, status))
        assert (await ours.rest.one("things/1")).text("id") == "1"
        assert (await ours.rest.post("things/1", {}, "Do")).text("id") == "1"
    assert server.of(POST_THING)[0].query == "task=Do"


@pytest.mark.parametrize(
    "wrap", [lambda a: {"array": a}, lambda a: {"data": a}, lambda a: {"result": a}, list]
)
async def test_a_collection_is_found_in_every_envelope(wrap: Any) -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THINGS, Reply(wrap([{"id": "1"}, {"id": "2"}])), Reply(wrap([])))
        assert [each.text("id") for each in await ours.rest.collection("things")] == ["1", "2"]


async def test_a_collection_that_goes_on_without_end_is_not_taken_for_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rest, "PAGES_MAX", 3)
    async with scripted() as server, client(server) as ours:
        pages = [Reply({"array": [{"id": str(number)}]}) for number in range(4)]
        server.say(THINGS, *pages)
        with pytest.raises(Unreadable, match="more than 3 pages"):
            await ours.rest.collection("things")
        server.say(THINGS, *pages[:2], Reply({"array": []}))
        assert len(await ours.rest.collection("things")) == 2


@pytest.mark.parametrize(
    "pages",
    [
        [["1", "2", "3"], []],
        [["1", "2"], ["3"], []],  # shorter pages than were asked for
        [["1", "2", "3"], ["1", "2", "3"]],  # paging is ignored
        [["1", "2"], ["2", "3"], ["3"]],  # something was added before, while it was read
        [["1", "2", "3"], None],  # no page behind the last one
    ],
)
async def test_each_object_of_a_collection_is_had_once_however_it_is_paged(
    pages: list[list[str] | None],
) -> None:
    async with scripted() as server, client(server) as ours:
        replies = [
            Reply({"array": [{"id": i} for i in page]}) if page is not None else _NO_PAGE for page in pages
        ]
        server.say(THINGS, *replies)
        found = await ours.rest.collection("things", "disabled")
        assert [each.text("id") for each in found] == ["1", "2", "3"]
        asked = [asked.query for asked in server.of(THINGS)]
    assert asked == [f"disabled&page={number}&size=200" for number in range(len(pages))]


_NO_PAGE = Reply({"httpCode": 404, "details": []}, 404)


async def test_a_collection_without_an_end_is_given_up() -> None:
    async with scripted() as server, client(server) as ours:
        count = iter(range(10**9))
        server.say(THINGS, lambda _: Reply({"array": [{"id": next(count)} for _ in range(2000)]}))
        with pytest.raises(BackendUnavailable, match="more than"):
            await ours.rest.collection("things")


ERROR = {"details": [{"errorText": "no such colour", "property": "colour", "errorTextId": "x"}]}


@pytest.mark.parametrize("code", [400, "400"])
@pytest.mark.parametrize("wrapped", [True, False])
async def test_both_shapes_of_an_error_say_the_same(code: object, wrapped: bool) -> None:
    error = {"httpCode": code, **ERROR}
    body = {"error": error, "params": {"size": "?"}} if wrapped else {**error, "params": {"size": "?"}}
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply(body, 400))
        with pytest.raises(Refused, match="no such colour") as caught:
            await ours.rest.one("things/1")
    assert caught.value.refusal.names == ("colour", "size")


async def test_an_error_in_a_good_answer_is_an_error() -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply({"error": {"httpCode": "404", "details": []}}))
        with pytest.raises(NotThere):
            await ours.rest.one("things/1")


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (Reply(b"", 400), Refused, None),
        (Reply(b"", 409), Refused, None),
        (Reply(b"", 422), Refused, None),
        (Reply(b"", 403), Forbidden, "auth"),
        (Reply(b"", 404), NotThere, None),
        (Reply({"httpCode": 404}, 404), NotThere, None),
        (Reply(b"<html>IIS</html>", 404), BackendUnavailable, "server"),  # nobody said that the thing is gone
        (Reply(b"", 408), BackendUnavailable, "network"),
        (Reply(b"", 429, {"Retry-After": "3"}), BackendThrottled, "throttled"),
        (Reply(b"", 500), BackendUnavailable, "server"),
        (Reply(b"<html>", 502), BackendUnavailable, "server"),
        (Reply(b"<html>", 503), BackendUnavailable, "server"),
        (Reply(b"", 504), BackendUnavailable, "server"),
    ],
)
async def test_each_status_means_what_the_caller_can_do(
    reply: Reply, kind: type[BackendError], reason: str | None
) -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THING, reply)
        with pytest.raises(BackendError) as caught:
            await ours.rest.one("things/1")
        assert type(caught.value) is kind
        assert getattr(caught.value, "reason", None) == reason
        assert len(server.of(THING)) == 1  # nothing is tried twice here


# -- the token


async def test_a_token_that_is_refused_once_is_renewed_and_the_request_repeated() -> None:
    async with scripted() as server, client(server) as ours:
        server.say(POST_THING, Reply(b"", 401), Reply({"result": {"id": "1"}}))
        assert (await ours.rest.post("things/1", {"a": 1})).text("id") == "1"
        asked = server.of(POST_THING)
    assert [each.token for each in asked] == ["token-1", "token-2"]
    assert [each.json for each in asked] == [{"a": 1}, {"a": 1}]


async def test_a_token_that_is_refused_twice_is_told_and_not_asked_for_again() -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply(b"", 401))
        with pytest.raises(BackendUnavailable) as caught:
            await ours.rest.one("things/1")
        assert caught.value.reason == "auth"
        assert len(server.of(THING)) == 2
    assert server.logins == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed_and_no_token_taken_along(status: int) -> None:
    async with scripted() as other, scripted() as server, client(server) as ours:
        server.say(THING, Reply(b"", status, {"Location": f"{other.url}/api/rest/v1/things/1"}))
        with pytest.raises(BackendUnavailable, match="sends elsewhere"):
            await ours.rest.one("things/1")
    assert not other.asked


async def test_what_a_server_repeats_of_our_secrets_is_starred(caplog: pytest.LogCaptureFixture) -> None:
    text = f"not for token-1 of {PASSWORD}, \r\n\x1b[31m" + "x" * 5000
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply({"httpCode": 400, "details": [{"errorText": text, "property": text}]}, 400))
        with caplog.at_level("DEBUG"), pytest.raises(Refused) as caught:
            await ours.rest.one("things/1")
        told = str(caught.value)
    assert "token-1" not in told + caplog.text
    assert PASSWORD not in told + caplog.text
    assert told.isprintable()
    assert len(told) < 500


def test_a_step_of_a_path_stays_one_step() -> None:
    assert path_of("tasks", "../x?y=1#z") == "tasks/..%2Fx%3Fy%3D1%23z"


async def test_nothing_is_sent_without_tls_unless_that_is_allowed() -> None:
    async with scripted() as server, client(server, allow_plain_http=False) as ours:
        with pytest.raises(BackendUnavailable, match=r"has no TLS.*milestone\.allow_plain_http"):
            await ours.rest.one("things/1")
    assert not server.asked


# -- hostile answers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>200</html>",
        b"{",
        b'{"array": ',
        b"[" * 200_000,
        b'{"data": NaN}',
        b'{"data": {"id": %s}}' % (b"9" * 5000),
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b'"text"',
        b"17",
        b"[1, 2]",
        b'{"array": 17}',
        b'{"array": ["text"]}',
        b'{"array": [{"id": {"id": 1}}]}',
        b'{"array": [{"id": "%s"}]}' % (b"x" * 100_000),
    ],
)
async def test_an_answer_that_is_not_what_it_should_be_is_a_fault_of_the_server(body: bytes) -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THINGS, Reply(body))
        with pytest.raises(BackendUnavailable) as caught:
            await ours.rest.collection("things")
    assert caught.value.reason == "server"
    assert len(str(caught.value)) < 1000


async def test_an_endless_answer_is_cut_off() -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply(b" " * 65536, endless=True))
        with pytest.raises(BackendUnavailable, match="more than 4194304 bytes"):
            await ours.rest.one("things/1")
        server.say(THING, Reply({"id": "1"}))
        assert (await ours.rest.one("things/1")).text("id") == "1"


async def test_an_answer_one_byte_over_the_limit_is_none() -> None:
    most = 4 * 1024 * 1024
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply(b"{}".ljust(most)), Reply(b"{}".ljust(most + 1)))
        await ours.rest.one("things/1")
        with pytest.raises(BackendUnavailable, match="more than"):
            await ours.rest.one("things/1")


async def test_a_packed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 50_000_000, 9)
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply(bomb, headers={"Content-Encoding": "gzip"}))
        with pytest.raises(BackendUnavailable, match="packs its answers"):
            await ours.rest.one("things/1")
        assert server.of(THING)[0].headers["Accept-Encoding"] == "identity"


async def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_the_settings_say() -> None:
    never = asyncio.Event()
    async with scripted() as server, client(server, request_s=0.3) as ours:  # the log-in has no longer either
        server.say(THING, Reply(b"", wait=never))
        with pytest.raises(BackendUnavailable, match="in time") as caught:
            await ours.rest.one("things/1")
        never.set()
    assert caught.value.reason == "network"


async def test_what_speaks_no_http_is_told_so() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with scripted() as server:
        other = await asyncio.start_server(babble, "127.0.0.1", 0)
        url, server.url = server.url, f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}"
        async with other, client(server) as ours:
            with pytest.raises(BackendUnavailable) as caught:
                await ours.rest.one("things/1")
        server.url = url
    assert caught.value.reason == "server"


async def test_the_servers_clock_is_read_from_its_answers() -> None:
    async with scripted() as server, client(server) as ours:
        server.say(THING, Reply({"id": "1"}, headers={"Date": "Sun, 22 Nov 2020 09:00:00 GMT"}))
        await ours.rest.one("things/1")
        skew = ours.rest.clock_skew
        server.say(THING, Reply({"id": "1"}, headers={"Date": "yesterday"}))
        await ours.rest.one("things/1")
        assert ours.rest.clock_skew is None
    assert skew is not None
    assert skew.days < -365
