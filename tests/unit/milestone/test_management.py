"""The recorder's token: one log-in for all who ask, renewed in time, and no longer believed than it lives."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aiohttp
import pytest

from cctv_storaged.backends.milestone.answers import Unreadable
from cctv_storaged.backends.milestone.management import NAMESPACE, BasicUser, Management
from cctv_storaged.backends.milestone.soap import ENVELOPE, SoapClient
from cctv_storaged.backends.milestone.tokens import Token
from cctv_storaged.backends.milestone.xmltree import Node, parse_xml
from cctv_storaged.errors import BackendUnavailable
from tests.unit.milestone.scripted import Asked, Reply, Scripted, scripted

OAUTH = "POST /ManagementServer/ServerCommandServiceOAuth.svc"
BASIC = "POST /ManagementServer/ServerCommandService.svc"
INSTANCE = UUID(int=7)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FOUR_HOURS_US = 14_400_000_000


class StillClock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.at_s - 1000)

    def monotonic(self) -> float:
        return self.at_s


@dataclass
class OAuth:
    """A source of OAuth tokens that live an hour, or as long as is said."""

    clock: StillClock
    life_s: float = 3600.0
    given: list[Token] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    async def __call__(self, refused: str | None = None) -> Token:
        if refused is not None:
            self.refused.append(refused)
        last = self.given[-1] if self.given else None
        if last is None or last.value == refused or last.good_until <= self.clock.at_s:
            self.given.append(Token(f"oauth-{len(self.given) + 1}", self.clock.at_s + self.life_s))
        return self.given[-1]


@dataclass
class Rig:
    server: Scripted
    clock: StillClock
    oauth: OAuth
    management: Management

    def logins(self, line: str = OAUTH) -> list[Node]:
        """Bodies of the log-ins that were asked for."""
        bodies = [parse_xml(asked.data, "it").child("Body", "Login") for asked in self.server.of(line)]
        return [body for body in bodies if body is not None]

    def current(self, line: str = OAUTH) -> list[str]:
        return [login.value("currentToken") for login in self.logins(line)]


def document(inner: str, method: str = "Login") -> bytes:
    result = f"<{method}Result>{inner}</{method}Result>"
    body = f'<{method}Response xmlns="{NAMESPACE}">{result}</{method}Response>'
    return f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body>{body}</s:Body></s:Envelope>'.encode()


def granted(
    token: str = "T", life_us: object = FOUR_HOURS_US, registered: str = "2026-11-20T12:00:00.0000000Z"
) -> Reply:
    return Reply(
        document(
            f"<RegistrationTime>{registered}</RegistrationTime>"
            f"<TimeToLive><MicroSeconds>{life_us}</MicroSeconds></TimeToLive>"
            f"<TimeToLiveLimited>false</TimeToLiveLimited><Token>{token}</Token>"
        )
    )


def counting() -> Callable[[Asked], Reply]:
    """A token of its own for every log-in."""
    count = 0

    def say(_: Asked) -> Reply:
        nonlocal count
        count += 1
        return granted(f"TOKEN#{count}#")

    return say


def refusal(text: str = "no", sub_number: int | None = None) -> Reply:
    detail = f"<detail><SubErrorNumber>{sub_number}</SubErrorNumber></detail>" if sub_number else ""
    fault = f"<s:Fault><faultcode>s:Client</faultcode><faultstring>{text}</faultstring>{detail}</s:Fault>"
    body = f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body>{fault}</s:Body></s:Envelope>'
    return Reply(body.encode(), status=500)


@asynccontextmanager
async def rig(basic: BasicUser | None = None) -> AsyncIterator[Rig]:
    async with scripted() as server, aiohttp.ClientSession() as session:
        clock = StillClock()
        oauth = OAuth(clock)
        server.say(OAUTH, counting())
        yield Rig(
            server=server,
            clock=clock,
            oauth=oauth,
            management=Management(
                SoapClient(session), server.url, oauth, basic=basic, instance_id=INSTANCE, clock=clock
            ),
        )


async def test_whoever_asks_at_the_same_time_shares_one_log_in() -> None:
    async with rig() as site:
        tokens = await asyncio.gather(*(site.management() for _ in range(20)))
        assert {token.value for token in tokens} == {"TOKEN#1#"}
        assert len(site.server.of(OAUTH)) == 1
        [login] = site.logins()
        assert login.namespace == NAMESPACE
        assert [(child.name, child.text) for child in login.children] == [
            ("instanceId", str(INSTANCE)),
            ("currentToken", ""),
        ]
        [asked] = site.server.of(OAUTH)
        assert asked.token == "oauth-1"
        assert asked.headers["SOAPAction"] == f'"{NAMESPACE}/IServerCommandService/Login"'
        assert asked.headers["Content-Type"] == "text/xml; charset=utf-8"


async def test_whoever_gives_up_waiting_ends_nobody_elses_log_in() -> None:
    async with rig() as site:
        wait = asyncio.Event()
        site.server.say(OAUTH, Reply(granted().body, wait=wait))
        first = asyncio.create_task(site.management())
        second = asyncio.create_task(site.management())
        while not site.server.asked:
            await asyncio.sleep(0)
        first.cancel()
        wait.set()
        assert (await second).value == "T"
        assert len(site.server.of(OAUTH)) == 1


LIVES = [(7200, 3600, 3570), (3600, 14_400, 3600), (9e9, 9e9, 86_370), (99, 20, 10)]


@pytest.mark.parametrize(("oauth_s", "corporate_s", "life_s"), LIVES)
async def test_a_token_is_good_for_the_shorter_life_less_half_a_minute(
    oauth_s: float, corporate_s: float, life_s: float
) -> None:
    """The OAuth token's end has its margin already; one that lives no minute is renewed at half time."""
    async with rig() as site:
        site.oauth.life_s = oauth_s
        site.server.say(OAUTH, granted(life_us=round(corporate_s * 1e6)))
        assert (await site.management()).good_until - site.clock.at_s == life_s


