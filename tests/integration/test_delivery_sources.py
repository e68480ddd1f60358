"""What a recorder does to its files while they are delivered: rewritten, removed, unmounted, unreadable."""

import asyncio
import contextlib
import hashlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cctv_storaged.backends.body import BLOCK_BYTES
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.errors import JournalFull
from cctv_storaged.events import EventKind
from cctv_storaged.model import Segment
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.payloads import KEPT_BYTES
from cctv_storaged.recorder.source import OpenSource
from tests.fakes.scripted_backend import Op, ScriptedBackend, Unavailable
from tests.services.jumping import eventually, jumping, passing
from tests.services.rig import Rig, opened

Rewrite = Callable[[Rig], bytes]

LARGE_BYTES = 2 * BLOCK_BYTES + KEPT_BYTES
"""Not kept in memory, and more than one block to read."""


def append(rig: Rig) -> bytes:
    """Opened again and made longer."""
    path = rig.recordings / rig.path_of(0)
    with path.open("ab") as file:
        file.write(b"\x47\x1f\xff\x10" + bytes(184))
    return path.read_bytes()


def truncate_and_rewrite(rig: Rig) -> bytes:
    """The same inode, other footage."""
    return rig.write(0, version=1)


def replace_by_rename(rig: Rig) -> bytes:
    """Another inode under the name."""
    path = rig.recordings / rig.path_of(0)
    kept = path.with_name("kept.tmp")
    os.link(path, kept)
    path.unlink()
    data = rig.write(0, version=1)
    kept.unlink()
    return data


REWRITES = (append, truncate_and_rewrite, replace_by_rename)


def below(folder: Path) -> dict[str, bytes]:
    """Every object of a FILESYSTEM backend."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.ts") if path.is_file()
    }


def require_honest(objects: dict[str, bytes]) -> None:
    for path, data in objects.items():
        assert hashlib.sha256(data).hexdigest()[:12] in path, f"{path} is not what it says"


async def delivered(rig: Rig, data: bytes, objects: Callable[[], dict[str, bytes]]) -> None:
    """The scan looks now and then; in the end the segment that has these bytes is verified."""

    async def is_there() -> bool:
        await rig.ingest.consider(rig.root, rig.path_of(0), lambda found: True)
        return data in objects().values() and digest in [each.sha256 for each in await verified(rig)]

    digest = hashlib.sha256(data).digest()
    await eventually(is_there, "the new version is delivered")


async def verified(rig: Rig) -> list[Segment]:
    """All versions that the journal says are verified."""
    found = [await rig.journal.segments.by_id(each.id) for each in rig.registered]
    return [each for each in found if each is not None and each.copies[0].state == "verified"]


async def require_true(rig: Rig, objects: dict[str, bytes]) -> None:
    """What is called verified is there as the journal has it."""
    for segment in await verified(rig):
        held = objects[str(segment.copies[0].path)]
        assert (len(held), hashlib.sha256(held).digest()) == (segment.size_bytes, segment.sha256)


# T-07: rewritten while it is delivered


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("large", [False, True], ids=["kept in memory", "read again"])
@jumping
async def test_rewritten_during_the_put(tmp_path: Path, rewrite: Rewrite, large: bool) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        old = rig.write(0, size_bytes=LARGE_BYTES if large else 0)
        segment = await rig.register(0)
        hold = backend.hold(Op.PUT)
        async with rig.delivering(rig.delivery(backend)):
            await hold.reached.wait()
            new = rewrite(rig)
            hold.release()
            await delivered(rig, new, lambda: backend.objects)
            if await rig.journal.segments.by_id(segment.id) is not None:
                await eventually(lambda: rig.all_verified(segment), "two versions, each by its own name")
                assert old in backend.objects.values()
        require_honest(backend.objects)
        await require_true(rig, backend.objects)


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("large", [False, True], ids=["kept in memory", "read again"])
@jumping
async def test_rewritten_during_the_hashing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrite: Rewrite, large: bool
) -> None:
    """In the middle of the very reading that is hashed; nothing but a patch can be so punctual."""
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        rig.write(0, size_bytes=LARGE_BYTES if large else 0)
        await rig.register(0)
        written: list[bytes] = []
        _in_the_middle_of_reading(monkeypatch, lambda: written.append(rewrite(rig)))
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: bool(written), "it is rewritten")
            await delivered(rig, written[0], lambda: backend.objects)
        require_honest(backend.objects)
        await require_true(rig, backend.objects)


@jumping
async def test_a_full_journal_while_a_changed_source_is_looked_at_ends_no_delivery(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        rig.write(0)
        await rig.register(0)
        new = rig.write(0, version=1)
        delivery = rig.delivery(backend)
        looks, tries = delivery._context.look_again, list[Segment]()

        async def full(segment: Segment) -> None:
            tries.append(segment)
            if len(tries) < 4:
                raise JournalFull("no room")
            await looks(segment)

        object.__setattr__(delivery._context, "look_again", full)
        async with rig.delivering(delivery):
            await delivered(rig, new, lambda: backend.objects)


def _in_the_middle_of_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Once, when some of a source's bytes have been read and some have not."""
    acted = False
    really_read, really_preadv = OpenSource.read, os.preadv

    def act_once() -> None:
        nonlocal acted
        if not acted:
            acted = True
            act()

    def read(self: OpenSource, offset: int, size_bytes: int) -> bytes:
        first = really_read(self, offset, size_bytes // 2)
        act_once()
        return first + really_read(self, offset + len(first), size_bytes - len(first))

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if offset > 0:
            act_once()
        return really_preadv(descriptor, buffers, offset)

    monkeypatch.setattr("cctv_storaged.payloads.OpenSource.read", read)
    monkeypatch.setattr(os, "preadv", preadv)


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("link", [False, True], ids=["copied", "linked"])
@jumping
async def test_rewritten_while_files_are_copied_or_linked(
    tmp_path: Path, rewrite: Rewrite, link: bool
) -> None:
    """With a rate limit the copy is made block by block; the first pause is when the recorder strikes."""
    folder = tmp_path / "store"
    folder.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(folder), link=link, readback_share=0.0))
    written: list[bytes] = []
    struck: list[Rig] = []

    def strike(_: float) -> None:
        if struck:
            written.append(rewrite(struck.pop()))

    budget = ByteBudget(1.0, sleep=strike)
    async with opened(tmp_path, backend, budget=budget) as rig:
        rig.write(0, size_bytes=LARGE_BYTES)
        await rig.register(0)
        struck.append(rig)
        async with rig.delivering(rig.delivery(backend)):
            if link:
                await eventually(lambda: bool(below(folder)), "it is linked")
                written.append(rewrite(rig))
                await rig.ingest.consider(rig.root, rig.path_of(0), lambda found: True)
            await eventually(lambda: bool(written), "it is rewritten")
            await delivered(rig, written[0], lambda: below(folder))
        await backend.close()
        await require_true(rig, below(folder))
        if not link:
            require_honest(below(folder))


