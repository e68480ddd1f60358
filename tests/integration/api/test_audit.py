"""The audit: who saw which footage, who changed what, who was turned away; by lines that stay few."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from cctv_storaged.api.app import ROUTES
from cctv_storaged.api.audit_models import AuditAnswer
from cctv_storaged.auditing import trail as trails
from cctv_storaged.auditing.trail import Caller, Seen, Trail, stretch_of
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import JournalFull
from cctv_storaged.model import TimeSpan
from tests.integration.api.exported import GATE, NAMED, body_of, moment, recorded
from tests.integration.api.harness import PATIENCE_S, Host, path_of, running

pytestmark = pytest.mark.usefixtures("patient")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN = ("video/", "image/", "application/vnd.apple.mpegurl")
"""Media types of answers in which somebody sees footage."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is waited for however busy the disk is; after five seconds footage goes out before it."""
    monkeypatch.setattr(trails, "TELL_S", PATIENCE_S)


@asynccontextmanager
async def watched_over(folder: Path) -> AsyncIterator[Host]:
    """A host whose client has a token by the name of warden."""
    async with running(folder, NAMED) as host:
        made = await host.post("/tokens", {"name": "warden", "scopes": ["admin"]})
        host.token = made.json["secret"]
        yield host


async def entries(host: Host, **query: str) -> list[dict[str, Any]]:
    reply = await host.get("/audit", limit="500", **query)
    assert reply.status == 200, reply
    AuditAnswer.model_validate_json(reply.body)
    return list(reply.json["entries"])


def caller(name: str = "warden", address: str = "192.0.2.1") -> Caller:
    return Caller(token_id=uuid5(UUID(int=0), name), token=name, address=address, request_id="r")


async def test_every_way_to_see_footage_is_told_by_whom_and_what(tmp_path: Path) -> None:
    async with watched_over(tmp_path) as host:
        [segment, *_] = await recorded(host)
        span = {"start": rfc3339(moment(0)), "end": rfc3339(moment(6))}
        ways = [route for route in ROUTES if route.method == "GET" and "{camera_id}" in route.path]
        footage = [
            route
            for route in ways
            if any((each.media_type or "").startswith(SHOWN) for each in route.answers)
        ]
        assert len(footage) >= 6
        for route in footage:
            path = route.path.removeprefix("/api/v1/storage")
            path = path.format(camera_id=GATE, segment_id=segment["id"])
            query = span if "{segment_id}" not in path and route.query is not None else {}
            if route.name == "cameraThumbnail":
                query = {"at": rfc3339(moment(1))}
            before = {entry["no"] for entry in await entries(host, action="read")}
            reply = await host.request("GET", path, params=query if "segment_id" not in route.path else {})
            assert reply.status == 200, (path, reply)
            told = await entries(host, action="read", camera_id=str(GATE))
            fresh = [entry for entry in told if entry["no"] not in before]
            if (
                not fresh
            ):  # another way to the same: content and content.ts, pictures by segment and by moment
                assert route.name in ("segmentContentAsTs", "cameraThumbnail", "segmentThumbnail"), route.name
                continue
            [entry] = fresh
            assert (entry["by"], entry["address"]) == ("warden", "127.0.0.1")
            assert (entry["start"], entry["end"]) == ("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z")
            assert entry["request_id"] == reply.headers["X-Request-Id"]
        whats = {entry["what"] for entry in await entries(host, action="read")}
        assert whats == {"content", "clip", "playlist", "picture", "storyboard"}


async def test_asking_what_there_is_is_no_look_at_it(tmp_path: Path) -> None:
    async with watched_over(tmp_path) as host:
        [segment, *_] = await recorded(host)
        await host.request("HEAD", f"{path_of(segment)}/content")
        for path in (path_of(segment), f"/segments/{GATE}", f"/cameras/{GATE}/coverage", "/cameras"):
            assert (await host.get(path)).status == 200
        assert await entries(host, action="read") == []


class Monotonic:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_s = 10.0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.at_s)

    def monotonic(self) -> float:
        return self.at_s


