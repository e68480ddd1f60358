"""Retention at work: what is too old goes everywhere, what may not stays, and what surprises is stopped."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.errors import NotFound
from cctv_storaged.events import EventKind
from cctv_storaged.journal.deletions import Cause, Deletions
from cctv_storaged.journal.exportrows import ExportRequest
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.retention import Spares
from cctv_storaged.model import (
    Camera,
    FileIdentity,
    NewSegment,
    Segment,
    SourceFile,
    TimeSpan,
    camera_id_for,
)
from cctv_storaged.pins import Pins
from cctv_storaged.removal import Remover
from cctv_storaged.retention.rules import Clause, Policy, Rule
from cctv_storaged.retention.runs import WHOLE_S, Retention, RetentionParts
from tests.fakes.scripted_backend import Locked, Ok, Op, Rejected, ScriptedBackend, Unavailable
from tests.services.jumping import MIDNIGHT, eventually, jumping, passing
from tests.services.kill import Killed, left_behind
from tests.services.rig import DAY, HOST, Rig, opened

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GATE = Camera(id=camera_id_for(HOST, "gate"), name="gate", folder="gate")
OLD = 12 * HOUR


def at_most(limit: timedelta, **per_camera: Rule) -> Policy:
    return Policy(default=Rule(at_most=limit), per_camera=per_camera)


@dataclass(slots=True, kw_only=True)
class Kept:
    """Retention over a rig, with its guards in the test's hand."""

    rig: Rig
    retention: Retention
    remover: Remover
    alarms: Alarms
    pins: Pins
    distrust: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def alarm(self, name: AlarmName) -> str | None:
        return next((each.text for each in self.alarms.standing if each.name is name), None)

    async def is_gone(self, segment: Segment) -> bool:
        return await self.rig.journal.segments.by_id(segment.id) is None

    async def causes(self) -> list[tuple[str, str]]:
        always = TimeSpan(MIDNIGHT - 400 * DAY, MIDNIGHT + 400 * DAY)
        lines = await self.rig.journal.ledger.of_camera(GATE.id, always)
        return [(line.kind, line.cause) for line in lines]

    async def after(self, time: timedelta) -> None:
        await passing(time)
        await self.retention.run_once()

    async def old(self, hour: int, length: timedelta = HOUR) -> Segment:
        """A recorded file whose footage begins so many hours after midnight, with no copy to be delivered."""
        path = self.rig.recordings / "gate" / f"{hour:06}.ts"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"footage of hour {hour}".encode())
        status = path.stat()
        identity = FileIdentity(
            device=status.st_dev, inode=status.st_ino, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns
        )
        start = MIDNIGHT + hour * HOUR
        source = SourceFile(root=str(self.rig.recordings), path=f"gate/{path.name}", identity=identity)
        new = NewSegment(camera=GATE, span=TimeSpan(start, start + length), source=source)
        return (await self.rig.journal.segments.record(new, (), self.rig.clock.now())).segment


def keeping(rig: Rig, policy: Policy) -> Kept:
    alarms, pins = Alarms(rig.metrics, rig.hub, rig.clock), Pins()
    remover = Remover(rig.journal, rig.backends, rig.clock, rig.metrics, rig.hub, tuple(rig.deliveries), pins)
    distrust: list[str] = []
    trouble: list[str] = []
    unknown: list[str] = []
    parts = RetentionParts(
        rows=rig.journal.retention,
        deletions=rig.journal.deletions,
        remover=remover,
        pins=pins,
        clock=rig.clock,
        alarms=alarms,
        distrust=lambda: next(iter((*distrust, *unknown)), None),
        holds_unknown=lambda: unknown[0] if unknown else None,
        trouble=lambda: trouble[0] if trouble else None,
    )
    return Kept(
        rig=rig,
        retention=Retention(parts, policy),
        remover=remover,
        alarms=alarms,
        pins=pins,
        distrust=distrust,
        trouble=trouble,
        unknown=unknown,
    )


async def delivered(rig: Rig, count: int, *backends: ScriptedBackend) -> list[Segment]:
    """So many segments, verified everywhere."""
    segments = [await rig.recorded(number) for number in range(count)]
    async with rig.delivering(*(rig.delivery(backend) for backend in backends)):
        for backend in backends:
            await eventually(partial(rig.all_verified, *segments, backend=backend.name), "all verified")
    return segments


# What goes