@jumping
async def test_an_overwritten_inode_that_a_copy_shares_is_no_copy_any_more_and_a_loss(tmp_path: Path) -> None:
    """A hard link cannot keep what the recorder writes over; the journal must not say that it does."""
    folder = tmp_path / "store"
    folder.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(folder), link=True, readback_share=0.0))
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: rig.all_verified(segment, backend="FILESYSTEM"), "verified")
            assert rig.source(segment).stat().st_nlink == 2, "it is linked on this file system"
            new = truncate_and_rewrite(rig)
            await delivered(rig, new, lambda: below(folder))

            async def doubted() -> bool:
                return await rig.state(segment, "FILESYSTEM") == "failed"

            await eventually(doubted, "the old copy is found out")
        await backend.close()
        assert await rig.journal.ledger.losses() == {"overwritten_by_recorder": 1}
        assert rig.metric("storage_segments_lost_total", cause="overwritten_by_recorder") == 1
        assert rig.metric("storage_segments_lost_total", cause="copy_failed_without_source") == 0


@jumping
async def test_a_source_that_reads_otherwise_without_having_been_written_to_is_not_delivered(
    tmp_path: Path,
) -> None:
    """A failing disk: the second backend would get other bytes than the first, under the same identity."""
    first, second = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, first, second) as rig:
        segment = await rig.recorded(0)
        async with rig.delivering(rig.delivery(first)):
            await eventually(lambda: rig.all_verified(segment, backend="FILESYSTEM"), "verified at the first")
        path = rig.source(segment)
        stamp = path.stat().st_mtime_ns
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(0, stamp))
        async with rig.delivering(rig.delivery(second)):

            async def given_up() -> bool:
                return await rig.state(segment) == "failed"

            await eventually(given_up, "it is given up")
        assert not second.objects
        assert "disk" in ((await rig.copy(segment)).error or "")


# Gone


@jumping
async def test_a_source_that_vanished_is_missing_and_a_loss_told_once(tmp_path: Path) -> None:
    """With two backends that both find out."""
    one, other = ScriptedBackend("FILESYSTEM"), ScriptedBackend("S3")
    async with opened(tmp_path, one, other) as rig:
        segment, kept = await rig.recorded(0), await rig.recorded(1)
        rig.source(segment).unlink()
        async with rig.delivering(rig.delivery(one), rig.delivery(other)):
            await eventually(lambda: rig.all_verified(kept), "the other is delivered")

            async def missing() -> bool:
                return (await rig.segment(segment)).source_state == "missing"

            await eventually(missing, "it is marked")
            await passing(timedelta(minutes=10))
        found = await rig.segment(segment)
        assert [copy.state for copy in found.copies] == ["failed", "failed"]
        assert await rig.journal.ledger.losses() == {"source_vanished": 1}
        assert rig.metric("storage_segments_lost_total", cause="source_vanished") == 1
        assert [event.segment_id for event in rig.told(EventKind.LOST)] == [segment.id]