class Kept:
    """Takes the lines of a trail; `full`: as a full disk does."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.full = False

    async def tell(self, told: Any, now: datetime) -> None:
        if self.full:
            raise JournalFull("no room")
        self.told.append(told)


def trail() -> tuple[Trail, Kept, Monotonic]:
    kept, clock = Kept(), Monotonic()
    return Trail(kept, clock), kept, clock  # type: ignore[arg-type]  # what it asks of both


async def test_a_day_in_8640_segments_is_24_lines() -> None:
    """One player that fetches all of a camera's day, and another one beside it."""
    told, kept, _ = trail()
    camera = uuid4()
    for number in range(8640):
        start = BEGIN + timedelta(seconds=10 * number)
        await told.seen(Seen.CONTENT, camera, TimeSpan(start, start + timedelta(seconds=10)), caller())
    assert len(kept.told) == 24
    whole = [line.span for line in kept.told]
    assert (whole[0].start, whole[-1].end) == (BEGIN, BEGIN + timedelta(days=1))
    await told.seen(Seen.CONTENT, camera, TimeSpan(BEGIN, BEGIN + timedelta(seconds=10)), caller("other"))
    facts = [json.loads(line.detail)["by"] for line in kept.told]
    assert facts == ["warden"] * 24 + ["other"]


async def test_the_same_is_told_again_after_an_hour_and_where_it_could_not_be_told() -> None:
    told, kept, clock = trail()
    camera, span = uuid4(), TimeSpan(BEGIN, BEGIN + timedelta(seconds=10))
    kept.full = True
    with pytest.raises(JournalFull):
        await told.seen(Seen.CONTENT, camera, span, caller())
    kept.full = False
    assert await told.seen(Seen.CONTENT, camera, span, caller())
    assert not await told.seen(Seen.CONTENT, camera, span, caller())
    assert await told.seen(Seen.CLIP, camera, span, caller())
    assert await told.seen(Seen.CONTENT, camera, span, caller(address="192.0.2.2"))
    clock.at_s += 3600
    assert await told.seen(Seen.CONTENT, camera, span, caller())


async def test_who_was_told_waits_for_nobodys_line() -> None:
    """A commit that hangs keeps back whom it is about, and for a bounded time."""
    told, kept, _ = trail()
    one, other, span = uuid4(), uuid4(), TimeSpan(BEGIN, BEGIN + timedelta(seconds=10))
    await told.seen(Seen.CONTENT, one, span, caller())
    go_on, begun = asyncio.Event(), asyncio.Event()
    tell = kept.tell

    async def slow(told: Any, now: datetime) -> None:
        if told.camera_id == other:
            begun.set()
            await go_on.wait()
        await tell(told, now)

    kept.tell = slow  # type: ignore[method-assign]
    waiting = asyncio.create_task(told.seen(Seen.CONTENT, other, span, caller()))
    await begun.wait()
    again = asyncio.create_task(told.seen(Seen.CONTENT, other, span, caller()))
    assert not await told.seen(Seen.CONTENT, one, span, caller())
    assert await told.seen(Seen.CLIP, one, span, caller()), "nor for the commit of another line"
    assert not again.done(), "before the first byte: also where the same is asked for twice at once"
    go_on.set()
    assert await waiting
    assert not await again


async def test_a_journal_that_hangs_keeps_footage_back_for_a_moment_and_the_log_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trails, "TELL_S", 0.05)
    async with watched_over(tmp_path) as host:
        [segment, *_] = await recorded(host)

        async def hangs(told: object, now: datetime) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(host.journal.audit_lines, "tell", hangs)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert (await host.get(f"{path_of(segment)}/content")).status == 200
        assert len([record for record in caplog.records if "footage seen" in record.message]) == 1


async def test_nobody_floods_the_ledger_by_spans_or_addresses() -> None:
    told, kept, _ = trail()
    camera, hour = uuid4(), timedelta(hours=1)
    for begin in range(24):
        for end in range(begin + 1, 25):
            span = TimeSpan(BEGIN + begin * hour, BEGIN + end * hour)
            await told.seen(Seen.PLAYLIST, camera, span, caller(address=f"2001:db8::{begin}:{end}"))
    assert len(kept.told) <= 24
    covered = {line.span.start + number * hour for line in kept.told for number in range(24)}
    assert covered >= {BEGIN + number * hour for number in range(24)}