@jumping
async def test_what_is_past_at_most_goes_everywhere_and_the_ledger_says_why(tmp_path: Path) -> None:
    here, there = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, here, there) as rig:
        segments = await delivered(rig, 3, here, there)
        undelivered = await rig.recorded(3)
        kept = keeping(rig, at_most(OLD))
        await kept.retention.run_once()
        for segment in (*segments, undelivered):
            assert await kept.is_gone(segment)
            assert not rig.source(segment).exists()
        assert here.objects == there.objects == {}
        assert set(await kept.causes()) == {(Kind.DELETED, Cause.AT_MOST)}
        assert rig.metric("storage_segments_deleted_total", backend="S3") == 3
        [event] = rig.told(EventKind.DELETED)
        assert event.camera_id == GATE.id


@jumping
async def test_the_boundary_is_met_by_the_pass_after_it_and_by_none_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        segment = await rig.recorded(0)
        age = rig.clock.now() - segment.span.end
        kept = keeping(rig, at_most(age + 10 * MINUTE))
        await kept.after(9 * MINUTE)
        assert not await kept.is_gone(segment)
        assert rig.source(segment).exists()
        await kept.after(MINUTE + timedelta(seconds=1))
        assert await kept.is_gone(segment)


@jumping
async def test_cameras_have_their_own_rules_and_none_without_at_most_loses_anything(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        short, unlimited = await rig.recorded(0, "gate"), await rig.recorded(0, "vault")
        policy = at_most(OLD, vault=Rule(at_least=HOUR, desired=2 * HOUR))
        kept = keeping(rig, policy)
        await kept.retention.run_once()
        assert await kept.is_gone(short)
        assert not await kept.is_gone(unlimited)


@jumping
async def test_a_rule_that_is_no_cameras_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name, or misspelt: the default counts, and would delete what somebody believes to be kept."""
    async with opened(tmp_path) as rig:
        await rig.recorded(0, "gate")
        kept = keeping(rig, at_most(2000 * DAY, gate=Rule(), gaet=Rule(at_least=DAY)))
        await kept.retention.run_once()
        await kept.after(5 * MINUTE)
        assert [each.message for each in caplog.records if "per_camera" in each.message] == [
            "retention.per_camera names 'gaet': no camera has that id or folder, and nothing is kept by it"
        ]


@jumping
async def test_a_pass_takes_what_expired_since_and_a_whole_one_what_was_let_go_of(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(OLD))
        await kept.retention.run_once()
        segment = await rig.recorded(0)
        with kept.pins.reading(segment.id):
            await kept.after(timedelta(seconds=WHOLE_S))
            assert not await kept.is_gone(segment), "somebody reads it"
        await kept.after(5 * MINUTE)
        assert not await kept.is_gone(segment), "what is old is looked at in every hour"
        await kept.after(timedelta(seconds=WHOLE_S))
        assert await kept.is_gone(segment)


# What stays


@jumping
async def test_held_footage_stays_until_it_is_released(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        held, free = await delivered(rig, 2, backend)
        await rig.hold(held)
        kept = keeping(rig, at_most(OLD))
        await kept.retention.run_once()
        assert await kept.is_gone(free)
        assert await rig.state(held) == "verified"
        [camera] = await kept.retention.preview()
        assert camera.weights.held.segments == 1
        await rig.release(held.id)
        await kept.after(timedelta(seconds=WHOLE_S))
        assert await kept.is_gone(held)


@pytest.mark.parametrize("guard", ["distrust", "trouble"])
@jumping
async def test_nothing_goes_by_its_age_while_the_clock_or_a_disk_is_not_trusted(
    tmp_path: Path, guard: str
) -> None:
    """T-31, with the guards' own part shown where they are tested."""
    async with opened(tmp_path) as rig:
        segment = await rig.recorded(0)
        kept = keeping(rig, at_most(OLD))
        reasons: list[str] = getattr(kept, guard)
        reasons.append("the wall clock jumped by +400 d")
        await kept.after(2 * HOUR)
        assert kept.retention.waiting == reasons[0]
        assert not await kept.is_gone(segment)
        assert rig.source(segment).exists()
        reasons.clear()
        await kept.after(5 * MINUTE)
        assert await kept.is_gone(segment)


@jumping
async def test_a_guard_that_speaks_up_in_the_middle_of_a_pass_ends_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        segments = [await rig.recorded(number, camera) for number in range(2) for camera in ("a", "b")]
        kept = keeping(rig, at_most(OLD))
        really_delete = kept.remover.delete_many

        async def then_the_clock_jumps(ids: list[UUID], cause: Cause) -> list[Segment]:
            kept.distrust.append("it jumped")
            return await really_delete(ids, cause)

        kept.remover.delete_many = then_the_clock_jumps  # type: ignore[method-assign,assignment]
        await kept.retention.run_once()
        gone = [await kept.is_gone(each) for each in segments]
        assert sum(gone) == 2, "of the first camera alone"


@jumping
async def test_footage_that_a_wrong_clock_named_is_spared_by_a_pass(tmp_path: Path) -> None:
    """T-31: a week that was recorded under a clock 400 days behind is no year old once that is right."""
    async with opened(tmp_path) as rig:
        misdated, old = await rig.recorded(0), await rig.recorded(1)
        kept = keeping(rig, at_most(OLD))
        kept.retention._parts = replace(
            kept.retention._parts, spares=lambda end, limit: end == misdated.span.end and limit == OLD
        )
        await kept.retention.run_once()
        assert await kept.is_gone(old)
        assert not await kept.is_gone(misdated)
        assert rig.source(misdated).exists()


@jumping
async def test_a_rule_that_is_changed_in_the_middle_of_a_pass_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody sees what goes, and makes the rule longer: nothing more goes by the shorter one."""
    async with opened(tmp_path) as rig:
        segments = [await rig.recorded(number, camera) for number in range(2) for camera in ("a", "b")]
        kept = keeping(rig, at_most(OLD))
        weigh_first = kept.retention._stops

        async def then_it_is_longer(*args: Any) -> bool:
            stops = await weigh_first(*args)
            kept.retention.change(at_most(2000 * DAY))
            return stops

        monkeypatch.setattr(kept.retention, "_stops", then_it_is_longer)
        await kept.retention.run_once()
        assert not any([await kept.is_gone(each) for each in segments])


@jumping
async def test_a_rule_that_is_shortened_in_the_middle_of_a_pass_ends_no_export_unweighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as rig:
        await rig.recorded(0, "a")
        kept = keeping(rig, at_most(2000 * DAY))
        cutoffs: list[datetime] = []
        really_end, weigh_first = rig.journal.retention.end_exports, kept.retention._stops

        async def end_exports(
            moments: Mapping[UUID, datetime], after: int, now: datetime, spares: Spares
        ) -> int | None:
            cutoffs.extend(moments.values())
            return await really_end(moments, after, now, spares)

        async def then_it_is_shorter(*args: Any) -> bool:
            stops = await weigh_first(*args)
            kept.retention.change(at_most(OLD))
            return stops

        monkeypatch.setattr(rig.journal.retention, "end_exports", end_exports)
        monkeypatch.setattr(kept.retention, "_stops", then_it_is_shorter)
        await kept.retention.run_once()
        assert all(cutoff < rig.clock.now() - 1999 * DAY for cutoff in cutoffs)
        cutoffs.clear()
        await kept.after(5 * MINUTE)
        assert cutoffs, "once it was weighed"


@jumping
async def test_what_a_backend_locks_is_kept_and_reported_and_holds_up_nothing(tmp_path: Path) -> None:
    """Its source, its other copies and all other footage go; it is tried again after a day."""
    here, there = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, here, there) as rig:
        segments = await delivered(rig, 3, here, there)
        locked = segments[1]
        path = (await rig.copy(locked)).path
        there.rule = lambda call: Locked() if call.op is Op.DELETE and call.path == path else Ok()
        kept = keeping(rig, at_most(OLD))
        await kept.retention.run_once()
        assert [await kept.is_gone(each) for each in segments] == [True, False, True]
        assert not rig.source(locked).exists()
        assert here.objects == {}
        assert set(there.objects) == {path}
        [reported] = (await rig.journal.deletions.kept(10, None)).kept
        assert (reported.segment.id, reported.cause) == (locked.id, Cause.AT_MOST)
        assert "1 segments" in (kept.alarm(AlarmName.AT_MOST) or "")
        tries = there.count(Op.DELETE)
        await passing(20 * HOUR)
        await kept.remover.run_once()
        assert there.count(Op.DELETE) == tries, "not before a day is over"
        there.recover()
        await passing(5 * HOUR)
        await kept.remover.run_once()
        assert await kept.is_gone(locked)
        await kept.retention.run_once()
        assert kept.alarm(AlarmName.AT_MOST) is None


@jumping
async def test_what_cannot_be_deleted_for_an_hour_sounds_an_alarm_until_it_can(tmp_path: Path) -> None:
    """A key without the right to delete: nothing is locked, and it would stay for ever in silence."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, 1, backend)
        kept = keeping(rig, at_most(OLD))
        backend.always(Rejected(), Op.DELETE)
        await kept.retention.run_once()
        await kept.after(5 * MINUTE)
        assert kept.alarm(AlarmName.AT_MOST) is None, "it may pass"
        await kept.after(HOUR)
        alarm = kept.alarm(AlarmName.AT_MOST)
        assert alarm is not None
        assert alarm.startswith("1 segments")
        backend.recover()
        await passing(HOUR)
        await kept.remover.run_once()
        assert await kept.is_gone(segment)
        await kept.after(5 * MINUTE)
        assert kept.alarm(AlarmName.AT_MOST) is None


@jumping
async def test_passes_that_wait_for_an_hour_to_know_the_holds_sound_an_alarm_until_they_do(
    tmp_path: Path,
) -> None:
    """The store is away since the start: nothing else would say that retention stands still."""
    async with opened(tmp_path) as rig:
        segment = await rig.recorded(0)
        kept = keeping(rig, at_most(OLD))
        kept.unknown.append("the store could not be asked yet which holds are in force")
        await kept.after(2 * HOUR)
        assert kept.alarm(AlarmName.AT_MOST) is None, "it may answer soon"
        await kept.after(HOUR)
        assert kept.unknown[0] in (kept.alarm(AlarmName.AT_MOST) or "")
        assert not await kept.is_gone(segment)
        kept.unknown.clear()
        await kept.after(5 * MINUTE)
        assert kept.alarm(AlarmName.AT_MOST) is None
        assert await kept.is_gone(segment)


@jumping
async def test_kept_segments_are_tried_again_though_the_clock_was_set_back_and_no_other_waits(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await delivered(rig, 4, backend)
        backend.always(Locked(), Op.DELETE)
        kept = keeping(rig, at_most(OLD))
        await kept.remover.delete_many([each.id for each in segments[:3]], Cause.AT_MOST)
        backend.always(Unavailable(), Op.DELETE)
        await kept.remover.delete_many([segments[3].id], Cause.AT_MOST)
        await passing(MINUTE)
        due = await rig.journal.deletions.unfinished(2, rig.clock.now())
        assert [each.id for each in due] == [segments[3].id], "kept ones are behind it, and not due"
        rig.clock.advance(-30 * DAY)
        due = await rig.journal.deletions.unfinished(10, rig.clock.now())
        assert {each.id for each in due} == {each.id for each in segments}


@jumping
async def test_a_copy_at_a_backend_that_is_not_configured_any_more_is_reported(tmp_path: Path) -> None:
    former, today = ScriptedBackend("S3"), ScriptedBackend("MINIO")
    async with opened(tmp_path, former) as rig:
        (segment,) = await delivered(rig, 1, former)
    async with opened(tmp_path, today) as rig:
        kept = keeping(rig, at_most(OLD))
        await kept.retention.run_once()
        assert not rig.source(segment).exists()
        assert former.objects, "nobody can delete it"
        [reported] = (await rig.journal.deletions.kept(10, None)).kept
        assert reported.segment.id == segment.id
        assert kept.alarm(AlarmName.AT_MOST) is not None


@jumping
async def test_a_kill_between_tombstone_and_bytes_keeps_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        (segment,) = await delivered(rig, 1, backend)
        kept = keeping(rig, at_most(OLD))

        async def killed(paths: object) -> None:
            raise Killed

        monkeypatch.setattr(backend, "delete_many", killed)
        with pytest.raises(Killed):
            await kept.retention.run_once()
        await rig.journal.alive()
        left_behind(tmp_path / "data", tmp_path / "killed")
    monkeypatch.undo()
    async with opened(tmp_path, backend, data="killed") as rig:
        rig.delivery(backend)
        kept = keeping(rig, at_most(1000 * DAY))
        await kept.remover.run_once()
        assert await kept.is_gone(segment)
        assert backend.objects == {}
        assert await kept.causes() == [(Kind.DELETED, Cause.AT_MOST)]


@jumping
async def test_a_stop_does_not_wait_for_a_store_that_hangs_and_the_next_start_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, asked, batches = ScriptedBackend(), asyncio.Event(), 0
    async with opened(tmp_path, backend) as rig:
        segments = await delivered(rig, 2, backend)
        kept = keeping(rig, at_most(OLD))

        async def hangs(paths: object) -> None:
            nonlocal batches
            batches += 1
            if batches == 2:
                asked.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(Deletions, "slice", 1)
        monkeypatch.setattr(backend, "delete_many", hangs)
        passing = asyncio.create_task(kept.retention.run_once())
        await asked.wait()
        passing.cancel()
        await asyncio.wait([passing], timeout=3600)  # of a clock that jumps
        assert passing.cancelled()
        monkeypatch.undo()
        await kept.remover.run_once()
        assert all([await kept.is_gone(each) for each in segments]) and backend.objects == {}
        assert await kept.causes() == [(Kind.DELETED, Cause.AT_MOST)] * 2


# The brake


@jumping
async def test_a_shortened_rule_waits_for_a_yes(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(20 * DAY))
        rig.clock.advance(10 * DAY)
        segments = [await kept.old(hour) for hour in range(0, 240, 2)]
        await kept.retention.run_once()
        kept.retention.change(at_most(5 * DAY))
        await kept.after(5 * MINUTE)
        assert not any([await kept.is_gone(each) for each in segments])
        alarm = kept.alarm(AlarmName.BRAKE)
        assert alarm is not None
        assert "segments" in alarm and "days of footage" in alarm
        assert f"cctv-storaged retention confirm {GATE.id}" in alarm
        [camera] = await kept.retention.preview()
        assert camera.stops
        with pytest.raises(NotFound):
            await kept.retention.confirm(uuid4(), None, "test")
        assert await kept.retention.confirm(GATE.id, None, "test") == [GATE.id]
        await kept.after(5 * MINUTE)
        cutoff = rig.clock.now() - 5 * DAY
        assert [await kept.is_gone(each) for each in segments] == [
            each.span.end <= cutoff for each in segments
        ]
        assert kept.alarm(AlarmName.BRAKE) is None
        noted = await rig.journal._store.read(
            lambda db: db.execute("SELECT cause FROM ledger WHERE kind = 'noted'").fetchall()
        )
        assert ("brake_confirmed",) in noted


@jumping
async def test_a_rule_that_is_changed_back_ends_the_brake(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(20 * DAY))
        rig.clock.advance(10 * DAY)
        for hour in range(0, 240, 2):
            await kept.old(hour)
        await kept.retention.run_once()
        kept.retention.change(at_most(5 * DAY))
        await kept.after(5 * MINUTE)
        assert kept.retention.stopped
        kept.retention.change(at_most(20 * DAY))
        await kept.after(5 * MINUTE)
        assert not kept.retention.stopped
        assert kept.alarm(AlarmName.BRAKE) is None


@jumping
async def test_old_footage_that_turns_up_waits_for_a_yes(tmp_path: Path) -> None:
    """T-32: adopted from a disk or another host's rows, most of a camera would go at once."""
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(5 * DAY))
        rig.clock.advance(10 * DAY)
        await kept.retention.run_once()
        fresh = [await kept.old(hour) for hour in range(180, 240, 2)]
        adopted = [await kept.old(hour) for hour in range(0, 100, 2)]
        await kept.after(timedelta(seconds=WHOLE_S))
        assert not any([await kept.is_gone(each) for each in (*fresh, *adopted)])
        assert kept.alarm(AlarmName.BRAKE) is not None


@jumping
async def test_a_wrong_clock_that_comes_to_be_trusted_waits_for_a_yes_in_any_pass(tmp_path: Path) -> None:
    """T-31: a time server that is wrong by 400 days convinces everybody but the clock that only grows."""
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(20 * DAY))
        rig.clock.advance(10 * DAY)
        segments = [await kept.old(hour) for hour in range(0, 240, 2)]
        await kept.retention.run_once()
        rig.clock.advance(400 * DAY)
        await kept.after(10 * MINUTE)
        assert not any([await kept.is_gone(each) for each in segments])
        assert kept.alarm(AlarmName.BRAKE) is not None


