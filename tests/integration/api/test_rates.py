"""Rates: a client that asks without end, or guesses tokens, is put off; nobody else is, and no probe."""

import asyncio
from pathlib import Path

import pytest

from cctv_storaged.addresses import client_of, is_local
from cctv_storaged.api.problems import Refusal
from cctv_storaged.api.rates import MOST_CLIENTS, Rate
from cctv_storaged.config.settings import Api
from tests.integration.api.harness import Host, running


class Seconds:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def refusal(rate: Rate, client: str) -> str:
    with pytest.raises(Refusal) as caught:
        rate.take(client, "requests")
    return caught.value.problem.headers["Retry-After"]


def test_a_burst_is_let_through_and_then_as_much_as_the_rate_says() -> None:
    clock = Seconds()
    rate = Rate(60, clock)
    for _ in range(60):
        rate.take("one", "requests")
    assert refusal(rate, "one") == "1"
    rate.take("other", "requests")
    clock.at += 1
    rate.take("one", "requests")
    assert refusal(rate, "one") == "1"
    clock.at += 3600
    for _ in range(60):
        rate.take("one", "requests")
    assert refusal(rate, "one") == "1", "an hour's silence saves up a minute's worth, and no more"


def test_who_waits_as_long_as_told_is_let_through() -> None:
    clock = Seconds()
    rate = Rate(2, clock)
    rate.take("one", "requests")
    rate.take("one", "requests")
    clock.at += float(refusal(rate, "one"))
    rate.take("one", "requests")


def test_as_many_clients_as_an_attacker_likes_take_no_more_memory() -> None:
    rate = Rate(60, Seconds())
    for number in range(MOST_CLIENTS + 100):
        rate.take(str(number), "requests")
    assert len(rate._buckets) == MOST_CLIENTS


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
    ],
)
def test_a_network_of_one_customer_is_one_client(address: str | None, client: str) -> None:
    assert client_of(address) == client


def test_this_machine_is_known_by_either_address() -> None:
    assert [is_local(each) for each in ("127.0.0.1", "::1", "192.0.2.7", None)] == [True, True, False, False]


def test_no_dashboard_and_no_player_meets_the_defaults() -> None:
    """Two hundred a second for as long as one likes: a hundred cameras' pictures twice a second."""
    assert Api().requests_per_minute / 60 >= 200


async def test_too_many_requests_are_told_when_to_come_again_and_probes_never(tmp_path: Path) -> None:
    async with running(tmp_path, {"api": {"requests_per_minute": 60}}) as host:
        replies = [await host.get("/clock") for _ in range(300)]
        refused = [reply for reply in replies if reply.status == 429]
        assert refused
        assert {reply.status for reply in replies} == {200, 429}
        assert all(int(reply.headers["Retry-After"]) >= 1 for reply in refused)
        assert refused[0].json["type"] == "urn:cctv-storaged:problem:too-many-requests"
        for probe in ("/health", "/ready", "/metrics"):
            assert (await host.get(probe)).status != 429
        lost = [(await host.get(f"/nothing/{number}")).status for number in range(100)]
        assert 429 in lost, "what is not there is no way round it"


async def test_each_token_has_a_rate_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path, {"api": {"requests_per_minute": 60}}) as host:
        admin = await host.post("/tokens", {"name": "admin", "scopes": ["admin"]})
        host.token = admin.json["secret"]
        other = await host.post("/tokens", {"name": "reader", "scopes": ["read"]})
        busy = [(await host.get("/clock")).status for _ in range(300)]
        assert 429 in busy
        host.token = other.json["secret"]
        assert (await host.get("/clock")).status == 200


async def test_guessing_tokens_is_put_off_and_who_has_one_is_let_in(tmp_path: Path) -> None:
    async with running(tmp_path, {"api": {"failed_logins_per_minute": 1}}) as host:
        admin = await host.post("/tokens", {"name": "admin", "scopes": ["admin"]})
        host.token = admin.json["secret"]
        fresh = (await host.post("/tokens", {"name": "fresh", "scopes": ["read"]})).json["secret"]
        wrong = [await with_token(host, f"wrong-{number}") for number in range(40)]
        assert wrong[0] == 401
        assert 429 in wrong
        assert (await host.get("/clock")).status == 200, "a neighbour behind the same address"
        await asyncio.gather(*(with_token(host, f"more-{number}") for number in range(20)))
        assert await with_token(host, fresh) == 200, "he keeps out no newcomer either"
        assert await with_token(host, "wrong again") == 429
        refusals = (await host.get("/audit", action="refused")).json["entries"]
        assert len(refusals) == 1, "a guesser does not fill the ledger"
        assert (refusals[0]["address"], refusals[0]["by"]) == ("127.0.0.1", None)


async def with_token(host: Host, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return (await host.request("GET", "/clock", headers=headers)).status