async def test_its_life_is_counted_from_before_it_was_asked_for() -> None:
    async with rig() as site:

        def slow(_: Asked) -> Reply:
            site.clock.at_s += 20
            return granted(life_us=600_000_000)

        site.server.say(OAUTH, slow)
        assert (await site.management()).good_until == site.clock.at_s - 20 + 570


async def test_it_is_renewed_with_the_old_one_and_the_same_instance() -> None:
    async with rig() as site:
        await site.management()
        site.clock.at_s += 3599
        assert (await site.management()).value == "TOKEN#1#"
        site.clock.at_s += 1
        assert (await site.management()).value == "TOKEN#2#"
        assert site.current() == ["", "TOKEN#1#"]
        assert {login.value("instanceId") for login in site.logins()} == {str(INSTANCE)}
        assert [asked.token for asked in site.server.of(OAUTH)] == ["oauth-1", "oauth-2"]


async def test_one_that_is_too_old_to_be_renewed_is_logged_in_anew() -> None:
    async with rig() as site:
        site.server.say(OAUTH, granted("A"), refusal(), granted("B"))
        await site.management()
        site.clock.at_s += 100_000
        assert (await site.management()).value == "B"
        assert site.current() == ["", "A", ""]


async def test_one_that_a_recorder_refused_is_not_used_again_nor_renewed() -> None:
    async with rig() as site:
        old = await site.management()
        fresh = await asyncio.gather(*(site.management(old.value) for _ in range(5)))
        assert {token.value for token in fresh} == {"TOKEN#2#"}
        assert (await site.management(old.value)).value == "TOKEN#2#"  # of whoever comes late
        assert site.current() == ["", ""]


@pytest.mark.parametrize("reply", [Reply(status=401), refusal("Token invalid", 2)])
async def test_an_oauth_token_that_is_refused_is_fetched_anew_once(reply: Reply) -> None:
    async with rig() as site:
        site.server.say(OAUTH, reply, granted())
        assert (await site.management()).value == "T"
        assert [asked.token for asked in site.server.of(OAUTH)] == ["oauth-1", "oauth-2"]
        assert site.oauth.refused == ["oauth-1"]
        site.server.say(OAUTH, reply)
        with pytest.raises(BackendUnavailable) as told:
            await site.management("T")
        assert told.value.reason == "auth"
        assert len(site.server.of(OAUTH)) == 4


async def test_a_log_in_that_is_refused_is_the_users_matter() -> None:
    async with rig() as site:
        site.server.say(OAUTH, refusal("The user has no right"))
        with pytest.raises(BackendUnavailable, match="no right") as told:
            await site.management()
        assert told.value.reason == "auth"


async def test_the_servers_clock_is_measured_by_the_time_of_the_log_in() -> None:
    async with rig() as site:
        assert site.management.clock_skew is None
        registered = "2026-11-20T12:03:00.0000000Z"
        site.server.say(OAUTH, granted(registered=registered))
        await site.management()
        assert site.management.clock_skew == timedelta(minutes=3)
        # A renewal that repeats when the log-in was says nothing of the clock now.
        site.clock.at_s += 3600
        await site.management()
        assert site.management.clock_skew == timedelta(minutes=3)
        site.clock.at_s += 3600
        site.server.say(OAUTH, granted(registered="2026-11-20T15:59:00.5+02:00"))
        await site.management()
        assert site.management.clock_skew == timedelta(seconds=-59.5)