@jumping
async def test_a_clock_that_was_doubted_while_the_daemon_was_down_explains_nothing(tmp_path: Path) -> None:
    """A reboot into a year that never was, which a time server confirms."""
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(20 * DAY))
        rig.clock.advance(10 * DAY)
        segments = [await kept.old(hour) for hour in range(0, 240, 2)]
        await kept.retention.run_once()
    clock = rig.clock
    clock.advance(400 * DAY)
    async with opened(tmp_path, clock=clock) as rig:
        kept = keeping(rig, at_most(20 * DAY))
        since = clock.now()
        kept.retention._parts = replace(kept.retention._parts, trusted_from=lambda: since)
        await kept.after(10 * MINUTE)
        assert not any([await kept.is_gone(each) for each in segments])
        assert kept.alarm(AlarmName.BRAKE) is not None


@jumping
async def test_what_expires_day_by_day_is_never_stopped_not_even_after_weeks_off(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(5 * DAY))
        segments = [await kept.old(hour, length=12 * HOUR) for hour in range(24, 120, 12)]
        await kept.retention.run_once()
    clock = rig.clock
    clock.advance(20 * DAY)
    async with opened(tmp_path, clock=clock) as rig:
        kept = keeping(rig, at_most(5 * DAY))
        await kept.retention.run_once()
        assert all([await kept.is_gone(each) for each in segments])
        assert kept.alarm(AlarmName.BRAKE) is None


