"""Footage whose name is in doubt ages from its registration: an unset clock deletes nothing early."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from cctv_storaged.alarms import AlarmName
from cctv_storaged.capacity.ageing import Ageing, AgeingParts
from cctv_storaged.capacity.stages import NOTHING_LEFT, expired_before
from cctv_storaged.ingest import Outcome
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.exportrows import Export, ExportFile, ExportRequest, ExportResult
from cctv_storaged.model import Segment, SegmentFlag
from cctv_storaged.retention.rules import Clause, Policy
from cctv_storaged.retention.runs import WHOLE_S
from tests.fakes.fakecam import unique
from tests.fakes.scripted_backend import ScriptedBackend
from tests.footage import cached_ts
from tests.integration.test_retention import HOUR, MINUTE, OLD, at_most, keeping
from tests.services.jumping import eventually, jumping, passing
from tests.services.rig import DAY, STEP, Rig, opened

UNSET = datetime(2001, 1, 1, tzinfo=UTC)
"""Where a recorder's clock begins that nobody has set."""


async def recorded(rig: Rig, number: int, *, closed: datetime, named: datetime = UNSET) -> Segment:
    """A file named after `named` and closed at the moment given."""
    path = rig.recordings / f"gate/{named + STEP * number:%Y-%m-%d/%H-%M-%S}.ts"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(unique(cached_ts(seconds=1.0).read_bytes(), f"{named} {number}"))
    os.utime(path, ns=(0, int(closed.timestamp()) * 10**9))
    outcome = await rig.ingest.consider(rig.root, str(path.relative_to(rig.recordings)), lambda found: True)
    assert outcome is Outcome.REGISTERED
    return rig.registered[-1]


async def recorded_now(rig: Rig, count: int) -> list[Segment]:
    """By a recorder whose clock was never set."""
    segments = [await recorded(rig, number, closed=rig.clock.now()) for number in range(count)]
    assert all(SegmentFlag.TIME_SUSPECT in each.flags for each in segments)
    return segments


async def exported(rig: Rig, segment: Segment) -> Export:
    """An export of it, ready, that may be had for a week."""
    ids, span, now = (segment.camera_id,), segment.span, rig.clock.now()
    request = ExportRequest(camera_ids=ids, span=span, format="mkv", reason="police")
    export = await rig.journal.exports.add(uuid4(), request, 9, None, now)
    assert export is not None
    await rig.journal.exports.begin(export.id)
    file = ExportFile(
        name="n", camera_id=segment.camera_id, span=span, size_bytes=1, sha256="00" * 32, codec="h264"
    )
    result = ExportResult(
        path="p",
        manifest_path="m",
        file_name="n",
        media_type="video/mp4",
        size_bytes=1,
        sha256="00" * 32,
        segments=1,
        files=(file,),
        files_total=1,
        gaps=(),
        gaps_total=0,
    )
    assert await rig.journal.exports.complete(export.id, result, now, now + 7 * DAY)
    return export


async def has_ended(rig: Rig, export: Export) -> bool:
    found = await rig.journal.exports.by_id(export.id)
    assert found is not None and found.expires_at is not None
    return found.expires_at <= rig.clock.now()


def ageing(rig: Rig, policy: Policy) -> Ageing:
    kept = keeping(rig, policy)
    parts = AgeingParts(
        rows=rig.journal.capacity,
        remover=kept.remover,
        pins=kept.pins,
        clock=rig.clock,
        distrust=lambda: None,
        spares=lambda end, limit: False,
    )
    cause = Cause.EXPIRED
    return Ageing(parts, "S3", lambda: policy, cutoff=expired_before, cause=cause, by_priority=False)


@jumping
async def test_a_recorder_whose_clock_was_never_set_keeps_what_it_records_for_the_rules_time(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(OLD))
        await kept.retention.run_once()
        segments = await recorded_now(rig, 20)
        [preview] = await kept.retention.preview()
        assert preview.weights.of(Clause.AT_MOST).segments == 0, "a look ahead says the same"
        await kept.after(timedelta(seconds=WHOLE_S))
        assert not any([await kept.is_gone(each) for each in segments])
        assert all(rig.source(each).exists() for each in segments)
        await passing(OLD - 2 * HOUR)
        [preview] = await kept.retention.preview()
        assert preview.weights.of(Clause.AT_MOST).segments == 0
        await kept.after(2 * HOUR)
        assert all([await kept.is_gone(each) for each in segments]), "its time is over, by the host's clock"
        assert kept.alarm(AlarmName.BRAKE) is None


@jumping
async def test_what_stays_by_its_registration_holds_up_nothing_behind_it(tmp_path: Path) -> None:
    """It stands before all others by its name: slices of it are passed over, and what is old goes."""
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(OLD))
        old = await rig.recorded(0)
        segments = await recorded_now(rig, 60)  # more than a slice
        await kept.retention.run_once()
        assert await kept.is_gone(old)
        assert not any([await kept.is_gone(each) for each in segments])


@jumping
async def test_room_takes_what_its_registration_says_is_old_and_nothing_younger(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await recorded_now(rig, 3)
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: rig.all_verified(*segments), "all verified")
        taken = await ageing(rig, at_most(OLD)).take(64, 10**9)
        assert (taken.segments, taken.why) == (0, NOTHING_LEFT)
        await passing(OLD + MINUTE)
        taken = await ageing(rig, at_most(OLD)).take(64, 10**9)
        assert {each.id for each in taken.gone} == {each.id for each in segments}


@jumping
async def test_old_footage_that_is_copied_back_stays_where_its_times_were_not_kept(tmp_path: Path) -> None:
    """For the police, say. With its times (`cp -p`) it is what its name says, and needs a hold first."""
    async with opened(tmp_path) as rig:
        kept, named = keeping(rig, at_most(OLD)), rig.clock.now() - 10 * OLD
        copied = await recorded(rig, 0, named=named, closed=rig.clock.now())
        restored = await recorded(rig, 1, named=named, closed=named + 2 * STEP)
        await kept.retention.run_once()
        assert not await kept.is_gone(copied)
        assert rig.source(copied).exists()
        assert await kept.is_gone(restored)


@jumping
async def test_an_export_of_footage_that_stays_by_its_registration_stays_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(OLD))
        [young] = await recorded_now(rig, 1)
        old = await rig.recorded(0)
        stays, ends = await exported(rig, young), await exported(rig, old)
        await kept.retention.run_once()
        assert [await has_ended(rig, each) for each in (stays, ends)] == [False, True]
        await kept.after(OLD + HOUR)
        assert await has_ended(rig, stays), "with its footage"


@jumping
async def test_an_export_of_footage_that_a_wrong_clock_named_stays_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        kept = keeping(rig, at_most(OLD))
        misdated, old = await rig.recorded(0), await rig.recorded(400)
        stays, ends = await exported(rig, misdated), await exported(rig, old)
        kept.retention._parts = replace(
            kept.retention._parts, spares=lambda end, limit: end <= misdated.span.end and limit == OLD
        )
        await kept.retention.run_once()
        assert not await kept.is_gone(misdated)
        assert [await has_ended(rig, each) for each in (stays, ends)] == [False, True]