@jumping
async def test_a_whole_day_that_the_recorder_removed_is_gone_with_its_folder(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        rig.source(segment).unlink()
        rig.source(segment).parent.rmdir()
        rig.source(segment).parent.parent.rmdir()
        async with rig.delivering(rig.delivery(backend)):

            async def missing() -> bool:
                return (await rig.segment(segment)).source_state == "missing"

            await eventually(missing, "it is marked")
        assert await rig.journal.ledger.losses() == {"source_vanished": 1}


@jumping
async def test_a_source_that_is_back_is_delivered_and_told_found(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        away = tmp_path / "away.ts"
        rig.source(segment).rename(away)
        async with rig.delivering(rig.delivery(backend)):

            async def missing() -> bool:
                return (await rig.segment(segment)).source_state == "missing"

            await eventually(missing, "it is marked")
            away.rename(rig.source(segment))
            await rig.ingest.consider(rig.root, segment.source.path, lambda found: True)
            await eventually(lambda: rig.all_verified(segment), "it is delivered after all")


@jumping
async def test_a_root_that_is_away_marks_nothing_and_its_segments_go_when_it_is_back(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = [await rig.recorded(number) for number in range(30)]
        elsewhere = tmp_path / "unmounted"
        rig.recordings.rename(elsewhere)
        delivery = rig.delivery(backend)
        async with rig.delivering(delivery):
            await passing(timedelta(hours=1))
            for segment in segments:
                found = await rig.segment(segment)
                assert found.source_state == "present"
                assert (found.copies[0].state, found.copies[0].attempts) == ("pending", 0)
            assert delivery.trouble is None, "the backend is not to blame"
            assert await rig.journal.ledger.losses() == {}
            elsewhere.rename(rig.recordings)
            await eventually(lambda: rig.all_verified(*segments), "all delivered")
        assert rig.told(EventKind.LOST) == []


@jumping
async def test_an_empty_disk_mounted_over_the_root_is_not_taken_for_losses(tmp_path: Path) -> None:
    """T-10, with a link in the place of the mount: the root leads to another file system."""
    backend = ScriptedBackend()
    with tempfile.TemporaryDirectory(dir=_another_file_system(tmp_path)) as other:
        async with opened(tmp_path, backend) as rig:
            segments = [await rig.recorded(number) for number in range(3)]
            kept = tmp_path / "kept"
            rig.recordings.rename(kept)
            rig.recordings.symlink_to(other)
            async with rig.delivering(rig.delivery(backend)):
                await passing(timedelta(minutes=30))
                assert {(await rig.segment(segment)).source_state for segment in segments} == {"present"}
                rig.recordings.unlink()
                kept.rename(rig.recordings)
                await eventually(lambda: rig.all_verified(*segments), "all delivered")
            assert await rig.journal.ledger.losses() == {}


def _another_file_system(than: Path) -> str:
    """A writable folder on another device; /dev/shm is one on every Linux that the product supports."""
    assert Path("/dev/shm").stat().st_dev != than.stat().st_dev, "run the tests in a folder on a disk"
    return "/dev/shm"


@jumping
async def test_a_disk_that_is_away_holds_up_no_other_and_costs_few_commits(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        disk = rig.beside(tmp_path / "disk")
        for number in range(300):
            disk.write(number)
        await asyncio.gather(*(disk.register(number) for number in range(300)))
        disk.recordings.rename(tmp_path / "unmounted")
        here = [await rig.recorded(number) for number in range(1000, 1010)]
        async with rig.delivering(rig.delivery(backend)):
            before = rig.clock.monotonic()
            await eventually(lambda: rig.all_verified(*here), "those that are there are delivered")
            assert rig.clock.monotonic() - before < 60
            commits = rig.commits
            await passing(timedelta(minutes=10))
            assert rig.commits - commits < 60, "not one for each of three hundred, again and again"


# Unreadable


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open("/", os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@jumping
async def test_running_out_of_descriptors_counts_against_no_segment(tmp_path: Path) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segments = [await rig.recorded(number) for number in range(3)]
        async with rig.delivering(rig.delivery(backend)):
            await eventually(lambda: rig.all_verified(*segments), "all is well")
            backend.always(Unavailable())
            waiting = await rig.recorded(10)
            backend.recover()
            with no_more_descriptors():
                await passing(timedelta(minutes=30))
            await eventually(lambda: rig.all_verified(waiting), "and is well again")
        assert (await rig.copy(waiting)).attempts == 0


@jumping
async def test_a_link_in_the_place_of_a_folder_is_not_followed_and_nothing_is_marked_lost(
    tmp_path: Path,
) -> None:
    backend = ScriptedBackend()
    async with opened(tmp_path, backend) as rig:
        segment = await rig.recorded(0)
        folder = rig.source(segment).parent
        moved = tmp_path / "moved"
        folder.rename(moved)
        folder.symlink_to(moved)
        async with rig.delivering(rig.delivery(backend)):
            await passing(timedelta(hours=1))
            assert not backend.objects
            assert (await rig.segment(segment)).source_state == "present"
            assert await rig.journal.ledger.losses() == {}
            folder.unlink()
            moved.rename(folder)
            await eventually(lambda: rig.all_verified(segment), "delivered from its own folder")
