"""No source goes but the very file that is proven elsewhere, long enough, and that nobody needs."""

import asyncio
import contextlib
import os
import resource
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cctv_storaged import prune
from cctv_storaged.events import EventKind
from cctv_storaged.model import FileIdentity, Segment
from cctv_storaged.prune import AT_ONCE, BATCH, WHOLE_S, Pruner, is_the_very_file, unlink_source
from tests.fakes.scripted_backend import Odd, Ok, Op, ScriptedBackend, Unavailable
from tests.services.jumping import eventually, jumping, passing
from tests.services.kill import Killed, left_behind
from tests.services.rig import DAY, Rig, opened

AN_HOUR_LATER = timedelta(seconds=WHOLE_S + 1)


async def delivered(rig: Rig, backend: ScriptedBackend, count: int = 1, first: int = 0) -> list[Segment]:
    """So many segments, verified now."""
    segments = [await rig.recorded(number) for number in range(first, first + count)]
    async with rig.delivering(rig.delivery(backend)):
        await eventually(lambda: rig.all_verified(*segments, backend=backend.name), "all verified")
    return segments


async def source_state(rig: Rig, segment: Segment) -> str:
    return (await rig.segment(segment)).source_state


# When it may go


@jumping
async def test_a_source_goes_after_its_grace_and_is_written_down(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        pruner = rig.pruner()
        rig.clock.advance(DAY - timedelta(minutes=5))
        assert await pruner.run_once() == 0
        assert rig.source(segment).exists()
        rig.clock.advance(timedelta(minutes=10))
        assert await pruner.run_once() == 1
        assert not rig.source(segment).exists()
        assert rig.source(segment).parent.is_dir(), "folders are the recorder's"
        assert await source_state(rig, segment) == "pruned"
        assert rig.metric("storage_sources_pruned_total") == 1
        assert await rig.journal.ledger.losses() == {}
        assert await pruner.run_once() == 0


@jumping
async def test_every_required_copy_must_be_verified(tmp_path: Path) -> None:
    here, there = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, here, there) as rig:
        [segment] = await delivered(rig, here)
        rig.clock.advance(9 * DAY)
        pruner = rig.pruner()
        assert await pruner.run_once() == 0
        there.always(Unavailable(), Op.VERIFY)
        delivery = rig.delivery(there)
        async with rig.delivering(delivery):
            await eventually(lambda: delivery.trouble is not None, "stored, not verified")
        assert await rig.state(segment) == "stored"
        rig.clock.advance(9 * DAY)
        assert await pruner.run_once() == 0
        assert rig.source(segment).exists()


