"""What XProtect holds is found whole, however few sequences it tells at a time, in any order and form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.backends.milestone.jsontree import Fields, rfc3339_ms
from cctv_storaged.backends.milestone.sequences import RestSequences, gaps_between, merged
from cctv_storaged.backends.milestone.tasks import Tasks
from cctv_storaged.errors import BackendUnavailable, ObjectRejected
from cctv_storaged.model import TimeSpan
from tests.unit.milestone.scripted import Asked, Reply, Scripted, client, scripted

CAMERA = UUID("6f1c0f5e-0000-4f0e-9a53-1d3c7f6f2b10")
LINE = f"POST /api/rest/v1/cameras/{CAMERA}"
NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
Order = Literal["earliest", "latest", "nearest", "farthest"]


def span(start_s: float, end_s: float) -> TimeSpan:
    return TimeSpan(NINE + timedelta(seconds=start_s), NINE + timedelta(seconds=end_s))


@dataclass(slots=True)
class Site:
    """Answers `GetSequences` as the Config API describes it, within a limit of its own."""

    held: Sequence[TimeSpan]
    limit: int = 10**6
    order: Order = "earliest"
    clips: bool = False
    asked: list[TimeSpan] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply:
        body = asked.json
        centre = datetime.fromisoformat(body["time"])
        window = TimeSpan(centre - _span_of(body["timeBefore"]), centre + _span_of(body["timeAfter"]))
        self.asked.append(window)
        found = [each for each in self.held if each.overlaps(window)]
        before = [each for each in found if each.start <= centre][-body["maxCountBefore"] :]
        after = [each for each in found if each.start > centre][: body["maxCountAfter"]]
        chosen = self._ordered(before + after, centre)[: self.limit]
        told = [part if self.clips else each for each in chosen if (part := each.clipped_to(window))]
        sequences = [{"timeBegin": rfc3339_ms(each.start), "timeEnd": rfc3339_ms(each.end)} for each in told]
        return Reply({"result": {"state": "Success", "sequences": sequences}})

    def _ordered(self, found: list[TimeSpan], centre: datetime) -> list[TimeSpan]:
        match self.order:
            case "earliest":
                return found
            case "latest":
                return found[::-1]
            case "nearest":
                return sorted(found, key=lambda each: abs(each.start - centre))
            case "farthest":
                return sorted(found, key=lambda each: -abs(each.start - centre))


def _span_of(text: str) -> timedelta:
    """`ddd.HH:mm:ss`"""
    days, _, clock = text.partition(".")
    assert len(days) == 3
    hours, minutes, seconds = map(int, clock.split(":"))
    assert minutes < 60 > seconds
    assert hours < 24
    return timedelta(days=int(days), hours=hours, minutes=minutes, seconds=seconds)


class _Asking:
    """The site without HTTP in between, for many tries."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def post(self, path: str, body: Any, task: str) -> Any:
        assert (path, task) == (f"cameras/{CAMERA}", "GetSequences")
        asked = Asked("POST", path, task, {}, json.dumps(body).encode())
        reply: Any = self._site(asked).body
        return Fields(reply, "answer").unwrapped()


async def recorded(site: Site, of: TimeSpan) -> Sequence[TimeSpan]:
    asking: Any = _Asking(site)
    return await RestSequences(Tasks(asking)).recorded(CAMERA, of)


def clipped(held: Sequence[TimeSpan], of: TimeSpan) -> list[TimeSpan]:
    return [part for each in held if (part := each.clipped_to(of)) is not None]


@st.composite
def recordings(draw: st.DrawFn) -> list[TimeSpan]:
    """Seconds of footage and of pause in turn, none of them shorter than three."""
    at, held = draw(st.integers(-600, 0)), []
    for length, pause in draw(st.lists(st.tuples(st.integers(3, 120), st.integers(3, 200)), max_size=14)):
        held.append(span(at, at + length))
        at += length + pause
    return held


