"""The log-in at XProtect: shared, renewed in time, and never tried again with a password that was refused."""

import asyncio
from datetime import UTC, datetime

import pytest

from cctv_storaged.backends.milestone.identity import REFUSED_MOST_S, REFUSED_S
from cctv_storaged.errors import BackendThrottled, BackendUnavailable
from tests.unit.milestone.scripted import (
    DIRECT_TOKEN,
    GATEWAY_TOKEN,
    PASSWORD,
    USER,
    Reply,
    Scripted,
    client,
    scripted,
)

GATEWAY = f"POST {GATEWAY_TOKEN}"
DIRECT = f"POST {DIRECT_TOKEN}"
REFUSED = Reply({"error": "invalid_grant", "error_description": f"wrong: {PASSWORD}"}, 400)


class SetClock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, 9, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.at


async def test_the_form_carries_every_character_of_the_password() -> None:
    async with scripted() as server, client(server) as ours:
        assert (await ours.identity()).value == "token-1"
    form = server.of(GATEWAY)[0].form
    assert form == {
        "grant_type": "password",
        "username": USER,
        "password": PASSWORD,
        "client_id": "GrantValidatorClient",
    }


@pytest.mark.parametrize(("expires_in", "good_s"), [(3600, 3540), ("3600", 3540), (90, 45), (120.0, 60)])
async def test_a_token_is_renewed_a_minute_before_its_end_or_at_half_time(
    expires_in: object, good_s: float
) -> None:
    clock = SetClock()
    async with scripted() as server, client(server, clock) as ours:
        server.say(GATEWAY, *(Reply({"access_token": f"t{n}", "expires_in": expires_in}) for n in (1, 2)))
        first = await ours.identity()
        clock.at += good_s - 0.001
        assert await ours.identity() == first
        clock.at += 0.001
        assert (await ours.identity()).value == "t2"


async def test_all_who_wait_share_one_log_in() -> None:
    async with scripted() as server, client(server) as ours:
        tokens = await asyncio.gather(*(ours.identity() for _ in range(20)))
        assert {token.value for token in tokens} == {"token-1"}
        renewed = await asyncio.gather(*(ours.identity(refused="token-1") for _ in range(20)))
        assert {token.value for token in renewed} == {"token-2"}
        late = await ours.identity(refused="token-1")  # was renewed by the others meanwhile
        assert late.value == "token-2"
    assert server.logins == 2


async def test_a_caller_that_gives_up_does_not_take_the_log_in_from_the_others() -> None:
    async with scripted() as server, client(server) as ours:
        go_on = asyncio.Event()
        server.say(GATEWAY, Reply({"access_token": "late", "expires_in": 60}, wait=go_on))
        first, second = asyncio.ensure_future(ours.identity()), asyncio.ensure_future(ours.identity())
        await _until_asked(server, GATEWAY)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        assert (await second).value == "late"
    assert len(server.of(GATEWAY)) == 1


@pytest.mark.parametrize("status", [400, 401])
async def test_a_refused_password_is_tried_once_for_all_who_wait_and_is_not_repeated(status: int) -> None:
    async with scripted() as server, client(server) as ours:
        server.say(GATEWAY, Reply(REFUSED.body, status))
        found = await asyncio.gather(*(ours.identity() for _ in range(5)), return_exceptions=True)
        assert len(server.of(GATEWAY)) == 1
        assert not server.of(DIRECT)  # a second try counts towards the account's lock
    for each in found:
        assert isinstance(each, BackendUnavailable)
        assert each.reason == "auth"
        assert USER in str(each)
        assert "invalid_grant" in str(each)
        assert PASSWORD not in str(each)


async def test_a_refused_password_is_left_alone_for_a_while() -> None:
    clock = SetClock()
    async with scripted() as server, client(server, clock) as ours:
        server.say(GATEWAY, REFUSED, server.token)
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match="invalid_grant"):
                await ours.identity()
        assert len(server.of(GATEWAY)) == 1
        clock.at += REFUSED_S
        assert (await ours.identity()).value == "token-1"


