"""From a registered segment to a copy that XProtect is shown to hold, or a gap; the site is scripted."""

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import pytest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.backends.base import StoredObject
from cctv_storaged.clock import to_us
from cctv_storaged.errors import BackendUnavailable, ObjectMissing, ObjectRejected
from cctv_storaged.events import EventKind
from cctv_storaged.journal.chain import Line
from cctv_storaged.model import CopyState, Segment, TimeSpan
from cctv_storaged.vms.hashing import Hashing
from cctv_storaged.vms.intake import Intake
from cctv_storaged.vms.paths import parse_milestone_path
from tests.fakes.scripted_backend import Op, ScriptedBackend, Unavailable
from tests.fakes.scripted_vms import SITE
from tests.services.jumping import eventually, jumping, passing
from tests.services.proving import NAME, SETTLE, Proven, device_of, proven, settings

AWAY = BackendUnavailable("no route to host")
LONG = timedelta(hours=1)
SOON = timedelta(minutes=3)


@jumping
async def test_footage_that_the_vms_has_recorded_is_verified_with_its_hash_and_place(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segments = [await host.rig.recorded(number) for number in range(6)]
        host.holds(*segments)
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
            await eventually(lambda: len(host.rig.delivered) == 6, "and told, a moment later")
        known = await host.rig.segment(segments[0])
        copy = known.copy_at(NAME)
        assert known.sha256 is not None and copy is not None and copy.path is not None
        place = parse_milestone_path(copy.path)
        assert (place.site, place.camera) == (SITE, device_of(known.camera_id))
        assert place.span.start <= known.span.start and place.span.end >= known.span.end
        assert host.rig.metric("storage_segments_stored_total", backend=NAME, mode="MILESTONE") == 6
        assert host.rig.metric("storage_delivery_seconds_count", backend=NAME) == 6
        told = [event for event in host.rig.told(EventKind.COPY) if event.backend == NAME]
        assert {event.segment_id for event in told} == {each.id for each in segments}


@jumping
async def test_neighbours_are_one_question_and_one_commit(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segments = [await host.rig.recorded(number) for number in range(40)]
        host.holds(*segments)
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
        assert host.vms.count("recorded") == 1


@jumping
async def test_a_segment_whose_hash_was_written_this_moment_is_asked_about_with_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever hashed it has not let go of it yet: it would be a question, and a retrieval, of its own."""
    async with proven(tmp_path) as host:
        segments = [await host.rig.recorded(number) for number in range(5)]
        host.holds(*segments)
        hashed = Hashing.hash

        async def lingering(hashing: Hashing, segment: Segment) -> bool:
            done = await hashed(hashing, segment)
            if segment.id == segments[2].id:
                await passing(timedelta(seconds=12))  # rounds begin meanwhile
            return done

        monkeypatch.setattr(Hashing, "hash", lingering)
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
        assert host.vms.count("recorded") == 1


@jumping
async def test_nothing_is_asked_before_it_had_time_to_settle(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        host.rig.clock.advance(timedelta(minutes=-30))  # midnight: the segments lie ahead
        segment = await host.rig.recorded(1)
        host.holds(segment)
        asked_at: list[object] = []
        host.vms.before = lambda call: asked_at.append(host.rig.clock.now()) if call == "recorded" else None
        async with host.running():
            await eventually(lambda: host.verified(segment), "verified")
        assert asked_at and asked_at[0] >= segment.span.end + SETTLE  # type: ignore[operator]


@jumping
async def test_what_is_not_there_past_the_deadline_is_a_gap_and_its_source_stays(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings(deadline=timedelta(minutes=32))) as host:
        held, missing = await host.rig.recorded(0), await host.rig.recorded(1)
        host.holds(held)
        async with host.running():
            await eventually(lambda: host.verified(held), "verified")
            assert await host.states(missing) == ["pending"]
            await eventually(lambda: is_gap(host, missing), "a gap")
            age = host.rig.clock.now() - missing.span.end
            assert age >= timedelta(minutes=32)
            await eventually(lambda: len(host.vms.alarms) == 1, "it is told")
            (alarm,) = [each for each in host.alarms.standing if each.name is AlarmName.VMS_GAP]
            assert alarm.subject == str(missing.camera_id) and "gate" in alarm.text
            assert [device for device, _ in host.vms.alarms] == [device_of(missing.camera_id)]
            assert host.rig.metric("storage_vms_gaps") == 1
        pruner = host.rig.pruner(timedelta(0), required=(NAME,))
        await pruner.run_once()
        assert host.rig.source(missing).exists() and not host.rig.source(held).exists()
        lines = await told_lines(host)
        assert [line.cause for line in lines if line.segment_id == missing.id.bytes and line.kind == "noted"]
        vms, clock = host.vms, host.rig.clock
    async with proven(tmp_path, vms=vms, clock=clock) as host:
        await host.proof.review.run_once()
        assert len(host.alarms.standing) == 1, "ours sounds again after a restart"
        assert len(vms.alarms) == 1, "and XProtect's does not"


@jumping
async def test_an_outage_much_longer_than_the_deadline_makes_no_gap_and_loses_nothing(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings(deadline=SOON)) as host:
        segments = [await host.rig.recorded(number) for number in range(20)]
        host.holds(*segments)
        host.vms.away = AWAY
        async with host.running():
            await passing(LONG)
            assert set(await host.states(*segments)) == {"pending"}
            assert [(await host.rig.copy(each, NAME)).attempts for each in segments] == [0] * 20
            assert host.proof.proving.trouble is not None
            assert all([(await host.rig.segment(each)).sha256 for each in segments])  # hashed meanwhile
            questions = host.vms.count("recorded") + host.vms.count("site")
            assert questions < LONG.total_seconds() / 10
            host.vms.away = None
            await eventually(lambda: host.verified(*segments), "verified")
            assert host.proof.proving.trouble is None
        assert host.rig.metric("storage_backend_up", backend=NAME) == 1
        assert host.vms.alarms == []


@jumping
async def test_a_site_that_answers_for_a_recorder_that_is_away_makes_no_gap(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings(deadline=SOON)) as host:
        segment = await host.rig.recorded(0)
        host.vms.unreadable.add(device_of(segment.camera_id))
        async with host.running():
            await passing(timedelta(minutes=20))
            assert await host.states(segment) == ["pending"]
            host.vms.unreadable.clear()
            host.holds(segment)
            await eventually(lambda: host.verified(segment), "verified")


@jumping
async def test_one_recorder_that_is_away_holds_up_no_other_camera(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        cameras = ("gate", "yard", "roof", "hall")
        segments = [await host.rig.recorded(number, camera) for number in range(3) for camera in cameras]
        host.holds(*segments)
        silent = [each for each in segments if each.source.path.startswith(("gate", "hall"))]
        others = [each for each in segments if each not in silent]
        host.vms.recorders_away |= {device_of(each.camera_id) for each in silent}
        async with host.running():
            await eventually(lambda: host.verified(*others), "verified")
            fresh = [await host.rig.recorded(number, "yard") for number in range(3, 6)]
            host.holds(*fresh)
            await eventually(lambda: host.verified(*fresh), "verified")
            assert set(await host.states(*silent)) == {"pending"}
            host.vms.recorders_away.clear()
            await eventually(lambda: host.verified(*silent), "verified")


@jumping
async def test_a_camera_without_a_counterpart_makes_only_its_own_segments_wait(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        known, unknown = await host.rig.recorded(0, "gate"), await host.rig.recorded(0, "attic")
        host.holds(known, unknown)
        host.mapping.unknown.add(unknown.camera_id)
        async with host.running():
            await eventually(lambda: host.verified(known), "verified")
            await passing(timedelta(minutes=10))
            assert await host.states(unknown) == ["pending"]
            assert [text for text in host.rig.alerts() if "attic" in text and "no counterpart" in text]
            assert len([text for text in host.rig.alerts() if "attic" in text]) == 1
            host.mapping.unknown.clear()
            await eventually(lambda: host.verified(unknown), "verified")


@jumping
async def test_held_footage_goes_first(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segments = [await host.rig.recorded(number * 40) for number in range(4)]
        host.holds(*segments)
        host.vms.away = AWAY
        async with host.running():
            await eventually(lambda: all_hashed(host, segments), "hashed")
            camera, span = segments[3].camera_id, segments[3].span
            assert await host.rig.journal.copies.urge(camera, span, None) == 1
            host.vms.calls.clear()
            host.vms.away = None
            await eventually(lambda: host.verified(*segments), "verified")
        assert host.vms.asked()[0][1].overlaps(segments[3].span)


@jumping
async def test_a_gap_that_somebody_asks_for_again_is_looked_for_at_once(tmp_path: Path) -> None:
    async with proven(tmp_path, chosen=settings(deadline=timedelta(minutes=1))) as host:
        segment = await host.rig.recorded(0)
        async with host.running():
            await eventually(lambda: is_gap(host, segment), "a gap")
            host.holds(segment)
            assert (await host.rig.journal.copies.retry_failed(None)).retried == 1
            host.proof.proving.reopen()
            await eventually(lambda: host.verified(segment), "verified")
            await host.proof.review.run_once()
            assert not host.alarms.standing


@jumping
async def test_a_source_that_vanished_before_its_hash_is_told_lost_and_found_in_the_vms(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path) as host:
        segment = await host.rig.recorded(0)
        host.rig.source(segment).unlink()
        host.holds(segment)
        async with host.running():
            await eventually(lambda: was_told(host, "lost"), "told lost")
            await host.proof.review.run_once()
            assert await host.verified(segment)
        kinds = [line.kind for line in await told_lines(host)]
        assert kinds.index("lost") < kinds.index("found")
        assert (await host.rig.segment(segment)).sha256 is None


@jumping
async def test_in_mode_both_the_store_and_the_vms_do_not_wait_for_each_other(tmp_path: Path) -> None:
    store = ScriptedBackend("S3")
    async with proven(tmp_path, store) as host:
        first = [await host.rig.recorded(number) for number in range(3)]
        host.holds(*first)
        delivery = host.rig.delivery(store)
        host.vms.away = AWAY
        async with host.rig.delivering(delivery, host.proof.proving):
            await eventually(lambda: host.rig.all_verified(*first, backend="S3"), "at the store")
            assert set(await host.states(*first)) == {"pending"}
            host.vms.away = None
            store.always(Unavailable())
            second = [await host.rig.recorded(number) for number in range(3, 6)]
            host.holds(*second)
            await eventually(lambda: host.verified(*first, *second), "at the VMS")
            assert not await host.rig.all_verified(*second, backend="S3")
            store.recover()
            await eventually(lambda: host.rig.all_verified(*second, backend="S3"), "at the store")
        assert store.count(Op.PUT) >= 6


@jumping
async def test_a_segment_that_is_asked_about_is_withheld_from_nobody_else(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segment = await host.rig.recorded(0)
        proving = host.proof.proving
        host.holds(segment)
        reached = asyncio.Event()
        host.vms.before = lambda call: reached.set()
        host.vms.hold = asyncio.Event()
        async with host.running():
            await reached.wait()
            with proving.withheld(segment.id) as free:
                assert not free
            host.vms.hold.set()
            await eventually(lambda: host.verified(segment), "verified")
            await eventually(lambda: is_free(host, segment), "let go of, once that is told")


@jumping
async def test_what_is_withheld_is_asked_about_afterwards(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        segment, other = await host.rig.recorded(0), await host.rig.recorded(1)
        host.holds(segment, other)
        async with host.running():
            with host.proof.proving.withheld(segment.id) as free:
                assert free
                await eventually(lambda: host.verified(other), "the other is verified")
                await passing(timedelta(minutes=5))
                assert await host.states(segment) == ["pending"]
            await eventually(lambda: host.verified(segment), "verified")


@jumping
async def test_many_thousand_that_are_due_take_bounded_memory_and_few_questions(tmp_path: Path) -> None:
    """An outage of XProtect's of days, on a host with ten cameras."""
    async with proven(tmp_path) as host:
        count, cameras, start = 3_000, 4, host.rig.clock.now() - timedelta(days=2)
        await host.rig.journal._store.write(lambda db: insert_hashed(db, count, cameras, to_us(start)))
        for number in range(1, cameras + 1):
            host.vms.record(device_of(UUID(int=number)), TimeSpan(start, host.rig.clock.now()))
        kept: list[int] = []
        host.vms.before = lambda call: kept.append(len(host.proof.proving._in_hand))
        async with host.running():
            await eventually(lambda: none_due(host), "all verified", 120)
        assert host.vms.count("recorded") < 2 * count / 90
        assert max(kept) <= 4 * 90
        assert host.vms.most_at_once <= 4


@jumping
async def test_neither_a_camera_without_a_counterpart_nor_urgent_ones_that_wait_hide_the_others(
    tmp_path: Path,
) -> None:
    """One round comes to what can be asked for, behind thousands for which nothing can be done now."""
    async with proven(tmp_path) as host:
        start, later = host.rig.clock.now() - timedelta(days=2), to_us(host.rig.clock.now() + SOON)
        ground = host.proof.proving._ground
        await host.rig.journal._store.write(lambda db: insert_hashed(db, 9_000, 2, to_us(start)))
        await host.rig.journal._store.write(
            lambda db: db.executescript(
                f"""UPDATE segment SET camera_no = 1;
                    UPDATE segment SET camera_no = 2 WHERE no BETWEEN 6000 AND 6050;
                    UPDATE copy SET urgent = 1, due_us = {later} WHERE segment_no <= 1000;
                    UPDATE copy SET urgent = 1 WHERE segment_no = 8000"""
            )
        )
        askable = Intake(ground, 0.3, lambda each: each.camera_id == UUID(int=2))
        assert len(await askable.some()) == 51
        every = Intake(ground, 0.0)
        urgent = [each.no for each in await every.some() if each.urgent]
        assert urgent == [8000]


@jumping
async def test_what_the_vms_does_not_hold_is_asked_for_a_little_at_a_time_and_all_once_it_comes(
    tmp_path: Path,
) -> None:
    """A backlog that XProtect is still to fetch: to ask for all of it every few minutes brings nothing."""
    chosen = replace(settings(deadline=timedelta(days=30)), window_max=timedelta(minutes=1))
    async with proven(tmp_path, chosen=chosen) as host:
        count, cameras, start = 1_500, 2, host.rig.clock.now() - timedelta(days=2)
        await host.rig.journal._store.write(lambda db: insert_hashed(db, count, cameras, to_us(start)))
        for number in range(1, cameras + 1):
            host.vms.record(device_of(UUID(int=number)))
        with patch("cctv_storaged.journal.vouchdue.LOOKED", 50):
            async with host.running():
                await eventually(lambda: host.vms.count("recorded") >= count / 6, "all were asked for once")
                before = host.vms.count("recorded")
                await passing(timedelta(minutes=6))
                assert host.vms.count("recorded") - before < count / 6, "all were put off for five minutes"
                for number in range(1, cameras + 1):
                    host.vms.record(device_of(UUID(int=number)), TimeSpan(start, host.rig.clock.now()))
                await eventually(lambda: none_due(host), "all verified", 120)


@jumping
async def test_while_the_vms_is_away_nothing_is_read_but_what_is_to_be_hashed(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        start = host.rig.clock.now() - timedelta(days=2)
        await host.rig.journal._store.write(lambda db: insert_hashed(db, 9_000, 2, to_us(start)))
        await host.rig.journal._store.write(
            lambda db: db.execute("UPDATE segment SET sha256 = NULL WHERE no IN (50, 5000)")
        )
        intake = Intake(host.proof.proving._ground, 0.3)
        assert {each.no for each in await intake.some(unhashed=True)} == {50, 5000}


# The backend


@jumping
async def test_the_vms_as_a_backend_takes_no_bytes_and_deletes_nothing(tmp_path: Path) -> None:
    async with proven(tmp_path) as host:
        store = host.store
        with pytest.raises(ObjectRejected, match="takes no files"):
            await store.put("x", None, host.rig.budget)  # type: ignore[arg-type]
        await store.delete("milestone://a")
        assert await store.delete_many(["milestone://a"]) == {}
        assert await store.sweep(0) == 0
        with pytest.raises(ObjectRejected):
            async with store.open("milestone://a"):
                pass
        assert host.vms.calls == []
        assert store.name == NAME and (await store.probe()) is not None


@jumping
async def test_pruning_asks_once_for_all_segments_of_a_window_and_for_each_that_is_gone(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path) as host:
        segments = [await host.rig.recorded(number) for number in range(30)]
        host.holds(*segments)
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
        host.loses(segments[15])  # retention eats a span between the proof and the pruning
        host.vms.calls.clear()
        pruner = host.rig.pruner(timedelta(0), required=(NAME,))
        assert await pruner.run_once() == 29
        assert host.vms.count("recorded") <= 4
        assert host.rig.source(segments[15]).exists()
        copy = await host.rig.copy(segments[15], NAME)
        assert copy.state is CopyState.PENDING and (await host.rig.segment(segments[15])).sha256


@jumping
async def test_an_answer_is_believed_for_a_minute_and_only_about_what_had_settled_then(
    tmp_path: Path,
) -> None:
    async with proven(tmp_path) as host:
        segments = [await host.rig.recorded(number) for number in range(3)]
        host.holds(*segments)
        async with host.running():
            await eventually(lambda: host.verified(*segments), "verified")
        held = [await stored(host, each) for each in segments]
        host.vms.calls.clear()
        for each in held:
            await host.store.verify(each)
        assert host.vms.count("recorded") == 1
        host.loses(*segments)
        await host.store.verify(held[0])
        await passing(timedelta(seconds=61))
        for each in held:
            with pytest.raises(ObjectMissing):
                await host.store.verify(each)
        host.vms.away = AWAY
        with pytest.raises(BackendUnavailable):
            await host.store.verify(held[0])


# Help


async def is_gap(host: Proven, segment: Segment) -> bool:
    return await host.states(segment) == ["gap"]


def is_free(host: Proven, segment: Segment) -> bool:
    """Whether nobody asks or hashes for it right now."""
    with host.proof.proving.withheld(segment.id) as free:
        return free


async def all_hashed(host: Proven, segments: Sequence[Segment]) -> bool:
    return all([(await host.rig.segment(each)).sha256 is not None for each in segments])


async def was_told(host: Proven, kind: str) -> bool:
    return kind in [line.kind for line in await told_lines(host)]


async def told_lines(host: Proven) -> list[Line]:
    """The ledger."""
    return [each.line for each in (await host.rig.journal.ledger_lines.page(0)).lines]


async def stored(host: Proven, segment: Segment) -> StoredObject:
    """What the pruner would ask the backend to verify."""
    known = await host.rig.segment(segment)
    copy = known.copy_at(NAME)
    assert known.sha256 is not None and copy is not None and copy.path is not None
    return StoredObject(path=copy.path, size_bytes=known.size_bytes, sha256=known.sha256, etag=copy.etag)


async def none_due(host: Proven) -> bool:
    return (await host.rig.journal.copies.backlog(NAME)).segments == 0


def insert_hashed(db: sqlite3.Connection, count: int, cameras: int, start_us: int) -> None:
    """Segments of ten seconds, side by side, each hashed by another backend and due at MILESTONE."""
    db.execute("INSERT INTO folder VALUES (1, x'2f', x'61')")
    for number in range(1, cameras + 1):
        row = (number, UUID(int=number).bytes, f"camera {number}", b"a")
        db.execute("INSERT INTO camera (no, id, name, folder) VALUES (?, ?, ?, ?)", row)
    db.execute(
        """WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
           INSERT INTO segment (id, camera_no, start_us, end_us, folder_no, name, device, inode,
                                size_bytes, mtime_ns, sha256, created_us)
           SELECT randomblob(16), 1 + i % ?2, ?3 + i / ?2 * 10000000, ?3 + i / ?2 * 10000000 + 10000000, 1,
                  CAST(i AS BLOB), 1, i, 5000000, i, randomblob(32), ?3 FROM n""",
        (count, cameras, start_us),
    )
    db.execute(
        """INSERT INTO copy (segment_no, backend, start_us, size_bytes)
           SELECT no, 'MILESTONE', start_us, size_bytes FROM segment"""
    )