@jumping
async def test_footage_younger_than_what_is_kept_stays_and_is_not_even_looked_at(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        pruner = rig.pruner(keep=30 * DAY)
        asked = backend.count(Op.VERIFY)
        rig.clock.advance(20 * DAY)
        assert await pruner.run_once() == 0
        assert backend.count(Op.VERIFY) == asked
        rig.clock.advance(11 * DAY)
        assert await pruner.run_once() == 1
        assert not rig.source(segment).exists()


@jumping
async def test_more_than_one_batch_goes_in_one_pass(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await delivered(rig, backend, count=BATCH + AT_ONCE + 3)
        rig.clock.advance(2 * DAY)
        assert await rig.pruner().run_once() == len(segments)
        assert not any(rig.source(segment).exists() for segment in segments)


@jumping
async def test_sources_verified_while_the_clock_was_ahead_are_pruned_in_time_and_are_there_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-31: they would be parked for as long as the clock was ahead, though the disk were full."""
    monkeypatch.setattr(prune, "AT_A_TIME", 2)
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        rig.clock.advance(400 * DAY)
        segments = await delivered(rig, backend, 3)
        rig.clock.advance(-400 * DAY)
        pruner = rig.pruner()
        wrong: list[str] = ["the wall clock jumped"]
        pruner._doubt = lambda grace: wrong[0] if wrong else None
        roots = frozenset({str(rig.recordings)})
        assert await pruner.run_once() == 0
        assert (await rig.copy(segments[0])).verified_at > rig.clock.now()  # type: ignore[operator]
        wrong.clear()
        assert await pruner.run_once() == 0, "its grace begins now"
        early = await rig.journal.capacity.verified_sources(roots, None, rig.clock.now())
        assert {each.id for each in early.candidates} == {each.id for each in segments}
        rig.clock.advance(DAY + timedelta(minutes=1))
        assert await pruner.run_once() == len(segments)


@jumping
async def test_a_clock_that_was_set_back_by_moments_changes_no_time_of_verification(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        verified_at = (await rig.copy(segment)).verified_at
        rig.clock.advance(timedelta(seconds=-30))
        await rig.pruner().run_once()
        assert (await rig.copy(segment)).verified_at == verified_at


@jumping
async def test_rules_changed_by_sighup_hold_at_once(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        pruner = rig.pruner(enabled=False)
        assert await pruner.run_once() == 0
        pruner.rules = rig.pruner().rules
        assert await pruner.run_once() == 1
        assert not rig.source(segment).exists()


# The very file


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(188))


def rewrite_in_place(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def another_inode_with_the_same_stamp(path: Path) -> None:
    stamp = path.stat().st_mtime_ns
    copy = path.with_name("copy.tmp")
    shutil.copyfile(path, copy)
    os.utime(copy, ns=(stamp, stamp))
    copy.rename(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_itself_elsewhere(path: Path) -> None:
    kept = path.with_name("kept.tmp")
    path.rename(kept)
    path.symlink_to(kept)


CHANGES = (append, rewrite_in_place, another_inode_with_the_same_stamp, a_folder, a_link_to_itself_elsewhere)


@pytest.mark.parametrize("change", CHANGES)
@jumping
async def test_only_the_very_file_that_was_registered_is_removed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        change(rig.source(segment))
        before = _entries(rig.recordings)
        assert await rig.pruner().run_once() == 0
        assert _entries(rig.recordings) == before
        assert await source_state(rig, segment) == "present"


@pytest.mark.parametrize("change", CHANGES)
@jumping
async def test_nor_where_it_changes_after_the_first_look(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """While the backend is asked; the last look is at the open file itself."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        hold = backend.hold(Op.VERIFY)
        async with _pass_of(rig.pruner()) as result:
            await hold.reached.wait()
            change(rig.source(segment))
            before = _entries(rig.recordings)
            hold.release()
        assert result == [0]
        assert _entries(rig.recordings) == before
        assert await source_state(rig, segment) == "present"


@contextlib.asynccontextmanager
async def _pass_of(pruner: Pruner) -> AsyncIterator[list[int]]:
    """A pass that runs while the block does; its result is in the list afterwards."""
    result: list[int] = []
    task = asyncio.create_task(pruner.run_once())
    yield result
    result.append(await task)


def _entries(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_size)
        for path in folder.rglob("*")
        if not path.is_dir() or path.suffix == ".ts"
    }


@jumping
async def test_a_folder_swapped_for_a_link_leads_to_no_other_file(tmp_path: Path) -> None:
    """A decoy of the same name, size and time lies where the link leads."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        folder = rig.source(segment).parent
        decoys = tmp_path / "decoys"
        shutil.copytree(folder, decoys)
        hold = backend.hold(Op.VERIFY)
        async with _pass_of(rig.pruner()) as result:
            await hold.reached.wait()
            folder.rename(tmp_path / "moved")
            folder.symlink_to(decoys)
            hold.release()
        assert result == [0]
        assert (decoys / rig.source(segment).name).exists()
        assert (tmp_path / "moved" / rig.source(segment).name).exists()


# Who needs it


@jumping
async def test_a_source_somebody_reads_stays_until_it_was_read(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        data = rig.source(segment).read_bytes()
        rig.clock.advance(2 * DAY)
        pruner = rig.pruner()
        reader = rig.reader(pruner)
        async with reader.open(await rig.segment(segment)) as blocks:
            assert await pruner.run_once() == 0
            assert b"".join([block async for block in blocks]) == data
        assert not pruner.pins, "nothing is remembered of readers that left"
        await passing(AN_HOUR_LATER)
        assert await pruner.run_once() == 1
        async with reader.open(await rig.segment(segment)) as blocks:
            assert b"".join([block async for block in blocks]) == data, "and then from its copy"


@jumping
async def test_a_reader_that_comes_while_the_backend_is_asked_keeps_the_source(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        pruner = rig.pruner()
        hold = backend.hold(Op.VERIFY)
        reader = rig.reader(pruner)
        async with _pass_of(pruner) as result:
            await hold.reached.wait()
            reading = contextlib.AsyncExitStack()
            await reading.enter_async_context(reader.open(await rig.segment(segment)))
            hold.release()
        assert result == [0]
        assert rig.source(segment).exists()
        await reading.aclose()


# The backends


@pytest.mark.parametrize("spoilt", [False, True], ids=["forgotten", "spoilt"])
@jumping
async def test_a_store_that_lost_it_is_found_out_before_the_unlink_and_gets_it_again(
    tmp_path: Path, spoilt: bool
) -> None:
    """T-23: acknowledged, verified, and gone within the grace."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment, other = await delivered(rig, backend, count=2)
        data = rig.source(segment).read_bytes()
        path = str((await rig.copy(segment)).path)
        if spoilt:
            backend.objects[path] = b"x" * len(data)
        else:
            del backend.objects[path]
        rig.clock.advance(2 * DAY)
        pruner = rig.pruner()
        assert await pruner.run_once() == 1
        assert rig.source(segment).exists()
        assert not rig.source(other).exists()
        assert await rig.state(segment) == "pending"
        assert rig.metric("storage_errors_total", operation="verify", backend="S3") == 1
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: rig.all_verified(segment), "delivered again")
        assert backend.objects[str((await rig.copy(segment)).path)] == data
        assert await pruner.run_once() == 0, "a new proof has a grace of its own"
        rig.clock.advance(2 * DAY)
        assert await pruner.run_once() == 1