BASIC_USER = BasicUser(username="storaged", password="pä:ss")


async def test_an_old_site_is_logged_in_to_by_http_basic() -> None:
    async with rig(BASIC_USER) as site:
        site.server.say(OAUTH, Reply(status=404))
        site.server.say(BASIC, counting())
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match="no log-in for recording servers"):
                await site.management()
            site.clock.at_s += 200
        token = await site.management()
        assert token.value == "TOKEN#1#"
        assert token.good_until == site.clock.at_s + 4 * 3600 - 30
        [asked] = site.server.of(BASIC)
        given = base64.b64decode(asked.headers["Authorization"].removeprefix("Basic "))
        assert given.decode() == "storaged:pä:ss"
        site.clock.at_s += 5 * 3600
        await site.management()
        assert len(site.server.of(OAUTH)) == 4
        assert site.current(BASIC) == ["", "TOKEN#1#"]


async def test_a_service_that_is_missing_for_a_while_is_shown_no_password() -> None:
    """A server that starts answers 404, and so does a gateway before it."""
    async with rig(BASIC_USER) as site:
        site.server.say(BASIC, counting())
        for seconds in (1.0, 1.0, 1.0, 1.0, 590.0):
            site.server.say(OAUTH, Reply(status=404))
            with pytest.raises(BackendUnavailable):
                await site.management()
            site.clock.at_s += seconds
        site.server.say(OAUTH, granted())
        token = await site.management()
        site.server.say(OAUTH, Reply(status=404))
        site.clock.at_s += 100_000
        with pytest.raises(BackendUnavailable):
            await site.management(token.value)
        assert not site.server.of(BASIC)


async def test_where_neither_variant_is_there_the_site_cannot_be_asked() -> None:
    for basic in (None, BASIC_USER):
        async with rig(basic) as site:
            site.server.say(OAUTH, Reply(status=404))
            with pytest.raises(BackendUnavailable, match="no log-in for recording servers"):
                await site.management()
            site.server.say(OAUTH, granted())
            assert (await site.management()).value == "T"


UNREADABLE = {
    "no token": Reply(document("<TimeToLive><MicroSeconds>1</MicroSeconds></TimeToLive>")),
    "no result": Reply(document("")),
    "an endless token": granted("x" * 5000),
    "no life": granted(life_us=""),
    "a negative life": granted(life_us=-1),
    "a life in words": granted(life_us="long"),
    "an answer without end": Reply(b"<x/>" * 4096, endless=True),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_an_answer_that_makes_no_sense_is_no_log_in(case: str) -> None:
    async with rig() as site:
        site.server.say(OAUTH, UNREADABLE[case])
        with pytest.raises(Unreadable):
            await site.management()


async def test_a_redirect_is_not_followed() -> None:
    async with rig() as site:
        site.server.say(OAUTH, Reply(status=307, headers={"Location": "/elsewhere"}))
        with pytest.raises(BackendUnavailable, match="307"):
            await site.management()
        assert len(site.server.asked) == 1


async def test_a_log_out_ends_the_session_and_never_fails() -> None:
    async with rig() as site:
        await site.management.log_out()
        assert site.server.asked == []
        for reply in (Reply(document("", "Logout")), Reply(status=500), refusal()):
            site.server.say(OAUTH, granted("GOOD"), reply)
            await site.management()
            await site.management.log_out()
            logout = parse_xml(site.server.asked[-1].data, "it").child("Body", "Logout")
            assert logout is not None
            assert (logout.value("instanceId"), logout.value("currentToken")) == (str(INSTANCE), "GOOD")


async def test_no_token_is_told_anywhere() -> None:
    assert "TOKEN" not in repr(Token("TOKEN#1#", 1.0))
    assert "pä:ss" not in repr(BASIC_USER)
    async with rig() as site:
        site.oauth.given.append(Token("canary-oauth", 1e9))
        site.server.say(OAUTH, granted("TOKEN#canary#"), refusal("TOKEN#canary# of canary-oauth is bad"))
        await site.management()
        site.clock.at_s += 100_000
        with pytest.raises(BackendUnavailable) as told:
            await site.management()
        assert str(told.value) == "Login is refused: *** of *** is bad"
