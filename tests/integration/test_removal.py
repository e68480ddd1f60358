"""Deleting on request: gone for everybody at once, its bytes wherever they are, and nobody else's."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged import removal, removing
from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.events import EventKind
from cctv_storaged.formerstores import FormerStore
from cctv_storaged.ingest import Outcome
from cctv_storaged.journal.copies import Proof
from cctv_storaged.model import (
    Camera,
    FileIdentity,
    NewSegment,
    Segment,
    SourceFile,
    TimeSpan,
    camera_id_for,
    key_family,
)
from cctv_storaged.pins import Pins
from cctv_storaged.removal import Remover
from cctv_storaged.unlinking import IsIt, Opened, unlink_sources
from tests.fakes.scripted_backend import (
    Forgets,
    LostAnswer,
    Odd,
    Ok,
    Op,
    ScriptedBackend,
    Spoils,
    Unavailable,
)
from tests.services.jumping import MIDNIGHT, eventually, jumping, passing
from tests.services.kill import Killed, left_behind
from tests.services.rig import DAY, HOST, Rig, opened

MINUTE = timedelta(minutes=1)


async def verified(rig: Rig, *segments: Segment, backend: str = "S3") -> None:
    await eventually(lambda: rig.all_verified(*segments, backend=backend), "all verified")


async def is_gone(rig: Rig, segment: Segment) -> bool:
    return await rig.journal.segments.by_id(segment.id) is None


async def twins(rig: Rig) -> tuple[Segment, Segment]:
    """Two files of the same bytes, camera and time: one object in every store."""
    rig.write(0)
    paths = [rig.path_of(0), rig.path_of(0).replace("00-00-00", "copy")]
    shutil.copyfile(rig.recordings / paths[0], rig.recordings / paths[1])
    camera = Camera(id=camera_id_for(HOST, "gate"), name="gate", folder="gate")
    found = []
    for path in paths:
        status = (rig.recordings / path).stat()
        identity = FileIdentity(
            device=status.st_dev, inode=status.st_ino, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns
        )
        span = TimeSpan(MIDNIGHT, MIDNIGHT + timedelta(seconds=1))
        source = SourceFile(root=str(rig.recordings), path=path, identity=identity)
        found.append((await rig.ingest.register(NewSegment(camera=camera, span=span, source=source))).segment)
    return found[0], found[1]


# Everywhere


@jumping
async def test_what_is_deleted_is_gone_from_backends_disk_and_journal(tmp_path: Path) -> None:
    here, there = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, here, there) as rig:
        segment, other = await rig.recorded(0), await rig.recorded(1)
        async with rig.delivering(rig.delivery(here), rig.delivery(there)):
            await verified(rig, segment, other)
            await verified(rig, segment, other, backend="FILESYSTEM")
            await rig.remover().delete(segment.id)
        assert await is_gone(rig, segment)
        assert not rig.source(segment).exists()
        assert len(here.objects) == len(there.objects) == 1
        assert rig.source(other).exists()
        assert await rig.all_verified(other)
        [event] = rig.told(EventKind.DELETED)
        assert event.segment_id == segment.id
        assert rig.metric("storage_segments_deleted_total", backend="S3") == 1
        assert await rig.journal.ledger.losses() == {}, "what one wanted gone is not lost"
        [line] = await rig.journal.ledger.of_camera(segment.camera_id, segment.span)
        assert (line.kind, line.cause) == ("deleted", "deleted_on_request")
        with pytest.raises(NotFound):
            await rig.remover().delete(segment.id)


@jumping
async def test_a_held_segment_is_not_deleted(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
        await rig.hold(segment)
        with pytest.raises(Conflict):
            await rig.remover().delete(segment.id)
        await rig.remover().run_once()
        assert rig.source(segment).exists()
        assert len(backend.objects) == 1
        assert await rig.all_verified(segment)


@jumping
async def test_spoiled_objects_beside_the_good_one_go_as_well(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        backend.then(Op.PUT, Spoils())
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
            assert len(backend.objects) == 2
            await rig.remover().delete(segment.id)
        assert backend.objects == {}


@pytest.mark.parametrize("hashed", [False, True], ids=["never marked", "hash known"])
@jumping
async def test_bytes_that_were_put_and_never_written_down_go_as_well(tmp_path: Path, hashed: bool) -> None:
    """The answer was lost, and then the whole process: only the source tells where the object must be."""
    other, backend = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, other, backend) as rig:
        segment = await rig.recorded(0)
        backend.always(LostAnswer(), Op.PUT)
        ahead = [rig.delivery(other)] if hashed else []
        async with rig.delivering(rig.delivery(backend), *ahead):
            await eventually(lambda: bool(backend.objects), "it is there")
            if hashed:
                await verified(rig, segment, backend="FILESYSTEM")
        assert (await rig.copy(segment)).path is None
    async with opened(tmp_path, other, backend) as rig:
        rig.delivery(backend)
        rig.delivery(other)
        await rig.remover().delete(segment.id)
        assert backend.objects == {}
        assert other.objects == {}
        assert await is_gone(rig, segment)


@jumping
async def test_what_never_left_the_host_is_deleted_without_asking_what_a_backend_holds(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        rig.delivery(backend)
        await rig.remover().delete(segment.id)
        assert await is_gone(rig, segment)
        assert not rig.source(segment).exists()


# Two phases


@jumping
async def test_a_backend_that_is_away_delays_the_bytes_not_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "retry_delay", lambda attempts: MINUTE)  # by lot it may be over at once
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
        backend.always(Unavailable(), Op.DELETE)
        remover = rig.remover()
        await remover.delete(segment.id)
        assert await rig.state(segment) == "deleting"
        assert rig.source(segment).exists(), "the source tells where the bytes are, so it goes last"
        tries = backend.count(Op.DELETE)
        await remover.run_once()
        assert backend.count(Op.DELETE) == tries, "not before it is due"
        backend.recover()
        await passing(2 * MINUTE)
        await remover.run_once()
        assert await is_gone(rig, segment)
        assert backend.objects == {}


@jumping
async def test_an_error_nobody_thought_of_at_one_segment_holds_up_no_other(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        odd, other = await rig.recorded(0), await rig.recorded(1)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, odd, other)
        backend.always(Unavailable(), Op.DELETE)
        remover = rig.remover()
        for segment in (odd, other):
            await remover.delete(segment.id)
        path = (await rig.copy(odd)).path
        backend.rule = lambda call: Odd() if call.path == path else Ok()
        await passing(MINUTE)
        await remover.run_once()
        assert await is_gone(rig, other)
        assert "ZeroDivisionError" in ((await rig.copy(odd)).error or "")
        backend.recover()
        await passing(MINUTE)
        await remover.run_once()
        assert await is_gone(rig, odd)


def before_the_unlink(segments: Sequence[Segment], is_it: IsIt, opened: Opened) -> None:
    raise Killed


def after_the_unlink(segments: Sequence[Segment], is_it: IsIt, opened: Opened) -> None:
    assert not unlink_sources(segments, is_it, opened)
    raise Killed


@pytest.mark.parametrize("step", [before_the_unlink, after_the_unlink])
@jumping
async def test_a_deletion_that_a_kill_interrupted_is_finished_after_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[..., None]
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
        monkeypatch.setattr(removing, "unlink_sources", step)
        with pytest.raises(Killed):
            await rig.remover().delete(segment.id)
        await rig.journal.alive()
        left_behind(tmp_path / "data", tmp_path / "killed")
    monkeypatch.undo()
    async with opened(tmp_path, backend, data="killed") as rig:
        delivery = rig.delivery(backend)
        assert await rig.state(segment) == "deleting"
        async with rig.delivering(delivery):
            await passing(MINUTE)
            assert backend.objects == {}, "nobody delivers what is to be deleted"
            await rig.remover().run_once()
        assert await is_gone(rig, segment)
        assert not rig.source(segment).exists()


@jumping
async def test_a_kill_while_the_backend_deletes_is_followed_by_another_try(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
        hold = backend.hold(Op.DELETE)
        deleting = asyncio.create_task(rig.remover().delete(segment.id))
        await hold.reached.wait()
        left_behind(tmp_path / "data", tmp_path / "killed")
        deleting.cancel()
        await asyncio.wait([deleting])
        hold.release()
    async with opened(tmp_path, backend, data="killed") as rig:
        rig.delivery(backend)
        await rig.remover().run_once()
        assert await is_gone(rig, segment)
        assert backend.objects == {}


# Beside delivery


@jumping
async def test_what_is_being_put_is_deleted_after_the_put_and_leaves_nothing(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        hold = backend.hold(Op.PUT)
        async with rig.delivering(rig.delivery(backend)):
            await hold.reached.wait()
            remover = rig.remover()
            await remover.delete(segment.id)
            assert not await is_gone(rig, segment)
            hold.release()
            await eventually(lambda: bool(backend.objects), "the put is done")
            await passing(MINUTE)
            await remover.run_once()
            assert await is_gone(rig, segment)
        assert backend.objects == {}
        assert rig.told(EventKind.COPY) == [], "nobody is told that it is safe there"
        assert rig.metric("storage_segments_stored_total", backend="S3", mode="LOCAL") == 0


@pytest.mark.parametrize("answered", [False, True], ids=["answer lost", "marked in vain"])
@jumping
async def test_what_was_put_of_a_source_that_is_gone_leaves_nothing_either(
    tmp_path: Path, answered: bool
) -> None:
    """Nobody wrote the hash down, and the recorder removed the file: only the delivery knows the name."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        if not answered:
            backend.always(LostAnswer(), Op.PUT)
        hold = backend.hold(Op.VERIFY)
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: bool(backend.objects), "it is there")
            remover = rig.remover()
            rig.source(segment).unlink()
            await remover.delete(segment.id)
            hold.release()
            await passing(MINUTE)
            await remover.run_once()
            assert await is_gone(rig, segment)
        assert backend.objects == {}


