"""Sequences by SOAP: onward from page to page until nothing new is told, and never for ever."""

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import pytest

from cctv_storaged.backends.milestone.answers import TokenRefused, Unreadable
from cctv_storaged.backends.milestone.imageserver import Door
from cctv_storaged.backends.milestone.recordercommands import NAMESPACE, PAGE, RecorderCommands
from cctv_storaged.backends.milestone.soap import ENVELOPE, SoapClient
from cctv_storaged.backends.milestone.tokens import Token
from cctv_storaged.backends.milestone.vmstime import parse_time, render_time
from cctv_storaged.backends.milestone.xmltree import Node, parse_xml
from cctv_storaged.model import TimeSpan
from tests.unit.milestone.scripted import Asked, Reply, Scripted, scripted

SERVICE = "POST /RecorderCommandService/RecorderCommandService.asmx"
CAMERA = UUID(int=0xCA3)
NINE = datetime(2026, 11, 20, 9, tzinfo=UTC)
NOT_SET = "0001-01-01T00:00:00Z"


def at(seconds: float) -> datetime:
    return NINE + timedelta(seconds=seconds)


def span(start_s: float, end_s: float) -> TimeSpan:
    return TimeSpan(at(start_s), at(end_s))


def told(*entries: tuple[str, str]) -> Reply:
    inner = "".join(
        f"<SequenceEntry><TimeBegin>{begin}</TimeBegin><TimeTrigged>{begin}</TimeTrigged>"
        f"<TimeEnd>{end}</TimeEnd></SequenceEntry>"
        for begin, end in entries
    )
    result = f"<SequencesGetResult>{inner}</SequencesGetResult>" if inner else "<SequencesGetResult />"
    body = f'<SequencesGetResponse xmlns="{NAMESPACE}">{result}</SequencesGetResponse>'
    return Reply(f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body>{body}</s:Body></s:Envelope>'.encode())


def sequences(*spans: TimeSpan) -> Reply:
    return told(*((render_time(one.start), render_time(one.end)) for one in spans))


def question(asked: Asked) -> Node:
    found = parse_xml(asked.data, "it").child("Body", "SequencesGet")
    assert found is not None
    return found


def holding(
    spans: Sequence[TimeSpan], most: int = 10**6, *, touching: bool = False
) -> Callable[[Asked], Reply]:
    """As recorders are said to answer: what overlaps, whole, by its begin, so many at most.

    `touching`: what ends where the question begins is told too.
    """

    def answer(asked: Asked) -> Reply:
        values = question(asked)
        start, end = parse_time(values.value("minTime")), parse_time(values.value("maxTime"))
        assert start is not None
        assert end is not None
        count = min(most, int(values.value("maxCount")))
        found = [
            one for one in spans if one.start < end and (one.end > start or (touching and one.end == start))
        ]
        return sequences(*found[:count])

    return answer


@dataclass
class Rig:
    server: Scripted
    commands: RecorderCommands
    door: Door
    refused: list[str]

    async def recorded(self, start_s: float = 0, end_s: float = 100) -> list[TimeSpan]:
        return list(await self.commands.recorded(self.door, CAMERA, span(start_s, end_s)))


@asynccontextmanager
async def rig(*replies: Reply | Callable[[Asked], Reply]) -> AsyncIterator[Rig]:
    async with scripted() as server, aiohttp.ClientSession() as session:
        refusals: list[str] = []

        async def tokens(refused: str | None = None) -> Token:
            if refused is not None:
                refusals.append(refused)
            return Token(f"TOKEN#{len(refusals)}#<&", float("inf"))

        server.say(SERVICE, *replies)
        door = Door(host="127.0.0.1", port=urlsplit(server.url).port or 0)
        yield Rig(server, RecorderCommands(SoapClient(session), tokens), door, refusals)


async def test_the_question_is_asked_as_it_was_seen_to_be_asked() -> None:
    async with rig(sequences()) as site:
        assert await site.recorded() == []
        [asked] = site.server.asked
        assert asked.headers["SOAPAction"] == f'"{NAMESPACE}/SequencesGet"'
        assert "Authorization" not in asked.headers
        assert question(asked).namespace == NAMESPACE
        assert [(node.name, node.text) for node in question(asked).children] == [
            ("token", "TOKEN#0#<&"),
            ("deviceId", str(CAMERA)),
            ("sequenceType", "f9c62604-d0c5-4050-ae25-72de51639b14"),
            ("minTime", "2026-11-20T09:00:00.0000000Z"),
            ("maxTime", "2026-11-20T09:01:40.0000000Z"),
            ("maxCount", str(PAGE)),
        ]


@pytest.mark.parametrize("touching", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 10**6])
async def test_pages_of_any_size_tell_the_same(most: int, touching: bool) -> None:
    spans = [span(-10, 5), span(10, 20), span(20, 30), span(40, 40.5), span(90, 200)]
    async with rig(holding(spans, most, touching=touching)) as site:
        assert await site.recorded() == [span(0, 5), span(10, 30), span(40, 40.5), span(90, 100)]


