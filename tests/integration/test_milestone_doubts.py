"""What XProtect shows, and why it may prove nothing: another camera's, another site's, by another clock."""

import os
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.errors import BackendUnavailable, JournalFull
from cctv_storaged.events import EventKind
from cctv_storaged.journal.vouched import Held
from cctv_storaged.model import Segment, SegmentFlag
from cctv_storaged.vms.paths import milestone_path, parse_milestone_path
from tests.fakes.scripted_vms import SITE
from tests.services.jumping import eventually, jumping, passing
from tests.services.proving import NAME, Proven, device_of, proven, settings

SOON = timedelta(minutes=1)
ROUND = timedelta(minutes=11)
OTHER = UUID(int=4711)
NOW = timedelta(0)


# Who can be asked


@jumping
async def test_a_recorder_that_is_away_keeps_its_own_sources_and_no_others(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        gate = [await host.rig.recorded(number, "gate") for number in range(20)]
        yard = [await host.rig.recorded(number, "yard") for number in range(20)]
        await held(host, *gate, at=host.rig.clock.now() - timedelta(minutes=20))
        await held(host, *yard, at=host.rig.clock.now() - timedelta(minutes=19))
        host.vms.recorders_away.add(device_of(gate[0].camera_id))
        pruner = host.rig.pruner(NOW, required=(NAME,))
        assert await pruner.run_once() == 20
        assert all(host.rig.source(each).exists() for each in gate) and await host.verified(*gate)
        assert host.vms.count("recorded") <= 12, "whoever did not answer is not asked for each segment"


@jumping
async def test_making_room_goes_past_what_a_recorder_that_is_away_keeps(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        gate = [await host.rig.recorded(number, "gate") for number in range(10)]
        yard = [await host.rig.recorded(number, "yard") for number in range(10)]
        await held(host, *gate, *yard)
        host.vms.recorders_away.add(device_of(gate[0].camera_id))
        early = await host.rig.pruner(NOW, required=(NAME,)).prune_early([each.id for each in (*gate, *yard)])
        assert {each.id for each in early.pruned} == {each.id for each in yard} and early.why is None


@jumping
async def test_a_site_that_is_away_ends_the_pass(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segments = [await host.rig.recorded(number) for number in range(30)]
        await held(host, *segments)
        host.vms.away = BackendUnavailable("no route to host")
        early = await host.rig.pruner(NOW, required=(NAME,)).prune_early([each.id for each in segments])
        assert early.pruned == () and "cannot be asked" in (early.why or "")
        assert host.vms.count("site") + host.vms.count("recorded") <= 3
        host.vms.away = None
        await passing(SOON)
        assert await host.rig.pruner(NOW, required=(NAME,)).run_once() == 30


@pytest.mark.parametrize("away", ["recorder", "storage"])
def test_an_empty_answer_for_a_recorder_or_storage_that_is_away_is_no_loss(tmp_path: Path, away: str) -> None:
    @jumping
    async def scenario() -> None:
        async with proven(tmp_path) as host:
            segments = [await host.rig.recorded(number) for number in range(10)]
            await held(host, *segments)
            host.loses(*segments)
            if away == "recorder":
                host.vms.unreadable.add(device_of(segments[0].camera_id))
            host.vms.storage_available = away != "storage"
            assert await host.rig.pruner(NOW, required=(NAME,)).run_once() == 0
            assert await host.verified(*segments)
            assert host.rig.metric("storage_errors_total", operation="verify", backend=NAME) == 0

    scenario()


@jumping
async def test_what_is_at_another_site_is_neither_pruned_nor_gone(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        kept, gone = await host.rig.recorded(0, "gate"), await host.rig.recorded(0, "yard")
        await held(host, kept, gone)
        assert len((await host.rig.pruner(NOW, required=(NAME,)).prune_early([gone.id])).pruned) == 1
        host.vms.site_id = OTHER  # the management server was set up anew, its cameras with it
        host.loses(kept, gone)
        await passing(2 * SOON)
        pruner = host.rig.pruner(NOW, required=(NAME,))
        assert await pruner.run_once() == 0
        await rounds(host, 3)
        assert await host.verified(kept, gone) and host.rig.told(EventKind.LOST) == []


# Whose footage it is


@jumping
async def test_cameras_that_were_taken_for_each_other_prove_nothing_once_that_is_corrected(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path, chosen=settings(deadline=timedelta(days=1))) as host:
        gate, yard = await host.rig.recorded(0, "gate"), await host.rig.recorded(0, "yard")
        theirs = {each.camera_id: device_of(each.camera_id) for each in (gate, yard)}
        host.mapping.others = {
            gate.camera_id: theirs[yard.camera_id],
            yard.camera_id: theirs[gate.camera_id],
        }
        host.vms.record(theirs[gate.camera_id], gate.span)  # and nothing of yard's
        async with host.running():
            await eventually(lambda: host.verified(yard), "proven by the gate's footage")
            host.mapping.others = {}
            # Of the yard's alone: the gate's may be proven, and go, this very moment.
            early = await host.rig.pruner(NOW, required=(NAME,)).prune_early([yard.id])
            assert early.pruned == () and host.rig.source(yard).exists()
            assert await host.states(yard) == ["pending"]
            await eventually(lambda: host.verified(gate), "by its own")
            assert await host.states(yard) == ["pending"]


@jumping
async def test_a_corrected_camera_is_proven_anew_where_there_is_a_source_and_followed_where_not(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path) as host:
        with_source, moved, left = [await host.rig.recorded(number * 30) for number in range(3)]
        await held(host, with_source, moved, left)
        pruned = await host.rig.pruner(NOW, required=(NAME,)).prune_early([moved.id, left.id])
        assert len(pruned.pruned) == 2
        host.mapping.others = {moved.camera_id: OTHER}
        host.vms.record(OTHER, moved.span)
        await host.proof.review.run_once()
        assert await host.states(with_source, moved, left) == ["stored", "verified", "verified"]
        assert await devices(host, moved, left) == [OTHER, device_of(left.camera_id)]
        await rounds(host, 3)
        assert await host.verified(moved, left) and host.rig.told(EventKind.LOST) == []


@jumping
async def test_a_camera_that_was_deleted_in_the_vms_is_lost_and_holds_up_nothing(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        gone, other = await host.rig.recorded(0, "gate"), await host.rig.recorded(0, "yard")
        await held(host, gone, other)
        pruner = host.rig.pruner(NOW, required=(NAME,))
        assert len((await pruner.prune_early([gone.id])).pruned) == 1
        host.vms.deleted.add(device_of(gone.camera_id))
        await host.proof.review.run_once()
        assert await host.verified(gone), "one answer is none"
        await rounds(host, 2)
        assert [each.segment_id for each in host.rig.told(EventKind.LOST)] == [gone.id]
        assert host.proof.proving.attendance.failing == frozenset() and await host.verified(other)


@jumping
async def test_a_user_that_sees_no_camera_any_more_has_lost_its_rights_and_no_footage(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segment = await host.rig.recorded(0)
        await held(host, segment)
        assert await host.rig.pruner(NOW, required=(NAME,)).run_once() == 1
        host.vms.deleted.add(device_of(segment.camera_id))
        await rounds(host, 4)
        assert await host.verified(segment) and host.rig.told(EventKind.LOST) == []


@jumping
async def test_a_source_whose_camera_was_deleted_in_the_vms_stays(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segment, other = await host.rig.recorded(0, "gate"), await host.rig.recorded(0, "yard")
        await held(host, segment, other)
        host.vms.deleted |= {device_of(segment.camera_id), device_of(other.camera_id)}
        pruner = host.rig.pruner(NOW, required=(NAME,))
        assert await pruner.run_once() == 0
        assert await host.verified(segment, other), "who sees no camera at all has lost its rights"
        host.vms.deleted.remove(device_of(other.camera_id))
        await passing(2 * SOON)
        early = await pruner.prune_early([segment.id, other.id])
        assert [each.id for each in early.pruned] == [other.id]
        assert host.rig.source(segment).exists() and await host.states(segment) == ["pending"]


@jumping
async def test_what_the_review_cannot_ask_holds_up_no_fresh_footage(tmp_path: Path) -> None:
    """Old footage is at a camera whose recorder is away; the camera's own is another one today."""
    async with proven(tmp_path) as host:
        old = await host.rig.recorded(0)
        await held(host, old)
        assert await host.rig.pruner(NOW, required=(NAME,)).run_once() == 1
        host.mapping.others = {old.camera_id: OTHER}
        host.vms.recorders_away.add(device_of(old.camera_id))
        host.vms.record(OTHER)
        for _ in range(4):
            await rounds(host, 1)
            assert host.proof.proving.attendance.may_ask(old.camera_id)


# When it was


@jumping
async def test_a_clock_that_is_not_ours_proves_nothing_and_is_told_until_it_is_right(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        proven_before, fresh = await host.rig.recorded(0), await host.rig.recorded(30)
        await held(host, proven_before)
        host.holds(fresh)
        host.vms.skew = timedelta(seconds=-10)
        async with host.running():
            proving = host.proof.proving
            await eventually(lambda: (proving.trouble or "").startswith("clock"), "it is told")
            await passing(timedelta(minutes=10))
            assert await host.states(fresh) == ["pending"] and proving.trouble is not None
            pruner = host.rig.pruner(NOW, required=(NAME,))
            assert await pruner.run_once() == 0 and host.rig.source(proven_before).exists()
            told = [each for each in host.rig.alerts() if "clock" in each]
            assert len(told) == 1, "and not with each try"
            host.vms.skew = timedelta(seconds=1)
            await eventually(lambda: host.verified(fresh), "verified")
        assert await host.rig.pruner(NOW, required=(NAME,)).run_once() == 2


@jumping
async def test_footage_whose_time_is_in_doubt_is_proven_by_nothing_and_stays(
    tmp_path: Path,
) -> None:
    chosen = settings("edge_retrieval", deadline=timedelta(hours=1))
    async with proven(tmp_path, chosen=chosen) as host:
        host.rig.write(0)
        path = host.rig.recordings / host.rig.path_of(0)
        closed = host.rig.clock.now() - timedelta(minutes=5)  # its name says long before
        os.utime(path, ns=(0, int(closed.timestamp()) * 10**9))
        segment = await host.rig.register(0)
        assert SegmentFlag.TIME_SUSPECT in segment.flags
        host.holds(segment)
        host.vms.edge = dict(host.vms.held)

        async def is_told(state: str) -> bool:
            copy = await host.rig.copy(segment, NAME)
            return copy.state == state and "in doubt" in (copy.error or "")

        async with host.running():
            await eventually(lambda: is_told("pending"), "it waits, and says why")
            await eventually(lambda: is_told("gap"), "told")
        await rounds(host, 3)
        assert await is_told("gap")
        assert host.vms.count("recorded") == host.vms.count("retrieve") == 0
        assert [each.subject for each in host.alarms.standing] == [str(segment.camera_id)]
        assert await host.rig.pruner(NOW, required=(NAME,)).run_once() == 0
        assert host.rig.source(segment).exists()


@jumping
async def test_a_clock_that_was_set_forward_ends_no_deadline(tmp_path: Path) -> None:
    async with proven(tmp_path, guarded=True) as host:  # the deadline is an hour
        host.rig.clock.advance(timedelta(minutes=-25))
        segment = await host.rig.recorded(0)
        async with host.running():
            await passing(SOON)
            host.rig.clock.advance(timedelta(days=1))
            await passing(timedelta(minutes=20))
            host.rig.clock.advance(timedelta(days=-1))
            await passing(SOON)
            assert await host.states(segment) == ["pending"] and host.vms.alarms == []


# What must not end the others' proving


class OddMapping:
    """It answers what nobody thought of."""

    async def device_of(self, camera_id: UUID) -> UUID | None:
        raise ValueError("odd")

    def why_not(self, camera_id: UUID) -> str | None:
        return None


@jumping
async def test_a_mapping_that_breaks_is_its_cameras_own_trouble(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segment = await host.rig.recorded(0)
        object.__setattr__(host.proof.proving._ground, "mapping", OddMapping())
        async with host.running():
            await passing(timedelta(minutes=5))
        assert await host.states(segment) == ["pending"]


@jumping
async def test_a_full_journal_while_a_changed_source_is_looked_at_ends_no_proving(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        await host.rig.recorded(0)
        host.rig.write(0, version=1)  # rewritten before it was hashed
        other = await host.rig.recorded(30)
        host.holds(other)
        looks = host.proof.proving._ground.look_again
        tries: list[Segment] = []

        async def full(segment: Segment) -> None:
            tries.append(segment)
            if len(tries) < 5:
                raise JournalFull("no room")
            await looks(segment)

        object.__setattr__(host.proof.proving._ground, "look_again", full)
        async with host.running():
            await eventually(lambda: len(tries) >= 5, "looked at once there was room")
            await eventually(lambda: host.verified(other), "the other's proof")


async def held(host: Proven, *segments: Segment, at: object = None) -> None:
    """XProtect holds them, and was shown to, as the journal has it."""
    host.holds(*segments)
    vouched, now = host.rig.journal.vouched, host.rig.clock.now() if at is None else at
    for each in segments:
        await vouched.hashed(NAME, each.id, os.urandom(32))
        place = Held(id=each.id, path=milestone_path(SITE, device_of(each.camera_id), each.span))
        assert await vouched.verified(NAME, [place], now) == [each.id]  # type: ignore[arg-type]


async def devices(host: Proven, *segments: Segment) -> list[UUID]:
    """XProtect's cameras at which they are, as the journal has it."""
    paths = [(await host.rig.copy(each, NAME)).path for each in segments]
    return [parse_milestone_path(path or "").camera for path in paths]


async def rounds(host: Proven, count: int) -> None:
    """Reviews, far enough apart for two answers to be believed."""
    for _ in range(count):
        await host.proof.review.run_once()
        await passing(ROUND)
