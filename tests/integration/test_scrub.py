"""What is stored is read back once per rotation, and a damaged copy is made anew from good bytes (T-42)."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends.body import Body, Deadline, Stretch
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.backends.objectstore import ObjectStore
from cctv_storaged.backends.storeclient import PutRequest
from cctv_storaged.clock import from_us
from cctv_storaged.delivery import Delivery
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.ledgerlines import Sift
from cctv_storaged.model import Segment
from cctv_storaged.pacing import ByteBudget
from cctv_storaged.scrubbing.pace import Rotation
from cctv_storaged.scrubbing.repair import Repairing
from cctv_storaged.scrubbing.scrub import BUSY_SEGMENTS, Scrub, ScrubContext, ScrubRules
from tests.services.backends import closing, store
from tests.services.jumping import eventually, jumping
from tests.services.rig import Rig, opened
from tests.services.seaweed import Bucket, SeaweedServer

ROTATION = timedelta(minutes=10)
EVERY_S = 10.0


def files(folder: Path) -> FilesystemBackend:
    """A store of its own bytes: no links to the sources."""
    folder.mkdir(exist_ok=True)
    return FilesystemBackend(FilesystemSettings(path=str(folder), link=False, readback_share=0.0))


def scrub_of(rig: Rig, *deliveries: Delivery, rotation: timedelta | None = ROTATION, **rules: Any) -> Scrub:
    by_name = {each.name: each for each in deliveries}
    repairing = Repairing(
        rig.journal,
        {name: each.backend for name, each in by_name.items()},
        by_name,
        rig.clock,
        ByteBudget(None),
        rig.recordings.parent,
    )
    context = ScrubContext(
        journal=rig.journal,
        deliveries=deliveries,
        repairing=repairing,
        alarms=Alarms(rig.metrics, rig.hub, rig.clock),
        clock=rig.clock,
        metrics=rig.metrics,
        hub=rig.hub,
    )
    return Scrub(context, ScrubRules(rotation=rotation, **{"rate_limit": None} | rules))


async def delivered(rig: Rig, count: int, *deliveries: Delivery) -> list[Segment]:
    """So many segments with a proven copy at each, and deliveries that have ended."""
    segments = [await rig.recorded(number) for number in range(count)]
    async with rig.delivering(*deliveries):
        for delivery in deliveries:
            await eventually(lambda to=delivery.name: rig.all_verified(*segments, backend=to), "verified")
    return segments


async def rotation_of(rig: Rig, backend: str) -> Rotation:
    return Rotation.parse(await rig.journal.scrubbed.state(backend))


async def rotated(rig: Rig, scrub: Scrub, backend: str) -> timedelta:
    """Runs until everything was read back once; how long that took."""
    begun = rig.clock.now()
    before = (await rotation_of(rig, backend)).before_ended_us
    while (state := await rotation_of(rig, backend)).before_ended_us == before:
        await scrub.run_once()
        await asyncio.sleep(EVERY_S)
        assert rig.clock.now() - begun < 3 * ROTATION, "it does not end"
    assert state.before_ended_us is not None
    return from_us(state.before_ended_us) - begun


async def repairs(rig: Rig) -> list[str]:
    page = await rig.journal.ledger_lines.page(0, 500, Sift(kind=Kind.REPAIRED))
    return [line.line.detail for line in page.lines]


def flip(path: Path) -> bytes:
    """One byte of a stored object is another one; its time is what it was. Returns the spoiled bytes."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return bytes(data)