async def test_a_password_that_stays_refused_is_tried_ever_more_seldom() -> None:
    """An account is locked by tries, and a password that is wrong stays so for days."""
    clock = SetClock()
    async with scripted() as server, client(server, clock) as ours:
        server.say(GATEWAY, REFUSED)
        tried_at: list[float] = []
        for second in range(7200):
            clock.at = 1000.0 + second
            with pytest.raises(BackendUnavailable, match="invalid_grant"):
                await ours.identity()
            if len(server.of(GATEWAY)) > len(tried_at):
                tried_at.append(second)
        assert tried_at[:5] == [0, 10, 30, 70, 150]
        assert tried_at[-1] - tried_at[-2] == REFUSED_MOST_S
        server.say(GATEWAY, server.token, REFUSED)
        clock.at += REFUSED_MOST_S
        await ours.identity()
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await ours.identity(refused="token-1")
        count = len(server.of(GATEWAY))
        clock.at += REFUSED_S
        with pytest.raises(BackendUnavailable):
            await ours.identity(refused="token-1")
        assert len(server.of(GATEWAY)) == count + 1, "from the beginning, after one that was good"


async def test_a_wrong_client_id_is_told_as_that() -> None:
    async with scripted() as server, client(server, client_id="Nobody") as ours:
        server.say(GATEWAY, Reply({"error": "invalid_client"}, 400))
        with pytest.raises(BackendUnavailable, match=r"Nobody.*milestone\.client_id"):
            await ours.identity()


@pytest.mark.parametrize(
    "away", [Reply(b"<html>", 404), Reply(b"", 405), Reply(b"<html>", 502), Reply(b"", 503)]
)
async def test_where_the_gateway_gives_no_tokens_the_identity_provider_is_asked_itself(away: Reply) -> None:
    async with scripted() as server, client(server) as ours:
        server.say(GATEWAY, away)
        assert (await ours.identity()).value == "token-1"
        assert (await ours.identity(refused="token-1")).value == "token-2"
        assert len(server.of(GATEWAY)) == 1  # the one that gave a token is asked first from then on


async def test_the_gateway_is_asked_again_when_the_identity_provider_goes() -> None:
    async with scripted() as server, client(server) as ours:
        server.say(GATEWAY, Reply(b"", 503), server.token)
        await ours.identity()
        server.say(DIRECT, Reply(b"", 503))
        assert (await ours.identity(refused="token-1")).value == "token-2"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply({"expires_in": 3600}), "server"),
        (Reply({"access_token": "a b", "expires_in": 3600}), "server"),
        (Reply({"access_token": "a\r\nHost: other", "expires_in": 3600}), "server"),
        (Reply({"access_token": "ключ", "expires_in": 3600}), "server"),
        (Reply({"access_token": "x" * 20_000, "expires_in": 3600}), "server"),
        (Reply({"access_token": ["x"], "expires_in": 3600}), "server"),
        (Reply({"access_token": "x", "expires_in": "soon"}), "server"),
        (Reply({"access_token": "x", "expires_in": 1e300}), "server"),
        (Reply([1, 2, 3]), "server"),
        (Reply(b"<html>welcome</html>"), "server"),
        (Reply(b"<html>Bad Request</html>", 400), "server"),
        (Reply(b"", 500), "server"),
        (Reply(b"x" * 70_000), "server"),
    ],
)
async def test_an_answer_without_a_usable_token_is_a_fault_of_the_server(reply: Reply, reason: str) -> None:
    async with scripted() as server, client(server) as ours:
        server.say(GATEWAY, reply)
        server.say(DIRECT, Reply(b"", 404))
        with pytest.raises(BackendUnavailable) as caught:
            await ours.identity()
        assert caught.value.reason == reason


async def test_an_identity_provider_that_asks_for_patience_is_heard() -> None:
    async with scripted() as server, client(server) as ours:
        server.say(GATEWAY, Reply(b"", 429, {"Retry-After": "7"}))
        with pytest.raises(BackendThrottled) as caught:
            await ours.identity()
        assert caught.value.retry_after_s == 7
        assert not server.of(DIRECT)


async def test_a_lifetime_that_is_not_told_is_taken_as_short() -> None:
    clock = SetClock()
    async with scripted() as server, client(server, clock) as ours:
        server.say(GATEWAY, Reply({"access_token": "x"}))
        assert (await ours.identity()).good_until <= clock.at + 300


async def _until_asked(server: Scripted, line: str) -> None:
    async with asyncio.timeout(30):
        while not server.of(line):
            await asyncio.sleep(0.005)