@settings(max_examples=150, deadline=None)
@given(
    held=recordings(),
    start=st.integers(-300, 300),
    length=st.integers(1, 1500),
    limit=st.integers(1, 8),
    order=st.sampled_from(get_args(Order)),
    clips=st.booleans(),
)
async def test_whatever_a_site_cuts_its_answers_to_all_that_it_holds_is_found(
    held: list[TimeSpan], start: int, length: int, limit: int, order: Order, clips: bool
) -> None:
    site, of = Site(held, limit, order, clips), span(start, start + length)
    found = await recorded(site, of)
    assert list(found) == merged(found)
    assert all(part in clipped(held, of) or _is_within(part, held) for part in found)  # nothing is invented
    unseen = [gap for each in clipped(held, of) for gap in gaps_between(each, clipped(found, each))]
    assert all(gap.duration <= timedelta(seconds=2) for gap in unseen)  # no more than a pause not asked for


def _is_within(part: TimeSpan, held: Sequence[TimeSpan]) -> bool:
    return any(each.start <= part.start and part.end <= each.end for each in held)


@pytest.mark.parametrize("count", [100, 101, 250, 1000])
async def test_more_sequences_than_are_asked_for_at_a_time_are_found_by_asking_on(count: int) -> None:
    held = [span(10 * number, 10 * number + 5) for number in range(count)]
    site = Site(held)
    assert list(await recorded(site, span(-60, 10 * count + 60))) == held
    assert len(site.asked) <= 8 + count // 50


async def test_covered_footage_is_one_question() -> None:
    site = Site([span(-1000, 1000)])
    assert list(await recorded(site, span(0, 90))) == [span(0, 90)]
    assert len(site.asked) == 1
    assert site.asked[0].start <= NINE
    assert site.asked[0].end >= span(0, 90).end


async def test_where_nothing_is_held_it_is_one_question() -> None:
    site = Site([])
    assert not await recorded(site, span(0, 86_400 * 3))
    assert len(site.asked) == 1


async def test_a_neighbour_outside_does_not_hide_what_lies_inside() -> None:
    site = Site([span(-10, -1), span(10, 20)], limit=1)
    assert list(await recorded(site, span(0, 60))) == [span(10, 20)]


@pytest.mark.parametrize("order", get_args(Order))
async def test_what_an_answer_leaves_out_is_found_wherever_it_is_cut(order: Order) -> None:
    held = [span(at, at + 10) for at in (10, 40, 70, 100)]
    assert list(await recorded(Site(held, 2, order), span(0, 120))) == held


async def test_sequences_that_touch_or_overlap_are_one() -> None:
    site = Site([span(0, 10), span(10, 20), span(15, 40), span(16, 18)])
    assert list(await recorded(site, span(0, 60))) == [span(0, 40)]


async def test_a_site_that_goes_on_telling_other_things_is_given_up() -> None:
    calls = iter(range(10**6))

    class Restless(Site):
        def __call__(self, asked: Asked) -> Reply:
            body = asked.json
            centre = datetime.fromisoformat(body["time"]) + timedelta(milliseconds=next(calls) % 3)
            told = {
                "timeBegin": rfc3339_ms(centre),
                "timeEnd": rfc3339_ms(centre + timedelta(milliseconds=2)),
            }
            return Reply({"sequences": [told]})

    with pytest.raises(BackendUnavailable, match="more than"):
        await recorded(Restless([]), span(0, 86_400))


# -- forms of the answer


def said(server: Scripted, body: object, status: int = 200) -> None:
    server.say(LINE, Reply(body, status))


GOOD = {
    "state": "Success",
    "sequences": [{"timeBegin": "2026-11-22T09:00:00Z", "timeEnd": "2026-11-22T09:01:00Z"}],
}