async def test_who_uses_up_their_lines_is_still_told_by_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise hides no camera from the audit, and no other token's looks."""
    monkeypatch.setattr(trails, "MOST_LOOKS", 20)
    told, kept, clock = trail()
    camera, secret = uuid4(), uuid4()
    for number in range(200):
        span = TimeSpan(BEGIN + timedelta(hours=2 * number), BEGIN + timedelta(hours=2 * number + 1))
        await told.seen(Seen.CONTENT, camera, span, caller())
    assert len(kept.told) == 21
    assert "more" in json.loads(kept.told[-1].detail)
    for what in (Seen.CONTENT, Seen.CLIP):
        await told.seen(what, secret, TimeSpan(BEGIN, BEGIN + timedelta(hours=1)), caller())
    assert [line.camera_id for line in kept.told[21:]] == [secret]
    assert await told.seen(Seen.CONTENT, camera, TimeSpan(BEGIN, BEGIN + timedelta(hours=1)), caller("other"))
    clock.at_s += 3600
    assert await told.seen(Seen.CONTENT, camera, TimeSpan(BEGIN, BEGIN + timedelta(hours=1)), caller())
    assert "more" not in json.loads(kept.told[-1].detail)


async def test_strangers_silence_no_refusal_of_a_token() -> None:
    told, kept, _ = trail()
    for number in range(1000):
        stranger = Caller(
            token_id=None, token=None, address=f"192.0.{number // 250}.{number % 250}", request_id="r"
        )
        await told.refused("the token is not valid", "listCameras", stranger)
    assert len(kept.told) == 60
    assert "more" in json.loads(kept.told[-1].detail)
    await told.refused("the token lacks the scope export", "createExport", caller("stolen"))
    assert json.loads(kept.told[-1].detail)["by"] == "stolen"


async def test_a_limited_token_that_probes_for_other_cameras_is_told(tmp_path: Path) -> None:
    async with watched_over(tmp_path) as host:
        [segment, *_] = await recorded(host)
        other = await host.registered("other/b.ts", camera=uuid4())
        limited = {"name": "limited", "scopes": ["read"], "cameras": [other["camera_id"]]}
        made = await host.post("/tokens", limited)
        headers = {"Authorization": f"Bearer {made.json['secret']}"}
        for path in (f"{path_of(segment)}/content", f"/cameras/{uuid4()}", f"/events?camera_id={GATE}"):
            assert (await host.request("GET", path, headers=headers)).status == 404
        told = await entries(host, action="refused")
        assert {entry["what"] for entry in told} == {"segmentContent"}, "once an hour"
        assert {entry["by"] for entry in told} == {"limited"}
        assert str(GATE) in told[0]["detail"]


async def test_a_change_is_answered_although_its_line_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A token's secret is told once: an error in its place would lose it."""
    async with watched_over(tmp_path) as host:
        for failure in (JournalFull("no room"), TimeoutError(), RuntimeError("unforeseen")):

            async def fails(told: object, now: datetime, failure: Exception = failure) -> None:
                raise failure

            monkeypatch.setattr(host.journal.audit_lines, "tell", fails)
            caplog.clear()
            assert (await host.post("/tokens", {"name": "x", "scopes": ["read"]})).status == 201
            assert [record for record in caplog.records if "changed, and the ledger" in record.message]


async def test_guessers_from_anywhere_write_few_lines() -> None:
    told, kept, clock = trail()
    for number in range(1000):
        await told.refused("wrong", "listCameras", caller(address=f"192.0.2.{number}"))
    assert len(kept.told) == 60
    clock.at_s += 3600
    await told.refused("wrong", "listCameras", caller())
    assert len(kept.told) == 61


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [(0, 1, (0, 1)), (0, 3600, (0, 1)), (3599, 3601, (0, 2)), (7200, 7201, (2, 3)), (10, 86400, (0, 24))],
)
def test_a_stretch_is_the_whole_hours_that_footage_touches(
    start: int, end: int, hours: tuple[int, int]
) -> None:
    span = TimeSpan(BEGIN + timedelta(seconds=start), BEGIN + timedelta(seconds=end))
    expected = (BEGIN + timedelta(hours=hours[0]), BEGIN + timedelta(hours=hours[1]))
    assert (stretch_of(span).start, stretch_of(span).end) == expected


def test_a_stretch_at_the_end_of_time_stays_in_it() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    assert stretch_of(TimeSpan(last - timedelta(seconds=1), last)).end == last


