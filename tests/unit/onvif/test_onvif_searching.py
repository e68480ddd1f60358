"""Searches are bounded in number, size and life."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from cctv_storaged.errors import JournalFull
from cctv_storaged.onvif import searching
from cctv_storaged.onvif.searching import Searches
from cctv_storaged.onvif.soap import SoapFault


class SetClock:
    """It stands still until it is set."""

    seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


async def numbers(count: int, closed: list[str] | None = None) -> AsyncGenerator[str]:
    try:
        for number in range(count):
            yield str(number)
    finally:
        if closed is not None:
            closed.append("closed")


WAIT = timedelta(seconds=5)
LIFE = timedelta(seconds=10)


async def test_results_come_in_parts_and_none_twice() -> None:
    searches = Searches(SetClock())
    token = await searches.begin("a", numbers(5), most=None, life=LIFE)
    first = await searches.part(token, "a", 2, WAIT)
    rest = await searches.part(token, "a", 100, WAIT)
    assert (first.results, first.completed) == (("0", "1"), False)
    assert (rest.results, rest.completed) == (("2", "3", "4"), True)
    with pytest.raises(SoapFault):
        await searches.part(token, "a", 100, WAIT)


async def test_a_search_ends_at_its_most_matches() -> None:
    searches = Searches(SetClock())
    token = await searches.begin("a", numbers(5), most=3, life=LIFE)
    part = await searches.part(token, "a", 100, WAIT)
    assert (part.results, part.completed) == (("0", "1", "2"), True)


async def test_a_search_lives_ten_seconds_at_least_from_each_request_on() -> None:
    clock = SetClock()
    searches = Searches(clock)
    closed: list[str] = []
    token = await searches.begin("a", numbers(5, closed), most=None, life=timedelta(0))
    for clock.seconds in (10, 20):
        assert len((await searches.part(token, "a", 1, WAIT)).results) == 1
    clock.seconds = 30.5
    with pytest.raises(SoapFault):
        await searches.part(token, "a", 1, WAIT)
    assert (closed, len(searches)) == (["closed"], 0)


async def test_there_are_not_more_of_them_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST_SEARCHES", 2)
    clock = SetClock()
    searches = Searches(clock)
    tokens = [await searches.begin("a", numbers(1), most=None, life=LIFE) for _ in range(2)]
    with pytest.raises(SoapFault) as caught:
        await searches.begin("a", numbers(1), most=None, life=LIFE)
    assert caught.value.receiver and caught.value.subcodes[-1] == "ter:ResourceProblem"
    await searches.end(tokens[0])
    await searches.begin("a", numbers(1), most=None, life=LIFE)
    clock.seconds = 60
    await searches.begin("a", numbers(1), most=None, life=LIFE)
    assert len(searches) == 1


async def test_a_search_that_takes_long_goes_on_between_two_requests() -> None:
    """A year without a gap has a change at its beginning and one at its end."""
    searches, found, closed = Searches(SetClock()), asyncio.Event(), list[str]()

    async def slow() -> AsyncGenerator[str]:
        try:
            yield "first"
            await found.wait()
            yield "last"
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    token = await searches.begin("a", slow(), most=None, life=LIFE)
    parts = [await searches.part(token, "a", 10, timedelta(seconds=0.05)) for _ in range(3)]
    found.set()
    parts.append(await searches.part(token, "a", 1, WAIT))
    assert [result for part in parts for result in part.results] == ["first", "last"]
    assert not any(part.completed for part in parts)
    assert not (await searches.part(token, "a", 1, timedelta(0))).results
    await searches.end(token)
    assert closed == ["closed"]


async def test_a_search_that_is_ended_answers_whoever_waits_for_it() -> None:
    searches = Searches(SetClock())

    async def endless() -> AsyncGenerator[str]:
        await asyncio.Event().wait()
        yield "never"

    token = await searches.begin("a", endless(), most=None, life=LIFE)
    waiting = asyncio.create_task(searches.part(token, "a", 1, timedelta(hours=1)))
    await asyncio.sleep(0.01)
    await searches.end(token)
    part = await waiting
    assert (part.results, part.completed) == ((), True)


async def test_a_search_that_met_an_error_is_over_and_not_complete() -> None:
    searches = Searches(SetClock())

    async def failing() -> AsyncGenerator[str]:
        yield "first"
        raise JournalFull("no room")

    token = await searches.begin("a", failing(), most=None, life=LIFE)
    assert (await searches.part(token, "a", 1, WAIT)).results == ("first",)
    with pytest.raises(JournalFull):
        await searches.part(token, "a", 1, WAIT)
    with pytest.raises(SoapFault):
        await searches.part(token, "a", 1, WAIT)


async def test_a_search_is_known_only_by_its_token_and_kind() -> None:
    searches = Searches(SetClock())
    token = await searches.begin("a", numbers(1), most=None, life=LIFE)
    for wrong, kind in ((token, "b"), ("", "a"), (token + "0", "a")):
        with pytest.raises(SoapFault):
            await searches.part(wrong, kind, 1, WAIT)
    with pytest.raises(SoapFault):
        await searches.end("none")
    await searches.close()
    assert len(searches) == 0