async def test_a_full_page_is_not_the_end() -> None:
    spans = [span(number / 10, number / 10 + 0.05) for number in range(PAGE + 20)]
    async with rig(holding(spans)) as site:
        assert await site.recorded() == spans
        assert len(site.server.asked) == 3


async def test_a_recorder_that_tells_the_same_again_and_again_is_asked_no_more() -> None:
    async with rig(sequences(span(10, 20), span(30, 40))) as site:
        assert await site.recorded() == [span(10, 20), span(30, 40)]
        assert len(site.server.asked) == 2


async def test_a_recorder_that_always_has_more_is_given_up() -> None:
    count = itertools.count()

    def more(_: Asked) -> Reply:
        number = next(count)
        return sequences(span(number / 100, number / 100 + 0.005))

    async with rig(more) as site:
        with pytest.raises(Unreadable, match="pages"):
            await site.recorded(0, 1000)


async def test_what_has_no_end_or_no_length_shows_nothing_to_be_held() -> None:
    begin = render_time(at(1))
    odd = told(
        (begin, NOT_SET),
        (begin, begin),
        (render_time(at(9)), begin),
        (render_time(at(5)), render_time(at(6))),
    )
    async with rig(odd) as site:
        assert await site.recorded() == [span(5, 6)]


NO_TIMES = ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-20T09:00:00.1.2Z", "\u0662026-11-20T09:00:00Z"]


@pytest.mark.parametrize("time", NO_TIMES)
async def test_a_time_that_cannot_be_read_is_told(time: str) -> None:
    async with rig(told((time, render_time(at(5))))) as site:
        with pytest.raises(Unreadable, match="TimeBegin"):
            await site.recorded()


async def test_a_refused_token_is_replaced_once() -> None:
    fault = (
        "<s:Fault><faultstring>x</faultstring><detail><SubErrorNumber>2</SubErrorNumber></detail></s:Fault>"
    )
    body = f'<s:Envelope xmlns:s="{ENVELOPE}"><s:Body>{fault}</s:Body></s:Envelope>'
    refusal = Reply(body.encode(), status=500)
    async with rig(refusal, sequences(span(1, 2)), sequences()) as site:
        assert await site.recorded() == [span(1, 2)]
        assert site.refused == ["TOKEN#0#<&"]
    async with rig(refusal) as site:
        with pytest.raises(TokenRefused):
            await site.recorded()
        assert len(site.server.asked) == 2


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20T09:00:00Z", at(0)),
        ("2026-11-20T11:00:00.1234567+02:00", at(0.123456)),
        ("2026-11-20T09:00:00.5", at(0.5)),
        (" 2026-11-20t09:00:00.000000001z ", at(0)),
        (NOT_SET, None),
        ("9999-12-31T23:59:59.9999999-01:00", None),
        ("2026-11-20", None),
    ],
)
def test_times_are_read_as_xprotect_writes_them(text: str, moment: datetime | None) -> None:
    assert parse_time(text) == moment


def test_times_are_written_as_xprotect_writes_them() -> None:
    assert render_time(at(0.123456)) == "2026-11-20T09:00:00.1234560Z"
    assert parse_time(render_time(at(0.123456))) == at(0.123456)
