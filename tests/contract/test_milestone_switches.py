"""The client passes with every assumption of the simulator either way: one course for each value of each.

The values are taken from the switches themselves, so that a new one is tried without being named here.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints
from uuid import UUID, uuid4

import pytest

from cctv_storaged.backends.milestone.base import Mark, TaskState
from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.backends.milestone.xprotect import XProtect
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import BackendError, BackendUnavailable, ObjectRejected, Unsupported
from cctv_storaged.model import TimeSpan
from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.signals import RETRIEVAL_EVENT
from tests.fakes.xprotect.simulator import Simulator
from tests.fakes.xprotect.site import EdgeFile
from tests.footage import cached_ts
from tests.services.xprotect import PASSWORD, USER, camera, running_site

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
GATE = camera("gate").id
RECORDED_S, AT_EDGE_S = (0, 20), 40
"""Seconds after nine; four seconds of footage each, of which the last picture is shown at 3.96."""
OTHERS: dict[str, Sequence[object]] = {
    "running_state": ("Running", "Started", "inprogress"),
    "sequences_gap_ms": (1000, 15_000),
}
AUTHORITY = Path(__file__).parents[1] / "services" / "certificates" / "ca.pem"
TENTHS = timedelta(seconds=0.1)


def span(start_s: float, end_s: float) -> TimeSpan:
    return TimeSpan(NINE + timedelta(seconds=start_s), NINE + timedelta(seconds=end_s))


def other_values() -> list[tuple[str, object]]:
    """Every value of every switch but the default: all words, the other truth, 1 for a number."""
    hints, usual = get_type_hints(Assumptions), Assumptions()
    found: list[tuple[str, object]] = []
    for each in fields(Assumptions):
        kind, default = hints[each.name], getattr(usual, each.name)
        if kind is bool:
            values: Sequence[object] = (not default,)
        elif get_origin(kind) is Literal:
            values = [value for value in get_args(kind) if value != default]
        else:
            values = OTHERS.get(each.name, (1,))
        found += [(each.name, value) for value in values]
    return found


@asynccontextmanager
async def site(switch: str, value: object) -> AsyncIterator[tuple[Simulator, XProtect]]:
    async with running_site() as simulator:
        simulator.site.assumptions.set({switch: value})
        simulator.site.faults.task_polls = 1
        path = await asyncio.to_thread(cached_ts, seconds=4)
        for second in RECORDED_S:
            start = NINE + timedelta(seconds=second)
            await asyncio.to_thread(simulator.site.media.add_ts, GATE, path, start)
        simulator.site.edge[GATE] = [
            EdgeFile(path=path, start=NINE + timedelta(seconds=second)) for second in (0, AT_EDGE_S)
        ]
        client = opened(simulator, PASSWORD)
        try:
            yield simulator, client
        finally:
            await client.close()


def opened(simulator: Simulator, password: str) -> XProtect:
    """With an authority that plain HTTP has no use for: to load those of the system takes longer."""
    target = MilestoneTarget(
        url=simulator.site.url,
        username=USER,
        password=password,
        ca_file=str(AUTHORITY),
        allow_plain_http=True,
    )
    return XProtect(target, SystemClock())


@pytest.mark.parametrize(("switch", "value"), other_values())
async def test_the_client_passes_whatever_is_assumed(switch: str, value: object) -> None:
    async with site(switch, value) as (simulator, client):
        await _inventory(simulator, client)
        await _is_recorded(client, span(-30, 30), [(0, 3.96), (20, 23.96)])
        await _retrieval(client)
        await _is_recorded(client, span(30, 50), [(40, 43.96)])
        await _marks(simulator, client)
        await _reads_through_expired_tokens(simulator, client)
        await _refusals(simulator, client)


async def _inventory(simulator: Simulator, client: XProtect) -> None:
    told = await client.site()
    assert told.id == simulator.site.id and told.release == (25, 2) and told.clock_skew is not None
    cameras = {each.name: each for each in await client.cameras()}
    assert cameras.keys() == {"gate", "yard"} and cameras["gate"].id == GATE
    assert (
        cameras["gate"].enabled and cameras["gate"].recording_enabled and cameras["gate"].edge_storage_enabled
    )
    (recorder,) = await client.recorders()
    assert (recorder.id, recorder.port) == (simulator.site.recorder_id, simulator.site.recorder_port)
    assert cameras["gate"].recorder_id == recorder.id and cameras["gate"].storage_id is not None
    storage = await client.storage(cameras["gate"].storage_id)
    assert storage.retention == timedelta(days=30) and storage.available
    await client.reach(GATE)


async def _is_recorded(client: XProtect, asked: TimeSpan, expected: Sequence[tuple[float, float]]) -> None:
    """To a second where times are told in whole ones."""
    told = await client.recorded(GATE, asked)
    assert len(told) == len(expected)
    for got, (start_s, end_s) in zip(told, expected, strict=True):
        wanted = span(start_s, end_s)
        assert abs(got.start - wanted.start) < TENTHS
        assert timedelta(0) <= wanted.end - got.end < timedelta(seconds=1)


async def _retrieval(client: XProtect) -> None:
    """One of footage that is there, asked for twice under one identifier; one of footage that is not."""
    identifier = uuid4()
    task = await client.retrieve(GATE, span(0, 4), identifier)
    try:
        again = await client.retrieve(GATE, span(0, 4), identifier)
    except ObjectRejected:
        again = task
    other = await client.retrieve(GATE, span(40, 44), uuid4())
    for each in {task, again, other}:
        while (told := await client.task(each)).state is TaskState.RUNNING:
            await asyncio.sleep(0.01)
        assert told.state is TaskState.SUCCESS, told.error
        await client.clean_up(each)
    await client.clean_up(task)  # once more


async def _marks(simulator: Simulator, client: XProtect) -> None:
    mark = Mark(camera_id=GATE, span=span(0, 4), header="Case 42", description="…", reference="INC-42")
    bookmark, lock = await client.bookmark(mark), await client.lock(mark)
    assert simulator.marks.bookmarks.keys() == {bookmark} and simulator.marks.locks.keys() == {lock}
    for _ in range(2):
        await client.remove_bookmark(bookmark)
        await client.unlock(lock)
    assert not simulator.marks.bookmarks and not simulator.marks.locks
    await client.send_event(RETRIEVAL_EVENT, GATE)
    await client.raise_alarm(GATE, "coverage gap", "09:00")
    assert [each.type for each in simulator.signals.events] == [RETRIEVAL_EVENT]
    assert [each.source for each in simulator.signals.alarms] == [GATE]


async def _reads_through_expired_tokens(simulator: Simulator, client: XProtect) -> None:
    """Each group once, though what was retrieved over it may be there twice, over a gap and past the end."""
    for expired in ({}, {"expire_tokens": True}, {"expire_corporate_tokens": True}):
        simulator.site.faults.set(expired)
        async with client.footage(GATE, span(-10, 60)) as groups:
            starts_ms = [group.pictures[0].time_ms async for group in groups]
        nine_ms = round(NINE.timestamp() * 1000)
        seconds = [(start_ms - nine_ms) // 1000 for start_ms in starts_ms]
        assert seconds == [*range(4), *range(20, 24), *range(40, 44)]


async def _refusals(simulator: Simulator, client: XProtect) -> None:
    simulator.site.faults.edition = "Essential+"
    mark = Mark(camera_id=GATE, span=span(0, 4), header="", description="", reference="")
    with pytest.raises((Unsupported, ObjectRejected)):
        await client.lock(mark)
    with pytest.raises((Unsupported, ObjectRejected)):
        await client.retrieve(GATE, span(0, 4), UUID(int=1))
    stranger = opened(simulator, "wrong")
    try:
        with pytest.raises(BackendUnavailable) as caught:
            await stranger.site()
    finally:
        await stranger.close()
    assert isinstance(caught.value, BackendError) and "wrong" not in str(caught.value)