@jumping
async def test_what_waits_to_be_put_is_not_put_any_more(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = [await rig.recorded(number) for number in range(6)]
        hold = backend.hold(Op.PUT)
        async with rig.delivering(rig.delivery(backend, workers=1)):
            await hold.reached.wait()
            in_hand = next(call.segment_id for call in backend.calls if call.op is Op.PUT)
            waiting = [each for each in segments if str(each.id) != in_hand]
            await rig.remover().delete(waiting[2].id)
            assert await is_gone(rig, waiting[2])
            hold.release()
            await verified(rig, *(each for each in segments if each is not waiting[2]))
        assert backend.puts_of(waiting[2].id) == 0
        assert len(backend.objects) == 5


@jumping
async def test_a_deletion_does_not_cross_a_twins_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin is proven and not yet marked: the journal knows of nobody else who needs the object."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        one, other = await twins(rig)
        proven, go_on = asyncio.Event(), asyncio.Event()
        really_verified = rig.journal.copies.verified

        async def verified_slowly(segment_id: UUID, backend: str, proof: Proof, now: datetime) -> bool:
            proven.set()
            await go_on.wait()
            return await really_verified(segment_id, backend, proof, now)

        monkeypatch.setattr(rig.journal.copies, "verified", verified_slowly)
        async with rig.delivering(rig.delivery(backend, workers=1)):
            await proven.wait()
            first = next(call.segment_id for call in backend.calls if call.op is Op.PUT)
            in_hand, waiting = (one, other) if first == str(one.id) else (other, one)
            hold = backend.hold(Op.PUT)  # the other's own, should it begin
            deleting = asyncio.create_task(rig.remover().delete(waiting.id))
            await passing(MINUTE)
            go_on.set()
            hold.release()
            await verified(rig, in_hand)
            await deleting
            copy = await rig.copy(in_hand)
            assert copy.state == "verified"
            assert backend.objects[str(copy.path)] == rig.source(in_hand).read_bytes()


# Shared and changed


@jumping
async def test_a_journal_that_may_have_forgotten_holds_deletes_nothing_on_request(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        remover = rig.remover()
        remover.holds_unknown = lambda: "the journal was damaged"
        with pytest.raises(Conflict, match="the journal was damaged"):
            await remover.delete(segment.id)
        assert rig.source(segment).exists()
        assert not await rig.journal.deletions.unfinished(9, rig.clock.now())


@jumping
async def test_an_object_stays_for_a_twin_whose_copy_was_given_up_and_has_no_source(tmp_path: Path) -> None:
    """A store that forgot for a while, and has it again: these bytes are all that is left of the twin."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        one, other = await twins(rig)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, one, other)
            rig.source(other).unlink()
            await rig.miss(other)
            await rig.journal.copies.redeliver(other.id, "S3", "the store has forgotten it")
            assert await rig.state(other) == "failed"
            await rig.remover().delete(one.id)
            assert await is_gone(rig, one)
            assert len(backend.objects) == 1
            await rig.remover().delete(other.id)
            assert await is_gone(rig, other)
            assert backend.objects == {}


@jumping
async def test_an_object_that_a_twin_stands_on_stays_until_the_twin_goes(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        one, other = await twins(rig)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, one, other)
            assert (await rig.copy(one)).path == (await rig.copy(other)).path
            assert "duplicate" in {flag for each in (one, other) for flag in (await rig.segment(each)).flags}
            remover = rig.remover()
            await remover.delete(one.id)
            assert await is_gone(rig, one)
            assert len(backend.objects) == 1
            assert not rig.source(one).exists()
            assert rig.source(other).exists()
            await remover.delete(other.id)
        assert backend.objects == {}


@jumping
async def test_another_file_under_the_name_is_not_removed(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
            new = rig.write(0, version=1)
            await rig.remover().delete(segment.id)
        assert await is_gone(rig, segment)
        assert rig.source(segment).read_bytes() == new


@jumping
async def test_a_restored_file_of_the_same_stamp_is_the_same_segment_and_goes(tmp_path: Path) -> None:
    """Else the next scan would register it again, and the deleted footage would be back."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        path = rig.source(segment)
        stamp = path.stat().st_mtime_ns
        copy = path.with_name("restored.tmp")
        shutil.copyfile(path, copy)
        copy.rename(path)
        os.utime(path, ns=(stamp, stamp))
        rig.delivery(backend)
        await rig.remover().delete(segment.id)
        assert await is_gone(rig, segment)
        assert not path.exists()


@pytest.mark.parametrize("state", ["missing", "pruned"])
@jumping
async def test_a_file_that_is_back_and_not_scanned_yet_goes_as_well(tmp_path: Path, state: str) -> None:
    """Else the next scan would register it, and the deleted footage would be back."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
        kept = tmp_path / "kept.ts"
        shutil.copy2(rig.source(segment), kept)
        if state == "pruned":
            rig.clock.advance(2 * DAY)
            assert await rig.pruner().run_once() == 1
        else:
            rig.source(segment).unlink()
            await rig.miss(segment)
        assert (await rig.segment(segment)).source_state == state
        kept.rename(rig.source(segment))
        await rig.remover().delete(segment.id)
        assert await is_gone(rig, segment)
        assert not rig.source(segment).exists()


@jumping
async def test_a_file_on_a_disk_that_is_away_is_deleted_when_the_disk_is_back(tmp_path: Path) -> None:
    """Gone from the journal only, it would be registered anew with the first scan of the disk."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
        elsewhere = tmp_path / "unmounted"
        rig.recordings.rename(elsewhere)
        remover = rig.remover()
        await remover.delete(segment.id)
        assert not await is_gone(rig, segment)
        assert backend.objects == {}, "what can be deleted is"
        elsewhere.rename(rig.recordings)
        outcome = await rig.ingest.consider(rig.root, segment.source.path, lambda found: True)
        assert outcome is Outcome.KNOWN
        await passing(MINUTE)
        await remover.run_once()
        assert await is_gone(rig, segment)
        assert not rig.source(segment).exists()


@jumping
async def test_a_deletion_that_may_not_unlink_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client was answered 204: only the log and the journal say that the file is there still."""

    def refused(segments: Sequence[Segment], is_it: IsIt, opened: Opened) -> dict[UUID, Exception]:
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "00-00-00.ts")
        return {each.id: error for each in segments}

    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        rig.delivery(backend)
        remover = rig.remover()
        with monkeypatch.context() as patched:  # root is refused nothing
            patched.setattr(removing, "unlink_sources", refused)
            await remover.delete(segment.id)
        assert not await is_gone(rig, segment)
        (line,) = [each for each in caplog.messages if "not deleted yet" in each]
        assert (
            f"{rig.source(segment)}' cannot be removed: Permission denied (give this service's user" in line
        )
        await passing(MINUTE)
        await remover.run_once()
        assert await is_gone(rig, segment)


@jumping
async def test_a_deletion_that_a_backend_cannot_do_counts_as_its_error(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await verified(rig, segment)
        backend.always(Unavailable("network"))
        await rig.remover().delete(segment.id)
        assert rig.metric("storage_errors_total", operation="delete", backend="S3") == 1


@jumping
async def test_a_source_that_vanished_by_itself_does_not_hold_up_a_deletion(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        backend.then(Op.PUT, Forgets())
        rig.delivery(backend)
        rig.source(segment).unlink()
        await rig.remover().delete(segment.id)
        assert await is_gone(rig, segment)


@jumping
async def test_a_copy_at_a_backend_nobody_configures_any_more_is_not_forgotten(tmp_path: Path) -> None:
    old, new = ScriptedBackend("MINIO"), ScriptedBackend("S3")
    async with opened(tmp_path, old) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(old)):
            await verified(rig, segment, backend="MINIO")
    async with opened(tmp_path, new) as rig:
        rig.delivery(new)
        await rig.remover().delete(segment.id)
        assert not await is_gone(rig, segment)
        assert "MINIO is not configured" in ((await rig.copy(segment, "MINIO")).error or "")
        assert len(old.objects) == 1


@jumping
async def test_an_object_stays_for_a_twin_that_knows_its_bucket_by_another_backends_name(
    tmp_path: Path,
) -> None:
    """After a change from MINIO to S3, of one and the same bucket, the former store's deletion spares it."""
    before = ScriptedBackend("MINIO")
    async with opened(tmp_path, before) as rig:
        one, other = await twins(rig)
        async with rig.delivering(rig.delivery(before)):
            await verified(rig, one, other, backend="MINIO")
    after = ScriptedBackend("S3")
    after.objects = before.objects
    async with opened(tmp_path, after) as rig:
        await rig.journal.requirement.require(["S3"])
        async with rig.delivering(rig.delivery(after)):
            await verified(rig, one, other)
            await rig.journal.copies.doubt(other.id, "MINIO", "only S3 knows it now")
            await rig.journal.copies.redeliver(other.id, "MINIO", "only S3 knows it now")
            remover = Remover(
                *(rig.journal, (after, before), rig.clock, rig.metrics, rig.hub),
                (*rig.deliveries, FormerStore(before)),
                Pins(),
            )
            await remover.delete(one.id)
            assert await is_gone(rig, one)
            assert len(after.objects) == 1
            await remover.delete(other.id)
            assert after.objects == {}


def test_the_names_of_an_objects_family() -> None:
    assert key_family("a/b_1_0123456789ab.ts") == ("a/b_1_0123456789ab.ts",)
    assert key_family("a/20260101T000000.000000Z_1_ab.2.ts") == (
        "a/20260101T000000.000000Z_1_ab.ts",
        "a/20260101T000000.000000Z_1_ab.1.ts",
        "a/20260101T000000.000000Z_1_ab.2.ts",
    )
    assert key_family("v1.2/20260101T000000.000000Z_1_ab.ts") == ("v1.2/20260101T000000.000000Z_1_ab.ts",)