# Looking ahead


@jumping
async def test_a_preview_counts_to_the_segment_what_a_pass_would_delete_and_deletes_nothing(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as rig:
        rig.clock.advance(10 * DAY)
        kept = keeping(rig, at_most(400 * DAY))
        segments = [await kept.old(hour) for hour in range(0, 240, 4)]
        await rig.hold(segments[0])
        await rig.hold(segments[40])  # past at_least alone
        rule = Rule(at_least=2 * DAY, desired=4 * DAY, at_most=9 * DAY)
        with kept.pins.reading(segments[1].id):
            [camera] = await kept.retention.preview(Policy(default=rule, per_camera={}))
        weights, now = camera.weights, rig.clock.now()
        past = [each for each in segments[2:] if each.span.end <= now - 9 * DAY]
        assert weights.of(Clause.AT_MOST).segments == len(past)
        assert weights.of(Clause.AT_MOST).bytes == sum(each.size_bytes for each in past)
        assert weights.of(Clause.AT_MOST).days == pytest.approx(len(past) / 24)
        assert (weights.held.segments, weights.pinned.segments) == (2, 1), "past whichever limit"
        assert await kept.causes() == []
        kept.retention.change(Policy(default=rule, per_camera={}))
        await kept.after(MINUTE)
        gone = [await kept.is_gone(each) for each in segments]
        assert sum(gone) == len(past) + 1, "nobody reads the second any more"


@jumping
async def test_footage_that_an_export_waits_for_stays_past_its_rule_until_the_export_has_ended(
    tmp_path: Path,
) -> None:
    store = ScriptedBackend("S3")
    async with opened(tmp_path, store) as rig:
        [segment] = await delivered(rig, 1, store)
        request = ExportRequest(camera_ids=(GATE.id,), span=segment.span, format="mkv", reason="police")
        export = await rig.journal.exports.add(uuid4(), request, 9, None, rig.clock.now())
        assert export is not None
        kept = keeping(rig, at_most(OLD))
        await kept.after(OLD + HOUR)
        assert not await kept.is_gone(segment)
        await rig.journal.exports.delete(export.id, rig.clock.now())
        await kept.after(HOUR)
        assert await kept.is_gone(segment)


@jumping
async def test_what_an_export_waits_for_for_days_sets_off_no_brake_for_the_rest(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(12 * DAY))
        rig.clock.advance(10 * DAY)
        segments = [await kept.old(hour) for hour in range(60)]
        await kept.retention.run_once()
        wanted = TimeSpan(segments[0].span.start, segments[40].span.end)
        request = ExportRequest(camera_ids=(GATE.id,), span=wanted, format="mkv", reason="police")
        await rig.journal.exports.add(uuid4(), request, 9, None, rig.clock.now())
        for _ in range(5 * 6):
            await kept.after(4 * HOUR)
        assert kept.alarm(AlarmName.BRAKE) is None
        gone = [await kept.is_gone(each) for each in segments]
        assert gone == [False] * 41 + [True] * 19
        [weights] = [each.weights for each in await kept.retention.preview()]
        assert (weights.pinned.segments, weights.of(Clause.AT_MOST).segments) == (41, 0)