@pytest.mark.parametrize("wrap", ["result", "data", ""])
@pytest.mark.parametrize("status", [200, 201])
async def test_the_answer_is_read_in_every_envelope(wrap: str, status: int) -> None:
    async with scripted() as server, client(server) as ours:
        said(server, {wrap: GOOD} if wrap else GOOD, status)
        assert await RestSequences(Tasks(ours.rest)).recorded(CAMERA, span(0, 60)) == (span(0, 60),)
        body = server.of(LINE)[0].json
    assert body == {
        "sequenceType": "RecordingSequence",
        "time": "2026-11-22T09:00:30.000Z",
        "timeBefore": "000.00:00:32",
        "timeAfter": "000.00:00:32",
        "maxCountBefore": 100,
        "maxCountAfter": 100,
    }


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("2026-11-22T09:00:00.0000000Z", "2026-11-22T09:01:00.0000000Z"),
        ("2026-11-22T11:00:00.0000000+02:00", "2026-11-22T11:01:00+02:00"),
        ("2026-11-22T04:00:00.000-05:00", "2026-11-22T09:01:00.000Z"),
        ("2026-11-22T09:00:00", "2026-11-22T09:01:00"),
    ],
)
async def test_times_are_read_with_any_fraction_and_offset(begin: str, end: str) -> None:
    async with scripted() as server, client(server) as ours:
        said(server, {"sequences": [{"timeBegin": begin, "timeEnd": end}]})
        assert await RestSequences(Tasks(ours.rest)).recorded(CAMERA, span(0, 60)) == (span(0, 60),)


@pytest.mark.parametrize(
    "sequence",
    [
        {"timeBegin": "2026-11-22T09:00:00Z", "timeEnd": "0001-01-01T00:00:00Z"},  # goes on: no end is told
        {"timeBegin": "0001-01-01T00:00:00+02:00", "timeEnd": "2026-11-22T09:00:00Z"},
        {"timeBegin": "2026-11-22T09:00:10Z", "timeEnd": "2026-11-22T09:00:10Z"},
        {"timeBegin": "2026-11-22T09:00:10Z", "timeEnd": "2026-11-22T09:00:00Z"},
        {"timeBegin": "2026-11-22T09:00:10Z"},
    ],
)
async def test_a_sequence_without_a_length_proves_nothing(sequence: object) -> None:
    async with scripted() as server, client(server) as ours:
        said(server, {"result": {"state": "Success", "sequences": [sequence]}})
        assert await RestSequences(Tasks(ours.rest)).recorded(CAMERA, span(0, 60)) == ()


@pytest.mark.parametrize("body", [{"result": {"state": "Success"}}, {"state": "Success", "sequences": None}])
async def test_a_success_without_sequences_is_none(body: object) -> None:
    async with scripted() as server, client(server) as ours:
        said(server, body)
        assert await RestSequences(Tasks(ours.rest)).recorded(CAMERA, span(0, 60)) == ()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"result": {"state": "InProgress", "path": {"type": "tasks", "id": "7"}}},
        {"sequences": "none"},
        {"sequences": [17]},
        {"sequences": [{}] * 6000},
        {"sequences": [{"timeBegin": "9 o'clock", "timeEnd": "2026-11-22T09:00:00Z"}]},
        {"sequences": [{"timeBegin": "2026-13-22T09:00:00Z", "timeEnd": "2026-11-22T09:00:00Z"}]},
        {"sequences": [{"timeBegin": 5, "timeEnd": 6}]},
    ],
)
async def test_an_answer_that_does_not_tell_is_not_taken_for_a_gap(body: object) -> None:
    async with scripted() as server, client(server) as ours:
        said(server, body)
        with pytest.raises(BackendUnavailable) as caught:
            await RestSequences(Tasks(ours.rest)).recorded(CAMERA, span(0, 60))
    assert caught.value.reason == "server"


async def test_a_task_that_ends_in_error_is_told_with_its_number() -> None:
    async with scripted() as server, client(server) as ours:
        said(server, {"result": {"state": "Error", "errorCode": 60277, "errorText": "VMO60277: no"}})
        with pytest.raises(ObjectRejected, match="60277: VMO60277: no"):
            await RestSequences(Tasks(ours.rest)).recorded(CAMERA, span(0, 60))