@jumping
async def test_nothing_goes_while_a_backend_cannot_be_asked_and_not_each_source_waits_for_it(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = await delivered(rig, backend, count=40)
        rig.clock.advance(2 * DAY)
        backend.always(Unavailable())
        asked = backend.count(Op.VERIFY)
        pruner = rig.pruner()
        assert await pruner.run_once() == 0
        assert backend.count(Op.VERIFY) - asked <= AT_ONCE
        assert all(rig.source(segment).exists() for segment in segments)
        backend.recover()
        assert await pruner.run_once() == 40 - AT_ONCE, "the next pass begins where this one ended"
        await passing(AN_HOUR_LATER)
        assert await pruner.run_once() == AT_ONCE


@jumping
async def test_segments_that_alone_cannot_be_asked_about_hold_up_no_others(tmp_path: Path) -> None:
    """A right that one camera's folder lacks looks like an outage: behind it nothing was pruned any more."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        poison = await delivered(rig, backend, count=2 * AT_ONCE)
        others = await delivered(rig, backend, count=20, first=100)
        paths = {(await rig.copy(segment)).path for segment in poison}
        backend.rule = lambda call: Unavailable("auth") if call.path in paths else Ok()
        rig.clock.advance(2 * DAY)
        pruner = rig.pruner()
        assert sum([await pruner.run_once() for _ in range(4)]) == len(others)
        assert all(rig.source(segment).exists() for segment in poison)
        backend.recover()
        await passing(AN_HOUR_LATER)
        assert await pruner.run_once() == len(poison)


@jumping
async def test_a_copy_that_was_put_anew_while_another_backend_was_asked_has_a_grace_of_its_own(
    tmp_path: Path,
) -> None:
    here, there = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, here, there) as rig:
        segment = await rig.recorded(0)
        pruner = rig.pruner()
        async with rig.delivering(rig.delivery(here), rig.delivery(there)):
            for backend in (here, there):
                await eventually(
                    lambda name=backend.name: rig.all_verified(segment, backend=name), "verified"
                )
            rig.clock.advance(2 * DAY)
            hold = there.hold(Op.VERIFY)
            async with _pass_of(pruner) as result:
                await hold.reached.wait()
                here.objects.clear()
                await rig.journal.copies.doubt(segment.id, here.name, "a reader found nothing")
                await eventually(lambda: bool(here.objects), "it is put again")
                await eventually(lambda: rig.all_verified(segment, backend=here.name), "and proven")
                hold.release()
        assert result == [0]
        assert rig.source(segment).exists()
        rig.clock.advance(2 * DAY)
        await passing(AN_HOUR_LATER)
        assert await pruner.run_once() == 1


@jumping
async def test_an_error_nobody_thought_of_at_one_segment_holds_up_no_other(tmp_path: Path) -> None:
    """Every pass ended at the same segment, and behind it the disk filled up."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        odd, *others = await delivered(rig, backend, count=20)
        path = (await rig.copy(odd)).path
        backend.rule = lambda call: Odd() if call.path == path else Ok()
        rig.clock.advance(2 * DAY)
        pruner = rig.pruner()
        assert await pruner.run_once() == len(others)
        assert rig.source(odd).exists()
        assert await source_state(rig, odd) == "present"
        backend.recover()
        await passing(AN_HOUR_LATER)
        assert await pruner.run_once() == 1


# What cannot be removed


@contextlib.contextmanager
def not_allowed_to_write(folder: Path) -> Iterator[None]:
    """Whoever we are: root gives up its rights, everybody else the folder's."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)


@jumping
async def test_a_folder_that_cannot_be_written_to_keeps_its_sources_and_is_not_tried_on_and_on() -> None:
    backend = ScriptedBackend()
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        async with opened(Path(place), backend) as rig:
            segments = await delivered(rig, backend, count=20)
            rig.clock.advance(2 * DAY)
            pruner = rig.pruner()
            asked = backend.count(Op.VERIFY)
            with not_allowed_to_write(rig.source(segments[0]).parent):
                for _ in range(5):
                    assert await pruner.run_once() == 0
                    await passing(timedelta(minutes=1))
            assert all(rig.source(segment).exists() for segment in segments)
            assert {await source_state(rig, segment) for segment in segments} == {"present"}
            assert backend.count(Op.VERIFY) - asked <= AT_ONCE, "one try tells about the folder"
            await passing(AN_HOUR_LATER)
            assert await pruner.run_once() == 20


@jumping
async def test_what_the_recorder_removed_itself_is_marked_once_and_is_no_loss(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.source(segment).unlink()
        rig.clock.advance(2 * DAY)
        asked = backend.count(Op.VERIFY)
        assert await rig.pruner().run_once() == 0
        assert await source_state(rig, segment) == "missing"
        assert backend.count(Op.VERIFY) == asked
        assert await rig.journal.ledger.losses() == {}
        assert rig.told(EventKind.LOST) == []


@jumping
async def test_a_root_that_is_away_keeps_everything_as_it_is(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        elsewhere = tmp_path / "unmounted"
        rig.recordings.rename(elsewhere)
        pruner = rig.pruner()
        assert await pruner.run_once() == 0
        assert await source_state(rig, segment) == "present"
        elsewhere.rename(rig.recordings)
        await passing(AN_HOUR_LATER)
        assert await pruner.run_once() == 1


# Kills, at every step


def before_the_unlink(segment: Segment, is_it: Callable[[FileIdentity, FileIdentity], bool]) -> None:
    raise Killed


def after_the_unlink(segment: Segment, is_it: Callable[[FileIdentity, FileIdentity], bool]) -> None:
    unlink_source(segment, is_it)
    raise Killed


@jumping
async def test_a_copy_lost_behind_a_tombstone_on_a_disk_that_was_away_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the unlink; then the recorder's disk is away, and the store loses the object."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        with monkeypatch.context() as killed:
            killed.setattr(prune, "unlink_source", after_the_unlink)
            with pytest.raises(BaseExceptionGroup):
                await rig.pruner().run_once()
        rig.recordings.rename(tmp_path / "unmounted")
        pruner = rig.pruner()
        await pruner.run_once()
        assert await source_state(rig, segment) == "pruning"
        backend.objects.clear()
        await rig.journal.copies.redeliver(segment.id, "S3", "reconcile: no object")
        assert not rig.told(EventKind.LOST)
        (tmp_path / "unmounted").rename(rig.recordings)
        await pruner.run_once()
        assert len(rig.told(EventKind.LOST)) == 1
        assert await rig.journal.ledger.losses() == {"copy_failed_without_source": 1}


@pytest.mark.parametrize("step", [before_the_unlink, after_the_unlink])
@jumping
async def test_a_tombstone_left_by_a_kill_is_decided_about_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[..., None]
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        monkeypatch.setattr(prune, "unlink_source", step)
        with pytest.raises(BaseExceptionGroup):
            await rig.pruner().run_once()
        await rig.journal.alive()
        left_behind(tmp_path / "data", tmp_path / "killed")
        clock = rig.clock
    monkeypatch.undo()
    async with opened(tmp_path, backend, clock=clock, data="killed") as rig:
        assert await source_state(rig, segment) == "pruning", "the kill came with the tombstone written"
        pruner = rig.pruner()
        await pruner.recover()
        unlinked = step is after_the_unlink
        assert await source_state(rig, segment) == ("pruned" if unlinked else "present")
        assert rig.source(segment).exists() is not unlinked
        assert await pruner.run_once() == (0 if unlinked else 1)
        assert not rig.source(segment).exists()
        assert await rig.journal.ledger.losses() == {}


@jumping
async def test_no_source_goes_while_there_may_be_holds_that_the_journal_does_not_know(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        pruner = rig.pruner()
        pruner.holds_unknown = lambda: "the store was not asked yet"
        assert await pruner.run_once() == 0
        early = await pruner.prune_early([segment.id])
        assert (early.pruned, early.why) == ((), "the store was not asked yet")
        assert rig.source(segment).exists()
        pruner.holds_unknown = lambda: None
        assert await pruner.run_once() == 1


@jumping
async def test_a_pass_leaves_alone_what_is_being_pruned_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the source would be called present while it goes, and the ledger would not tell that it went."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        pruner = rig.pruner()
        really_unlink = pruner._unlink
        begun, go_on = threading.Event(), threading.Event()

        def unlink_slowly(segment: Segment) -> None:
            begun.set()
            go_on.wait(30)
            really_unlink(segment)

        monkeypatch.setattr(pruner, "_unlink", unlink_slowly)
        pruning = asyncio.create_task(pruner.prune_early([segment.id]))
        await asyncio.to_thread(begun.wait, 30)
        await pruner.run_once()
        assert await source_state(rig, segment) == "pruning"
        go_on.set()
        await pruning
        assert not rig.source(segment).exists()
        assert await source_state(rig, segment) == "pruned"


@jumping
async def test_a_kill_before_the_tombstone_leaves_nothing_to_decide(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        hold = backend.hold(Op.VERIFY)
        async with _pass_of(rig.pruner()):
            await hold.reached.wait()
            await rig.journal.alive()
            left_behind(tmp_path / "data", tmp_path / "killed")
            backend.always(Unavailable())
            hold.release()
        clock = rig.clock
    backend.recover()
    async with opened(tmp_path, backend, clock=clock, data="killed") as rig:
        pruner = rig.pruner()
        await pruner.recover()
        assert await source_state(rig, segment) == "present"
        assert await pruner.run_once() == 1


@jumping
async def test_a_tombstone_on_a_disk_that_is_away_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty mount point is no proof that the unlink was done."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        monkeypatch.setattr(prune, "unlink_source", before_the_unlink)
        with pytest.raises(BaseExceptionGroup):
            await rig.pruner().run_once()
        monkeypatch.undo()
        elsewhere = tmp_path / "unmounted"
        rig.recordings.rename(elsewhere)
        pruner = rig.pruner()
        assert await pruner.run_once() == 0
        assert await source_state(rig, segment) == "pruning"
        elsewhere.rename(rig.recordings)
        assert await pruner.run_once() == 1
        assert await source_state(rig, segment) == "pruned"


@jumping
async def test_a_journal_that_is_full_after_the_unlink_is_told_in_the_next_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = ScriptedBackend()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(segment: Segment, is_it: Callable[[FileIdentity, FileIdentity], bool]) -> None:
        unlink_source(segment, is_it)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))

    async with opened(tmp_path, backend) as rig:
        [segment] = await delivered(rig, backend)
        rig.clock.advance(2 * DAY)
        monkeypatch.setattr(prune, "unlink_source", fills_up)
        try:
            assert await rig.pruner().run_once() == 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        monkeypatch.undo()
        assert await source_state(rig, segment) == "pruning"
        await rig.pruner().run_once()
        assert await source_state(rig, segment) == "pruned"


def test_identity_is_all_four_facts() -> None:
    file = FileIdentity(device=1, inode=2, size_bytes=3, mtime_ns=4)
    for change in ({"device": 9}, {"inode": 9}, {"size_bytes": 9}, {"mtime_ns": 9}):
        facts = {"device": 1, "inode": 2, "size_bytes": 3, "mtime_ns": 4, **change}
        assert not is_the_very_file(file, FileIdentity(**facts))
    assert is_the_very_file(file, FileIdentity(device=1, inode=2, size_bytes=3, mtime_ns=4))
