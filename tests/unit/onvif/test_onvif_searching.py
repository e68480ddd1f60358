"""Searches are bounded in number, size and life."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

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
