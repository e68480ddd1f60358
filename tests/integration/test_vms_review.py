"""Looking again at gaps, and at what XProtect held: what is lost is told, and nothing else is called so."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from cctv_storaged.alarms import AlarmName
from cctv_storaged.errors import BackendUnavailable
from cctv_storaged.events import EventKind
from cctv_storaged.holding.losses import HeldLossWatch
from cctv_storaged.journal.copies import Retried
from cctv_storaged.journal.holds import NewHold
from cctv_storaged.model import Camera, GapCause, NewSegment, Segment
from cctv_storaged.vms.review import CONFIRM_AFTER, GAP_QUESTIONS, next_look
from tests.fakes.scripted_backend import ScriptedBackend
from tests.services.jumping import eventually, jumping, passing
from tests.services.proving import NAME, Proven, device_of, proven, settings

SOON = timedelta(minutes=1)
CAUSE = "vms_no_longer_holds"


@jumping
async def test_a_gap_that_the_vms_fills_by_itself_is_found_and_its_alarm_ends(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings(deadline=SOON)) as host:
        filled, still = await host.rig.recorded(0), await host.rig.recorded(30)
        await gaps_of(host, filled, still)
        await host.proof.review.run_once()
        host.holds(filled)
        await host.proof.review.run_once()
        assert await host.states(filled, still) == ["gap", "gap"], "not so soon again"
        await passing(timedelta(minutes=11))
        await host.proof.review.run_once()
        assert await host.states(filled, still) == ["verified", "gap"]
        assert len(host.alarms.standing) == 1
        host.holds(still)
        await passing(timedelta(minutes=11))
        await host.proof.review.run_once()
        assert await host.verified(still) and not host.alarms.standing


@jumping
async def test_a_round_asks_a_bounded_number_of_questions_about_gaps_and_comes_to_all(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings(deadline=SOON)) as host:
        segments = [await host.rig.recorded(0, f"camera{number}") for number in range(GAP_QUESTIONS + 10)]
        await gaps_of(host, *segments)
        host.holds(*segments)
        await passing(timedelta(minutes=11))
        host.vms.calls.clear()
        await host.proof.review.run_once()
        assert host.vms.count("recorded") == GAP_QUESTIONS
        await host.proof.review.run_once()
        assert await host.verified(*segments)


def test_gaps_are_looked_at_ever_more_seldom_but_for_ever() -> None:
    waits = [next_look(timedelta(hours=hours)) for hours in (0, 2, 24, 200, 10_000)]
    assert waits == sorted(waits) and waits[0] >= timedelta(minutes=10) and waits[-1] == timedelta(days=1)


@jumping
async def test_what_the_vms_no_longer_holds_is_a_gap_where_the_source_is_left(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        kept, eaten = await held(host, 2)
        host.loses(eaten)
        await host.proof.review.run_once()
        assert await host.states(kept, eaten) == ["verified", "verified"], "one answer is none"
        await passing(CONFIRM_AFTER + SOON)
        await host.proof.review.run_once()
        assert await host.states(kept, eaten) == ["verified", "gap"]
        assert host.rig.source(eaten).exists() and host.rig.told(EventKind.LOST) == []
        assert [each.subject for each in host.alarms.standing] == [str(eaten.camera_id)]


@jumping
async def test_the_last_copy_that_retention_eats_is_told_lost_and_found_if_it_comes_back(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path) as host:
        kept, eaten = await held(host, 2)
        await host.rig.pruner(timedelta(0), required=(NAME,)).run_once()
        host.loses(eaten)
        await two_rounds(host)
        assert await host.states(kept, eaten) == ["verified", "failed"]
        (event,) = host.rig.told(EventKind.LOST)
        assert event.segment_id == eaten.id and CAUSE in (event.detail or "")
        assert host.rig.metric("storage_segments_lost_total", cause=CAUSE) == 1
        assert await host.rig.journal.ledger.losses() == {CAUSE: 1}
        host.holds(eaten)  # a backup of the media database was brought back
        await passing(timedelta(hours=1))
        await host.proof.review.run_once()
        assert await host.verified(eaten)
        lines = [each.line for each in (await host.rig.journal.ledger_lines.page(0)).lines]
        assert [each.kind for each in lines if each.kind in ("lost", "found")] == ["lost", "found"]


@jumping
async def test_what_another_copy_is_left_of_is_not_lost(tmp_path: Path) -> None:
    store = ScriptedBackend("S3")
    async with proven(tmp_path, store) as host:
        (segment,) = await held(host, 1)
        async with host.rig.delivering(host.rig.delivery(store)):
            await eventually(lambda: host.rig.all_verified(segment, backend="S3"), "at the store")
        assert await host.rig.pruner(timedelta(0), required=("S3", NAME)).run_once() == 1
        host.loses(segment)
        await two_rounds(host)
        assert await host.states(segment) == ["gone"] and host.rig.told(EventKind.LOST) == []
        assert host.alarms.standing == (), "its retention may be shorter than ours"


@jumping
async def test_what_goes_by_xprotects_own_retention_is_no_loss(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        (segment,) = await held(host, 1)
        await host.rig.pruner(timedelta(0), required=(NAME,)).run_once()
        host.vms.retention = timedelta(minutes=1)
        await passing(timedelta(minutes=5))
        host.loses(segment)
        await two_rounds(host)
        assert await host.states(segment) == ["gone"] and host.rig.told(EventKind.LOST) == []
        lines = [each.line for each in (await host.rig.journal.ledger_lines.page(0)).lines]
        assert [(each.kind, each.cause) for each in lines][-1] == ("deleted", "vms_retention")
        gaps = await host.rig.journal.gaps.absences(segment.camera_id, segment.span, timedelta(0), 10, None)
        assert {each.cause for each in gaps.parts} == {GapCause.RETENTION}


@jumping
async def test_a_source_kept_for_longer_than_xprotect_keeps_goes_when_its_own_time_is_over(
    tmp_path: Path,
) -> None:
    """XProtect had it for as long as it keeps anything; the store has it."""
    store, keep = ScriptedBackend("S3"), timedelta(days=30)
    async with proven(tmp_path, store) as host:
        (segment,) = await held(host, 1)
        async with host.rig.delivering(host.rig.delivery(store)):
            await eventually(lambda: host.rig.all_verified(segment, backend="S3"), "at the store")
        pruner = host.rig.pruner(timedelta(days=1), keep=keep, required=("S3", NAME))
        host.vms.retention = timedelta(days=14)
        host.rig.clock.advance(timedelta(days=15))
        host.loses(segment)
        await two_rounds(host)
        assert await host.states(segment) == ["gone"] and host.alarms.standing == ()
        assert await pruner.run_once() == 0, "younger than `keep`"
        host.rig.clock.advance(keep)
        assert await pruner.run_once() == 1
        assert host.rig.told(EventKind.LOST) == []


@jumping
async def test_what_xprotects_own_retention_took_is_a_gap_while_its_source_is_all_there_is(
    tmp_path: Path,
) -> None:
    store = ScriptedBackend("S3")
    async with proven(tmp_path, store) as host:
        (segment,) = await held(host, 1)
        host.vms.retention = timedelta(days=14)
        host.rig.clock.advance(timedelta(days=15))
        host.loses(segment)
        await two_rounds(host)
        assert await host.states(segment) == ["gap"], "the store has nothing of it yet"
        assert await host.rig.pruner(timedelta(0), required=("S3", NAME)).run_once() == 0


@jumping
async def test_held_footage_that_xprotects_own_retention_takes_is_lost_and_sounds(tmp_path: Path) -> None:
    """Without evidence locks XProtect knows of no hold, and takes what one needs with all the rest."""
    async with proven(tmp_path) as host:
        (segment,) = await held(host, 1)
        assert await host.rig.pruner(timedelta(0), required=(NAME,)).run_once() == 1
        hold = NewHold(
            id=uuid4(),
            camera_ids=(segment.camera_id,),
            start=segment.span.start,
            end=segment.span.end,
            reason="police",
            case_id="A",
            created_by=None,
            expires_at=None,
            review_at=None,
        )
        await host.rig.journal.holds.add(hold, None, host.rig.clock.now())
        host.vms.retention = timedelta(minutes=1)
        await passing(timedelta(minutes=5))
        host.loses(segment)
        await two_rounds(host)
        assert [each.segment_id for each in host.rig.told(EventKind.LOST)] == [segment.id]
        await HeldLossWatch(host.rig.journal, host.alarms).run_once()
        assert AlarmName.HELD_LOST in [each.name for each in host.alarms.standing]


@jumping
async def test_what_a_reader_did_not_get_and_nobody_has_is_told_lost(tmp_path: Path) -> None:
    """It is asked for anew, and not held: nobody else would ever tell of it."""
    async with proven(tmp_path, chosen=settings(deadline=timedelta(minutes=1))) as host:
        (segment,) = await held(host, 1)
        await host.rig.pruner(timedelta(0), required=(NAME,)).run_once()
        host.loses(segment)
        async with host.running():
            await host.rig.journal.copies.doubt(segment.id, NAME, "a reader did not get it")
            host.proof.proving.reopen()
            await eventually(lambda: is_failed(host, segment), "it is told")
        assert await host.rig.journal.ledger.losses() == {CAUSE: 1}
        assert [each.segment_id for each in host.rig.told(EventKind.LOST)] == [segment.id]
        assert await host.rig.journal.copies.retry_failed(None) == Retried(retried=0), "it claims no bytes"


async def is_failed(host: Proven, segment: Segment) -> bool:
    return await host.states(segment) == ["failed"]


@jumping
async def test_in_mode_local_nobody_waits_for_what_xprotect_had_of_an_earlier_mode(tmp_path: Path) -> None:
    store = ScriptedBackend("S3")
    async with proven(tmp_path, store, chosen=replace(settings(), mode="LOCAL")) as host:
        (segment,) = await held(host, 1)
        async with host.rig.delivering(host.rig.delivery(store)):
            await eventually(lambda: host.rig.all_verified(segment, backend="S3"), "at the store")
        host.loses(segment)
        await two_rounds(host)
        assert await host.states(segment) == ["gone"] and host.alarms.standing == ()
        assert await host.rig.pruner(timedelta(0), required=("S3",)).run_once() == 1


@jumping
async def test_a_source_that_comes_back_under_another_mode_gets_a_copy_where_one_is_required(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path) as host:
        segment = await host.rig.recorded(0)
        await host.rig.journal.requirement.require([NAME])
        await host.rig.miss(segment)
        await host.rig.journal.requirement.require(["S3"])
        found = await host.rig.journal.segments.record(new_of(segment), ["S3"], host.rig.clock.now())
        assert {copy.backend: str(copy.state) for copy in found.segment.copies}["S3"] == "pending"


def new_of(segment: Segment) -> NewSegment:
    """The same file, seen again."""
    camera = Camera(id=segment.camera_id, name="gate", folder="gate")
    return NewSegment(camera=camera, span=segment.span, source=segment.source)


@jumping
async def test_a_camera_without_any_footage_is_not_believed_while_its_recorder_is_away(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path) as host:
        segments = await held(host, 3)
        await host.rig.pruner(timedelta(0), required=(NAME,)).run_once()
        before = list(host.vms.held[device_of(segments[0].camera_id)])
        host.loses(*segments)
        host.vms.unreadable.add(device_of(segments[0].camera_id))
        for _ in range(6):
            await two_rounds(host)
        host.vms.unreadable.clear()
        host.vms.storage_available = False
        await passing(timedelta(minutes=10))
        for _ in range(6):
            await two_rounds(host)
        assert await host.verified(*segments) and host.rig.told(EventKind.LOST) == []
        host.vms.record(device_of(segments[0].camera_id), *before)
        host.vms.storage_available = True
        await two_rounds(host)
        assert await host.verified(*segments)


@jumping
async def test_footage_that_is_back_at_the_second_answer_was_never_gone(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        (segment,) = await held(host, 1)
        host.loses(segment)
        await host.proof.review.run_once()
        host.holds(segment)
        await two_rounds(host)
        assert await host.verified(segment)


@jumping
async def test_a_camera_that_is_mapped_to_another_one_today_has_lost_nothing(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segments = await held(host, 2)
        await host.rig.pruner(timedelta(0), required=(NAME,)).run_once()
        for changed in ({segments[0].camera_id: UUID(int=99)}, {}):
            host.mapping.others = changed
            await two_rounds(host)
            assert await host.verified(*segments)
        host.mapping.unknown.add(segments[0].camera_id)
        await two_rounds(host)
        assert await host.verified(*segments)


@jumping
async def test_nothing_is_asked_or_believed_while_the_site_is_away(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segments = await held(host, 3)
        host.loses(*segments)
        await host.proof.review.run_once()
        host.vms.away = BackendUnavailable("no route to host")
        for _ in range(5):
            await two_rounds(host)
        assert await host.verified(*segments)


@jumping
async def test_the_walk_comes_to_every_camera_and_day_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        cameras = [f"camera{number}" for number in range(6)]
        segments = [await host.rig.recorded(0, each) for each in cameras]
        host.holds(*segments)
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
        host.vms.calls.clear()
        await host.proof.review.run_once()
        first = {device for device, _ in host.vms.asked()}
        assert 0 < len(first) < 6
        vms, clock = host.vms, host.rig.clock
    async with proven(tmp_path, vms=vms, clock=clock) as host:
        await host.proof.review.run_once()
        assert {device for device, _ in host.vms.asked()} == {device_of(each.camera_id) for each in segments}


# Help


async def gaps_of(host: Proven, *segments: Segment) -> None:
    """XProtect does not hold them, and their deadline is over."""

    async def all_gaps() -> bool:
        return set(await host.states(*segments)) == {"gap"}

    async with host.running():
        await eventually(all_gaps, "gaps")


async def held(host: Proven, count: int) -> list[Segment]:
    """XProtect holds them, and was shown to."""
    segments = [await host.rig.recorded(number * 30) for number in range(count)]
    host.holds(*segments)
    async with host.running():
        await eventually(lambda: host.verified(*segments), "verified")
    return segments


async def two_rounds(host: Proven) -> None:
    """Enough for two answers, one later than the other."""
    for _ in range(2):
        await host.proof.review.run_once()
        await passing(CONFIRM_AFTER + SOON)
    await host.proof.review.run_once()
