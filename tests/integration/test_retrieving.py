"""Having XProtect fetch what it does not hold: one at a time per camera, once each, and after any kill."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.errors import BackendUnavailable, Unsupported
from cctv_storaged.model import Segment, TimeSpan
from cctv_storaged.vms.retrieving import identifier_of
from tests.fakes.scripted_vms import ScriptedVms, Twice
from tests.services.jumping import MIDNIGHT, LoopClock, eventually, jumping, passing
from tests.services.proving import EVENT, NAME, Proven, device_of, proven, proving_site, settings

SOON = timedelta(minutes=3)


@jumping
async def test_what_only_the_device_has_is_fetched_and_verified_and_nothing_is_left(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval")) as host:
        segments = [await host.rig.recorded(number) for number in range(12)]
        host.holds(segments[0])
        host.keeps_at_edge(*segments)
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
            await eventually(lambda: nothing_under_way(host), "the row is gone")
        ((device, span, _),) = host.vms.retrievals()
        assert device == device_of(segments[0].camera_id)
        assert (span.start, span.end) == (segments[1].span.start, segments[-1].span.end)
        assert host.vms.tasks == {}, "cleaned up"


@jumping
async def test_one_is_in_flight_per_camera_and_some_in_all(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval", max_retrievals=2)) as host:
        cameras = ("gate", "yard", "roof", "hall")
        segments = [await host.rig.recorded(number * 20, each) for number in range(3) for each in cameras]
        host.keeps_at_edge(*segments)
        host.vms.finishes = False
        at_once: list[Counter[UUID]] = []
        host.vms.after = lambda call: at_once.append(Counter(each.device for each in host.vms.tasks.values()))
        async with host.running():
            while not await host.verified(*segments):
                await passing(timedelta(seconds=20))
                for task in list(host.vms.tasks):
                    host.vms.finish(task)
        assert max(sum(each.values()) for each in at_once) == 2
        assert max(max(each.values(), default=0) for each in at_once) == 1


@jumping
async def test_with_hybrid_nothing_is_fetched_that_the_vms_shows_in_time(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("hybrid")) as host:
        host.rig.clock.advance(timedelta(minutes=-29))  # just recorded
        own, missing = await host.rig.recorded(1), await host.rig.recorded(2)
        host.keeps_at_edge(own, missing)
        async with host.running():
            await passing(timedelta(minutes=2))
            host.holds(own)
            await eventually(lambda: host.verified(own, missing), "verified")
        assert [span.overlaps(own.span) for _, span, _ in host.vms.retrievals()] == [False]


@jumping
async def test_a_task_that_fails_is_told_and_tried_again_until_the_deadline_and_then_a_gap(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval", deadline=timedelta(minutes=40))) as host:
        segment = await host.rig.recorded(0)
        host.keeps_at_edge(segment)
        host.vms.fails_with = "60277: device offline"
        async with host.running():
            await eventually(lambda: was_tried(host, segment, 2), "tried twice")
            copy = await host.rig.copy(segment, NAME)
            assert copy.error is not None and "60277: device offline" in copy.error
            await eventually(lambda: in_state(host, segment, "gap"), "a gap")
            host.vms.fails_with = None
            await host.rig.journal.copies.retry_failed(None)
            await eventually(lambda: host.verified(segment), "asked for again, and fetched")
        assert host.rig.source(segment).exists()
        assert host.rig.metric("storage_errors_total", operation="retrieve", backend=NAME) >= 2


@jumping
async def test_a_retrieval_that_ends_well_and_brings_nothing_becomes_a_gap_in_the_end(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval", deadline=SOON)) as host:
        segment = await host.rig.recorded(0)
        async with host.running():
            await eventually(lambda: in_state(host, segment, "gap"), "a gap")
        assert host.vms.count("retrieve") == 1, "past its deadline one try is enough"


@jumping
async def test_an_edition_that_does_not_fetch_makes_a_gap_and_says_so(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval", deadline=SOON)) as host:
        segment = await host.rig.recorded(0)
        host.vms.errors["retrieve"] = Unsupported("edge storage is not in this edition")
        errors: list[str | None] = []
        async with host.running():
            await eventually(lambda: in_state(host, segment, "gap", errors), "a gap")
        assert [each for each in errors if each and "not in this edition" in each]
        assert await nothing_under_way(host)


@jumping
async def test_a_running_task_that_never_ends_gives_its_place_up(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval", max_retrievals=1, deadline=SOON)) as host:
        stuck, other = await host.rig.recorded(0, "gate"), await host.rig.recorded(0, "yard")
        host.keeps_at_edge(other)
        host.vms.finishes = False
        async with host.running():
            await eventually(lambda: bool(host.vms.tasks), "asked for")
            await passing(timedelta(minutes=14))
            host.vms.finishes = True
            await eventually(lambda: host.verified(other), "the other one is fetched")
            await eventually(lambda: in_state(host, stuck, "gap"), "a gap")


@jumping
async def test_an_event_is_sent_instead_and_its_rule_is_given_time(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("event_retrieval")) as host:
        segments = [await host.rig.recorded(number) for number in range(3)]

        def fetch(device: UUID) -> None:
            asyncio.get_running_loop().call_later(100, lambda: host.holds(*segments))

        host.vms.on_event = fetch
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
            await eventually(lambda: nothing_under_way(host), "over")
        assert host.vms.events == [(EVENT, device_of(segments[0].camera_id))]


@jumping
async def test_an_event_that_no_rule_hears_ends_in_a_gap(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("event_retrieval", deadline=SOON)) as host:
        segment = await host.rig.recorded(0)
        async with host.running():
            await eventually(lambda: in_state(host, segment, "gap"), "a gap")
        assert host.vms.count("retrieve") == 0 and len(host.vms.events) == 1


@jumping
async def test_a_vms_that_goes_away_while_it_fetches_counts_nothing(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval", deadline=SOON)) as host:
        segment = await host.rig.recorded(0)
        host.keeps_at_edge(segment)
        host.vms.finishes = False
        async with host.running():
            await eventually(lambda: bool(host.vms.tasks), "asked for")
            host.vms.away = BackendUnavailable("no route to host")
            await passing(timedelta(minutes=20))
            assert await host.states(segment) == ["pending"]
            assert (await host.rig.copy(segment, NAME)).attempts == 0
            host.vms.away, host.vms.finishes = None, True
            await eventually(lambda: host.verified(segment), "verified")
        assert host.vms.count("retrieve") == 1


@jumping
async def test_an_asking_whose_answer_was_lost_is_looked_for_before_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path, chosen=settings("edge_retrieval")) as host:
        segment = await host.rig.recorded(0)
        host.keeps_at_edge(segment)
        lost = iter([BackendUnavailable("the connection was cut")])

        def cut(call: str) -> None:
            if call == "retrieve" and (error := next(lost, None)) is not None:
                for task in host.vms.tasks:
                    host.vms.finish(task)
                raise error

        host.vms.after = cut
        async with host.running():
            await eventually(lambda: host.verified(segment), "verified")
            await eventually(lambda: nothing_under_way(host), "over")
        assert host.vms.count("retrieve") == 1


# Kills


STEPS = ("begun", "asked", "answered", "seen", "verified", "cleaned")


@pytest.mark.parametrize(
    ("step", "twice"),
    [*((step, Twice.ACCEPTED) for step in STEPS), ("asked", Twice.MERGED), ("asked", Twice.REJECTED)],
)
def test_a_kill_at_any_step_is_taken_up(tmp_path: Path, step: str, twice: Twice) -> None:
    _a_kill(tmp_path, step, twice)


@jumping
async def _a_kill(folder: Path, step: str, twice: Twice) -> None:
    """Whatever XProtect does with an identifier that it knows, all is fetched, and no row or task is left."""
    vms = proving_site(twice=twice)
    clock = LoopClock(MIDNIGHT + timedelta(minutes=30))
    chosen = settings("edge_retrieval")
    async with proven(folder, vms=vms, clock=clock, chosen=chosen) as host:
        segments = [await host.rig.recorded(number) for number in range(3)]
        host.keeps_at_edge(*segments)
        reached = killed_at(host, step)
        task = asyncio.create_task(host.proof.proving.run())
        await eventually(reached.is_set, f"killed at {step}")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    vms.hold = None
    vms.before = vms.after = lambda call: None
    async with proven(folder, vms=vms, clock=clock, chosen=chosen) as host:
        async with host.running():
            asyncio.get_running_loop().call_later(60, finish_all, vms)  # whoever asks for it or not
            await eventually(lambda: host.verified(*segments), "verified after the restart")
            await eventually(lambda: nothing_under_way(host), "no row is left")
        same = identifier_of(segments[0].camera_id, whole(segments))
        assert {identifier for _, _, identifier in vms.retrievals()} == {same}
        assert (await host.rig.copy(segments[0], NAME)).attempts <= 1


def killed_at(host: Proven, step: str) -> asyncio.Event:
    """Nothing goes on from there: the call or the commit is the last that this process does."""
    reached, never = asyncio.Event(), asyncio.Event()
    rows, vouched, vms = host.rig.journal.retrievals, host.rig.journal.vouched, host.vms

    def stop_at(call: str) -> None:
        reached.set()
        vms.hold = never

    async def forever(*_: object, **__: object) -> None:
        reached.set()
        await never.wait()

    match step:
        case "begun":  # the row is there, and nobody was asked
            vms.before = lambda call: stop_at(call) if call == "retrieve" else None
        case "asked":  # XProtect has the task, and its id is nowhere
            rows.answered = forever  # type: ignore[method-assign]
        case "answered":  # its id is in the journal, and it runs
            vms.before = lambda call: stop_at(call) if call == "task" else None
        case "seen":  # it was seen done, and nothing was looked at
            vouched.verified = forever  # type: ignore[method-assign,assignment]
        case "verified":  # the copies are, and the task is not cleaned up
            vms.before = lambda call: stop_at(call) if call == "clean_up" else None
        case "cleaned":  # and the row is still there
            rows.end = forever  # type: ignore[method-assign]
    return reached


# Help


def finish_all(vms: ScriptedVms) -> None:
    for task in vms.tasks:
        vms.finish(task)


def whole(segments: list[Segment]) -> TimeSpan:
    return TimeSpan(segments[0].span.start, segments[-1].span.end)


async def nothing_under_way(host: Proven) -> bool:
    return not await host.rig.journal.retrievals.all()


async def in_state(
    host: Proven, segment: Segment, state: str, errors: list[str | None] | None = None
) -> bool:
    copy = await host.rig.copy(segment, NAME)
    if errors is not None:
        errors.append(copy.error)
    return copy.state == state


async def was_tried(host: Proven, segment: Segment, times: int) -> bool:
    return (await host.rig.copy(segment, NAME)).attempts >= times