@jumping
async def test_one_flipped_byte_is_found_within_one_rotation_and_repaired_from_the_source(
    tmp_path: Path,
) -> None:
    held = files(tmp_path / "store")
    async with closing(held), opened(tmp_path, held) as rig:
        delivery = rig.delivery(held)
        segments = await delivered(rig, 25, delivery)
        spoiled = (await rig.copy(segments[17], "FILESYSTEM")).path
        assert spoiled is not None
        bad = flip(tmp_path / "store" / spoiled)
        scrub = scrub_of(rig, delivery)
        assert await rotated(rig, scrub, "FILESYSTEM") <= ROTATION

        copy = await rig.copy(segments[17], "FILESYSTEM")
        assert copy.path == spoiled.removesuffix(".ts") + ".1.ts"
        assert (tmp_path / "store" / copy.path).read_bytes() == rig.source(segments[17]).read_bytes()
        assert (tmp_path / "store" / spoiled).read_bytes() == bad
        [line] = await repairs(rig)
        assert line.endswith(f"made anew from source at {copy.path}")
        assert rig.metric("storage_scrub_mismatches_total", backend="FILESYSTEM") == 1
        assert rig.metric("storage_scrubbed_bytes_total", backend="FILESYSTEM") == sum(
            each.size_bytes for each in segments if each is not segments[17]
        )
        # A deletion, by retention for one, leaves neither of the two.
        await rig.remover().delete(segments[17].id)
        assert not (tmp_path / "store" / copy.path).exists()
        assert not (tmp_path / "store" / spoiled).exists()
        assert len(list((tmp_path / "store").rglob("*.ts"))) == 24


@jumping
async def test_the_second_rotation_begins_where_the_first_ended_and_finds_what_is_new(tmp_path: Path) -> None:
    held = files(tmp_path / "store")
    async with closing(held), opened(tmp_path, held) as rig:
        delivery = rig.delivery(held)
        segments = await delivered(rig, 4, delivery)
        scrub = scrub_of(rig, delivery)
        await rotated(rig, scrub, "FILESYSTEM")
        copy = await rig.copy(segments[0], "FILESYSTEM")
        (tmp_path / "store" / str(copy.path)).unlink()
        await rotated(rig, scrub, "FILESYSTEM")
        again = await rig.copy(segments[0], "FILESYSTEM")
        assert (again.path, again.state) == (copy.path, "verified")
        assert len(await repairs(rig)) == 1
        age = rig.metric("storage_scrub_age_seconds", backend="FILESYSTEM")
        assert age < 3 * ROTATION.total_seconds()


@jumping
async def test_without_good_bytes_the_damaged_copy_stays_and_is_told(tmp_path: Path) -> None:
    held = files(tmp_path / "store")
    async with closing(held), opened(tmp_path, held) as rig:
        delivery = rig.delivery(held)
        segments = await delivered(rig, 3, delivery)
        await rig.miss(segments[1])
        rig.source(segments[1]).unlink()
        path = tmp_path / "store" / str((await rig.copy(segments[1], "FILESYSTEM")).path)
        bad = flip(path)
        scrub = scrub_of(rig, delivery)
        await rotated(rig, scrub, "FILESYSTEM")
        await scrub.run_once()

        assert path.read_bytes() == bad
        copy = await rig.copy(segments[1], "FILESYSTEM")
        assert (copy.state, await repairs(rig)) == ("failed", [])
        assert rig.metric("storage_alarms", alarm=AlarmName.DAMAGED_COPY) == 1
        assert await rig.journal.ledger.losses() == {"copy_failed_without_source": 1}
        # Neither time, nor a restart, nor the end of scrubbing makes it well.
        for _ in range(2):
            await rotated(rig, scrub, "FILESYSTEM")
        await scrub.run_once()
        assert rig.metric("storage_alarms", alarm=AlarmName.DAMAGED_COPY) == 1
        after = scrub_of(rig, delivery, rotation=None)
        assert rig.metric("storage_alarms", alarm=AlarmName.DAMAGED_COPY) == 0
        await after.run_once()
        assert rig.metric("storage_alarms", alarm=AlarmName.DAMAGED_COPY) == 1
        await rig.remover().delete(segments[1].id)
        await after.run_once()
        assert rig.metric("storage_alarms", alarm=AlarmName.DAMAGED_COPY) == 0