async def test_each_change_is_told_by_whom_from_where_and_what(tmp_path: Path) -> None:
    async with watched_over(tmp_path) as host:
        [segment, *_] = await recorded(host)
        hold = await host.post(
            "/holds", {"camera_ids": [str(GATE)], "start_time": rfc3339(moment(2)), "reason": "theft"}
        )
        export = await host.post("/exports", body_of(start_s=2.5))
        assert export.json["created_by"] == hold.json["created_by"] == "warden"
        await host.delete(f"/holds/{hold.json['id']}?reason=over")
        removed = await host.request("DELETE", path_of(segment), headers={"X-Request-Id": "ticket-4711"})
        assert removed.status == 204
        await host.delete(path_of(segment))  # 404: nothing is changed
        await host.post("/retention/preview", {})
        told = await entries(host, action="changed")
        assert [entry["what"] for entry in reversed(told)] == [
            "createToken",
            "registerSegment",  # of all three: recorders do so all day
            "createHold",
            "createExport",
            "releaseHold",
            "deleteSegment",
        ]
        assert {entry["address"] for entry in told} == {"127.0.0.1"}
        assert [entry["by"] for entry in told] == ["warden"] * 5 + [None]
        by_what = {entry["what"]: entry for entry in told}
        assert by_what["createHold"]["id"] == by_what["releaseHold"]["id"] == hold.json["id"]
        assert by_what["createExport"]["id"] == export.json["id"]
        assert (by_what["deleteSegment"]["id"], by_what["deleteSegment"]["camera_id"]) == (
            segment["id"],
            str(GATE),
        )
        assert [each["what"] for each in await entries(host, request_id="ticket-4711")] == ["deleteSegment"]
        token_id = (await host.get("/tokens")).json["tokens"][0]["id"]
        assert {each["by"] for each in await entries(host, token_id=token_id)} == {"warden"}
        assert {each["action"] for each in await entries(host)} >= {"changed", "held", "released"}


async def test_who_is_turned_away_is_told_once(tmp_path: Path) -> None:
    async with watched_over(tmp_path) as host:
        reader = await host.post("/tokens", {"name": "reader", "scopes": ["read"]})
        headers = {"Authorization": f"Bearer {reader.json['secret']}"}
        for _ in range(3):
            assert (await host.request("GET", "/tokens", headers=headers)).status == 403
        [entry] = await entries(host, action="refused")
        assert (entry["by"], entry["what"]) == ("reader", "listTokens")
        assert "admin" in entry["detail"]


async def test_the_audit_is_read_in_pages_newest_first(tmp_path: Path) -> None:
    async with watched_over(tmp_path) as host:
        for number in range(5):
            await host.post("/tokens", {"name": f"token {number}", "scopes": ["read"]})
        found: list[int] = []
        query: dict[str, str] = {}
        while True:
            page = (await host.get("/audit", limit="2", **query)).json
            found += [entry["no"] for entry in page["entries"]]
            if page["next_before"] is None:
                break
            query = {"before": str(page["next_before"])}
        assert found == sorted(found, reverse=True)
        assert found == [entry["no"] for entry in await entries(host)]
        times = [entry["at"] for entry in await entries(host)]
        assert await entries(host, end=times[-1]) == []
        assert len(await entries(host, start=times[-1])) == len(times)


async def test_while_the_ledger_has_no_room_footage_is_seen_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched_over(tmp_path) as host:
        [segment, *_] = await recorded(host)

        async def full(told: object, now: datetime) -> None:
            raise JournalFull("no room")

        monkeypatch.setattr(host.journal.audit_lines, "tell", full)
        with caplog.at_level(logging.WARNING):
            assert (await host.get(f"{path_of(segment)}/content")).status == 200
        told = [record for record in caplog.records if "footage seen" in record.message]
        assert [vars(record)["camera_id"] for record in told] == [GATE]


async def test_a_problem_names_its_request_in_header_body_and_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, NAMED) as host:
        for given, taken in (("ticket-4711", True), ("x" * 65, False), ("two words", False), ("", False)):
            reply = await host.request("GET", f"/cameras/{uuid4()}", headers={"X-Request-Id": given})
            request_id = reply.headers["X-Request-Id"]
            assert reply.json["instance"] == f"urn:cctv-storaged:request:{request_id}"
            assert (request_id == given) is taken
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", request_id)
        with caplog.at_level(logging.DEBUG):
            await host.request("GET", "/cameras", headers={"X-Request-Id": "ticket-4712"})
        assert "ticket-4712" in {getattr(record, "request_id", None) for record in caplog.records}