@jumping
async def test_damage_that_a_reader_met_sounds_too_until_good_bytes_are_back(tmp_path: Path) -> None:
    held = files(tmp_path / "store")
    async with closing(held), opened(tmp_path, held) as rig:
        delivery = rig.delivery(held)
        [segment] = await delivered(rig, 1, delivery)
        await rig.miss(segment)
        rig.source(segment).unlink()
        path = tmp_path / "store" / str((await rig.copy(segment, "FILESYSTEM")).path)
        good = path.read_bytes()
        bad = flip(path)
        scrub = scrub_of(rig, delivery, rotation=None)
        await rig.journal.copies.doubt(segment.id, "FILESYSTEM", "a reader got other bytes")
        async with rig.delivering(delivery):
            await eventually(lambda: is_in(rig, segment, "failed"), "given up")
        await scrub.run_once()
        assert rig.metric("storage_alarms", alarm=AlarmName.DAMAGED_COPY) == 1
        assert path.read_bytes() == bad, "it is there still, under the path that is told"
        [told] = await rig.journal.copies.failures(1)
        assert (told.id, told.copies[0].path) == (segment.id, str(path.relative_to(tmp_path / "store")))
        path.write_bytes(good)
        await rig.journal.copies.retry_failed(None)
        async with rig.delivering(delivery):
            await eventually(lambda: is_in(rig, segment, "verified"), "proven")
        await scrub.run_once()
        assert rig.metric("storage_alarms", alarm=AlarmName.DAMAGED_COPY) == 0


async def is_in(rig: Rig, segment: Segment, state: str) -> bool:
    return await rig.state(segment, "FILESYSTEM") == state


@jumping
async def test_a_source_that_is_spoiled_too_repairs_nothing(tmp_path: Path) -> None:
    held = files(tmp_path / "store")
    async with closing(held), opened(tmp_path, held) as rig:
        delivery = rig.delivery(held)
        [segment] = await delivered(rig, 1, delivery)
        flip(rig.source(segment))
        path = tmp_path / "store" / str((await rig.copy(segment, "FILESYSTEM")).path)
        flip(path)
        await rotated(rig, scrub_of(rig, delivery), "FILESYSTEM")
        assert await repairs(rig) == []
        assert (await rig.copy(segment, "FILESYSTEM")).state != "verified"
        assert len(list((tmp_path / "store").rglob("*.ts"))) == 1


@jumping
async def test_it_goes_on_where_the_last_process_was(tmp_path: Path) -> None:
    held = files(tmp_path / "store")
    async with closing(held), opened(tmp_path, held) as rig:
        delivery = rig.delivery(held)
        segments = await delivered(rig, 6, delivery)
        for _ in range(20):
            await scrub_of(rig, delivery, rotation=timedelta(days=30)).run_once()  # a new one has no credit
        assert (await rotation_of(rig, "FILESYSTEM")).before_ended_us is not None
        read = rig.metric("storage_scrubbed_bytes_total", backend="FILESYSTEM")
        assert read >= sum(each.size_bytes for each in segments)


@jumping
async def test_it_reads_no_faster_than_it_may_and_not_while_much_is_undelivered(tmp_path: Path) -> None:
    held = files(tmp_path / "store")
    async with closing(held), opened(tmp_path, held) as rig:
        delivery = rig.delivery(held)
        segments = await delivered(rig, 5, delivery)
        scrub = scrub_of(rig, delivery, rate_limit=segments[0].size_bytes / 100.0)
        for _ in range(12):
            await scrub.run_once()
            await asyncio.sleep(EVERY_S)
        read = rig.metric("storage_scrubbed_bytes_total", backend="FILESYSTEM")
        assert read == segments[0].size_bytes + segments[1].size_bytes
        pending = "INSERT INTO tally VALUES ('FILESYSTEM', 'pending', ?, 1)"
        await rig.journal._store.write(lambda db: db.execute("DELETE FROM tally WHERE state = 'pending'"))
        await rig.journal._store.write(lambda db: db.execute(pending, (BUSY_SEGMENTS + 1,)))
        for _ in range(30):
            await scrub.run_once()
            await asyncio.sleep(EVERY_S)
        assert rig.metric("storage_scrubbed_bytes_total", backend="FILESYSTEM") == read
        scrub.rules = ScrubRules(rotation=None, rate_limit=None)
        await scrub.run_once()


# Object stores


@asynccontextmanager
async def bucketed(folder: Path, bucket: Bucket, kind: str = "s3") -> AsyncIterator[tuple[Rig, Delivery]]:
    backend: ObjectStore = store(kind, bucket.server.endpoint, bucket.name, readback_share=0.0)
    async with closing(backend), opened(folder, backend) as rig:
        await backend.probe()
        yield rig, rig.delivery(backend)


@pytest.mark.parametrize("kind", ["minio", "s3"])
async def test_where_a_bucket_keeps_versions_the_good_bytes_are_a_new_one(
    tmp_path: Path, seaweed: SeaweedServer, kind: str
) -> None:
    async with bucketed(tmp_path, seaweed.create_locked_bucket(), kind) as (rig, delivery):
        backend = delivery.backend
        segments = await delivered(rig, 3, delivery)
        name = delivery.name
        path = str((await rig.copy(segments[1], name)).path)
        assert isinstance(backend, ObjectStore)
        spoil(backend, path)
        scrub = scrub_of(rig, delivery, rotation=timedelta(seconds=1))
        await reading_back(rig, scrub, name)
        assert (await rig.copy(segments[1], name)).path == path
        [line] = await repairs(rig)
        assert line.endswith(f"made anew from source at {path}")
        async with backend.open(path) as blocks:
            good = b"".join([block async for block in blocks])
        assert good == rig.source(segments[1]).read_bytes()
        assert len(list(backend._client.every_version(path))) == 3


async def test_a_rotten_object_of_a_bucket_is_made_anew_from_its_twin_in_a_folder(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    twin = files(tmp_path / "store")
    remote = store("s3", seaweed.endpoint, seaweed_bucket.name, readback_share=0.0)
    async with closing(twin), closing(remote), opened(tmp_path, twin, remote) as rig:
        await remote.probe()
        deliveries = (rig.delivery(twin), rig.delivery(remote))
        segments = await delivered(rig, 3, *deliveries)
        data = rig.source(segments[2]).read_bytes()
        await rig.miss(segments[2])
        rig.source(segments[2]).unlink()
        path = str((await rig.copy(segments[2], "S3")).path)
        seaweed_bucket.replace(path, flipped(data))
        scrub = scrub_of(rig, *deliveries, rotation=timedelta(seconds=1))
        await reading_back(rig, scrub, "S3")
        copy = await rig.copy(segments[2], "S3")
        assert (copy.state, copy.path) == ("verified", path.removesuffix(".ts") + ".1.ts")
        assert seaweed_bucket.read(str(copy.path)) == data
        assert seaweed_bucket.read(path) == flipped(data)
        [line] = await repairs(rig)
        assert line.endswith(f"made anew from FILESYSTEM at {copy.path}")


def flipped(data: bytes) -> bytes:
    return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


def spoil(backend: ObjectStore, path: str) -> None:
    """Somebody with a key of his own puts other bytes of the same size: a newer version."""
    client = backend._client
    with client.read(path, 0, None) as blocks:
        data = flipped(b"".join(blocks))
    stretch = Stretch(
        descriptor=-1, data=data, start=0, size_bytes=len(data), sha256=hashlib.sha256(data).digest()
    )
    body = Body(stretch, budget=ByteBudget(None), deadline=Deadline(30.0), prove=False)
    client.put(PutRequest(key=path, body=body, metadata={}, exclusive=False))


async def reading_back(rig: Rig, scrub: Scrub, backend: str) -> None:
    """By the real clock: everything at once."""
    while (await rotation_of(rig, backend)).before_ended_us is None:
        await scrub.run_once()
        await asyncio.sleep(0.01)
