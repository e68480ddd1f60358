"""Reconciling: what differs is found, told and, when asked, mended; what only seems to differ is not."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.backends.files import describe
from cctv_storaged.catalog.postgres import PostgresCatalog
from cctv_storaged.cataloguing import Cataloguing, catalog_row
from cctv_storaged.events import EventKind
from cctv_storaged.journal.ledger import Kind as LedgerKind
from cctv_storaged.model import Segment, SourceState
from cctv_storaged.reconciling import reconciler as reconciler_module
from cctv_storaged.reconciling.brake import Braked
from cctv_storaged.reconciling.differences import Kind, Step
from cctv_storaged.reconciling.run import Outcome, read
from tests.fakes.s3stub import S3Stub, Stored
from tests.services.backends import closing, filesystem, store
from tests.services.catalog import open_catalog
from tests.services.postgres import PostgresDatabase
from tests.services.reconciling import PATIENCE_S, Bench, Later, bench, counts
from tests.services.rig import HOST as RIG
from tests.services.rig import Rig, opened

FILESYSTEM = "FILESYSTEM"
CAMERAS = ("gate", "yard")
"""Of each only one segment may be gone without braking."""
EACH = 3


@asynccontextmanager
async def host(folder: Path, each: int = EACH) -> AsyncIterator[tuple[Rig, list[Segment], Path]]:
    """Two cameras whose segments are all delivered to a folder, and that folder."""
    held = folder / "store"
    held.mkdir(exist_ok=True)
    async with closing(filesystem("filesystem-copy", held)) as backend, opened(folder, backend) as rig:
        yield rig, await delivered(rig, FILESYSTEM, each), held


async def delivered(rig: Rig, backend: str, each: int = EACH) -> list[Segment]:
    segments = [await rig.recorded(number, camera) for camera in CAMERAS for number in range(each)]
    async with delivering(rig):
        await verified(rig, segments, backend)
    return [await rig.segment(segment) for segment in segments]


def delivering(rig: Rig) -> AbstractAsyncContextManager[None]:
    """By a delivery of its own."""
    rig.deliveries.clear()
    return rig.delivering(rig.delivery(rig.backends[0], workers=4))


async def verified(rig: Rig, segments: Sequence[Segment], backend: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await rig.all_verified(*segments, backend=backend):
            await asyncio.sleep(0.005)


def object_of(held: Path, segment: Segment) -> Path:
    copy = segment.copy_at(FILESYSTEM)
    assert copy is not None and copy.path is not None
    return held / copy.path


async def test_where_nothing_differs_nothing_is_told(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, _):
        run = await bench(rig).reconciled(apply=True)
        assert run.outcome is Outcome.COMPLETED
        assert counts(run) == {}
        assert [each.looked for each in run.sections] == [len(segments), len(segments)]
        assert [each.compared for each in run.sections] == [len(segments), len(segments)]


async def test_a_dry_run_changes_nothing_and_sounds_the_alarm(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, held):
        object_of(held, segments[0]).unlink()
        tried = bench(rig)
        run = await tried.reconciled()
        assert counts(run) == {Kind.GHOST: 1}
        assert [sample.segment_id for sample in run.findings.samples] == [segments[0].id]
        assert await rig.state(segments[0], FILESYSTEM) == "verified"
        [alarm] = tried.alarms.standing
        assert (alarm.name, "1 ghost" in alarm.text) == (AlarmName.RECONCILE, True)
        restarted = bench(rig)
        async with restarted.working():
            await until_sounding(restarted)


async def test_a_store_that_forgets_what_it_acknowledged_is_put_again_from_the_source(tmp_path: Path) -> None:
    """T-23: lost within the grace, while the source is still there."""
    with S3Stub() as stub:
        async with closing(store("s3", stub.endpoint, stub.bucket)) as s3, opened(tmp_path, s3) as rig:
            segments = await delivered(rig, "S3")
            lost = segments[5].copy_at("S3")
            assert lost is not None and lost.path is not None
            forgotten = stub.objects.pop(lost.path)
            tried = bench(rig)
            assert counts(await tried.reconciled()) == {Kind.GHOST: 1}
            async with delivering(rig):
                run = await tried.reconciled(apply=True)
                await verified(rig, segments, "S3")
            assert run.findings.counts[Kind.GHOST].applied == 1
            assert stub.objects[lost.path].data == forgotten.data
            assert counts(await tried.reconciled()) == {}
            assert not tried.alarms.standing


async def test_a_ghost_without_a_source_is_told_as_lost(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, held):
        rig.source(segments[0]).unlink()
        await rig.miss(segments[0])
        object_of(held, segments[0]).unlink()
        object_of(held, segments[EACH]).unlink()
        await rig.journal._store.write(lambda db: db.execute("UPDATE segment SET held = 1"))
        tried = bench(rig)
        await tried.reconciled(apply=True)
        run = read(await rig.journal.reconcile.noted())
        assert run is not None
        count = run.findings.counts[Kind.GHOST]
        assert (count.found, count.applied, count.lost, count.lost_held) == (2, 1, 1, 1)
        assert [each.segment_id for each in count.lost_held_samples] == [segments[0].id]
        [alarm] = tried.alarms.standing
        assert "1 mended, 1 gone for good, told as lost (1 of it under a hold)" in alarm.text
        assert await rig.state(segments[0], FILESYSTEM) == "failed"
        assert [event.segment_id for event in rig.told(EventKind.LOST)] == [segments[0].id]
        lines = await rig.journal.ledger.of_camera(segments[0].camera_id, segments[0].span)
        assert [line.kind for line in lines] == [LedgerKind.LOST]


async def test_a_listing_that_hides_objects_makes_no_ghosts(tmp_path: Path) -> None:
    with S3Stub() as stub:
        async with (
            closing(store("minio", stub.endpoint, stub.bucket)) as minio,
            opened(tmp_path, minio) as rig,
        ):
            segments = await delivered(rig, "MINIO")
            for listing in (lambda keys: [], lambda keys: sorted(keys)[3:7]):
                stub.behave(listing=listing)
                run = await bench(rig).reconciled(apply=True)
                assert (counts(run), run.outcome) == ({}, Outcome.COMPLETED)
            assert await rig.all_verified(*segments, backend="MINIO")


def mixed(key: str) -> bytes:
    """An order that is none, and the same in every run."""
    return hashlib.sha256(key.encode()).digest()


@pytest.mark.parametrize("page_keys", [1, 5, 1000])
async def test_a_listing_out_of_order_tells_no_differences(tmp_path: Path, page_keys: int) -> None:
    with S3Stub() as stub:
        async with (
            closing(store("minio", stub.endpoint, stub.bucket)) as minio,
            opened(tmp_path, minio) as rig,
        ):
            await delivered(rig, "MINIO", 6)
            stub.behave(page_keys=page_keys)
            for listing in (lambda keys: sorted(keys, reverse=True), lambda keys: sorted(keys, key=mixed)):
                stub.behave(listing=listing)
                run = await bench(rig).reconciled(apply=True)
                assert (counts(run), run.outcome) == ({}, Outcome.COMPLETED)


async def test_an_orphan_is_adopted_and_what_is_others_is_left_alone(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, held):
        kept = object_of(held, segments[3])
        await forget(rig, segments[3])
        for path in ("exports/x/clip.mp4", "thumbnails/a/b.jpg", ".cctv-put-1", "notes.ts"):
            (held / path).parent.mkdir(parents=True, exist_ok=True)
            (held / path).write_bytes(b"G")
        foreign = held / str(UUID(int=5)) / "2026/01/01/00/20260101T000000.000000Z_1000_0123456789ab.ts"
        foreign.parent.mkdir(parents=True)
        foreign.write_bytes(b"G" * 188)
        label(foreign, host="another")
        before = all_files(held)
        run = await bench(rig).reconciled()
        assert counts(run) == {Kind.ORPHAN_OBJECT: 1, Kind.UNREGISTERED_FILE: 1}
        assert run.sections[0].elsewhere == 1
        run = await bench(rig).reconciled(apply=True)
        assert run.findings.counts[Kind.ORPHAN_OBJECT].applied == 1
        adopted = await rig.segment(segments[3])
        copy = adopted.copy_at(FILESYSTEM)
        assert copy is not None and held / str(copy.path) == kept
        assert all_files(held) == before


async def test_cameras_of_other_hosts_in_the_same_bucket_are_jumped_over(tmp_path: Path) -> None:
    """Asked once whose they are; their objects are not even listed to the end."""
    with S3Stub() as stub:
        minio = store("minio", stub.endpoint, stub.bucket)
        async with closing(minio), opened(tmp_path, minio) as rig:
            await delivered(rig, "MINIO")
            others = {"x-amz-meta-host": "another"}
            for camera in (UUID(int=1), UUID(int=2**128 - 1)):
                for number in range(100):
                    name = f"20260101T{number:06}.000000Z_1000_0123456789ab.ts"
                    key = f"{camera}/2026/01/01/00/{name}"
                    stub.objects[key] = Stored(data=b"G", etag="x", checksum=None, metadata=others)
            stub.behave(page_keys=10)
            stub.seen.clear()
            run = await bench(rig).reconciled()
            assert (counts(run), run.outcome) == ({}, Outcome.COMPLETED)
            assert len(stub.requests("HEAD")) == 2
            assert len([seen for seen in stub.seen if "list-type" in seen.query]) <= 6
            assert 2 <= run.sections[0].elsewhere <= 20


async def test_an_object_of_another_size_is_proven_anew_and_put_again(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, held):
        spoiled = object_of(held, segments[1])
        spoiled.write_bytes(spoiled.read_bytes()[:-188])
        assert counts(await bench(rig).reconciled()) == {Kind.MISMATCH: 1}
        await bench(rig).reconciled(apply=True)
        assert await rig.state(segments[1], FILESYSTEM) == "stored"
        async with delivering(rig):
            await verified(rig, segments, FILESYSTEM)
        copy = await rig.copy(segments[1], FILESYSTEM)
        assert (held / str(copy.path)).stat().st_size == segments[1].size_bytes


async def test_work_under_way_is_no_difference(tmp_path: Path) -> None:
    """A put that nobody marked yet, a fresh object, a fresh file, a fresh proof."""
    async with host(tmp_path) as (rig, segments, held):
        rig.write(100)  # neither scanned
        pending = await rig.recorded(101)
        async with delivering(rig):
            await verified(rig, [pending], FILESYSTEM)
        await unmark(rig, pending)
        object_of(held, segments[0]).unlink()
        await forget(rig, segments[1])
        run = await bench(rig, clock=Later(timedelta(0))).reconciled()
        assert counts(run) == {Kind.GHOST: 1}, "proven long ago by the rig's clock"
        assert [(each.young, each.under_way) for each in run.sections] == [(2, 0), (2, 0)]
        run = await bench(rig).reconciled()
        assert [(each.young, each.under_way) for each in run.sections] == [(0, 1), (0, 0)]
        assert counts(run) == {Kind.GHOST: 1, Kind.ORPHAN_OBJECT: 1, Kind.UNREGISTERED_FILE: 2}


async def test_files_without_rows_are_scanned_for_and_rows_without_files_are_marked(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, _):
        rig.write(100)
        rig.write(3, "new camera")
        rig.source(segments[2]).unlink()
        tried = bench(rig)
        run = await tried.reconciled(apply=True)
        assert counts(run) == {Kind.UNREGISTERED_FILE: 2, Kind.MISSING_SOURCE: 1}
        assert set(tried.rescanned) == {str(rig.recordings)}
        assert (await rig.segment(segments[2])).source_state is SourceState.MISSING
        assert not rig.told(EventKind.LOST)


async def test_a_folder_that_went_with_all_its_files_is_noticed(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, _):
        shutil.rmtree(rig.recordings / "yard")
        tried = bench(rig)
        run = await tried.reconciled(apply=True)
        assert counts(run) == {Kind.MISSING_SOURCE: EACH}
        assert [stop.camera_id for stop in run.braked] == [segments[EACH].camera_id]
        assert (await rig.segment(segments[EACH])).source_state is SourceState.PRESENT
        await tried.reconciled(apply=True, force=True)
        assert (await rig.segment(segments[EACH])).source_state is SourceState.MISSING


async def test_a_root_that_is_not_there_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler_module, "PATIENCE_S", ())
    async with host(tmp_path) as (rig, segments, _):
        rig.recordings.rename(tmp_path / "unmounted")
        run = await bench(rig).reconciled(apply=True, force=True)
        assert (counts(run), run.outcome) == ({}, Outcome.INCOMPLETE)
        assert run.sections[1].trouble
        rig.recordings.mkdir()
        tried = bench(rig, wrong_place=lambda section: "no mark" if section.kind == "root" else None)
        run = await tried.reconciled(apply=True, force=True)
        assert (counts(run), run.sections[1].trouble) == ({}, "no mark")
        assert (await rig.segment(segments[0])).source_state is SourceState.PRESENT


async def test_an_emptied_store_is_braked_and_force_is_in_the_ledger(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, held):
        for camera in held.iterdir():
            shutil.rmtree(camera)
        tried = bench(rig)
        run = await tried.reconciled(apply=True)
        assert counts(run) == {Kind.GHOST: len(segments)}
        assert run.findings.counts[Kind.GHOST].applied == 0
        assert Braked(section=FILESYSTEM, camera_id=None, gone=2 * EACH, compared=2 * EACH) in run.braked
        assert await rig.all_verified(*segments, backend=FILESYSTEM)
        run = await tried.reconciled(apply=True, force=True)
        assert run.findings.counts[Kind.GHOST].applied == len(segments)
        lines = (await rig.journal.ledger_lines.page(0, 500)).lines
        noted = [bound.line for bound in lines if bound.line.cause == "reconcile_forced"]
        assert ["asked for by test" in line.detail for line in noted] == [True]


async def test_the_brake_stops_one_camera_and_not_the_others(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, segments, held):
        gate, yard = segments[:EACH], segments[EACH:]
        for segment in (*gate[:2], yard[0]):
            object_of(held, segment).unlink()
        run = await bench(rig).reconciled(apply=True)
        assert [stop.camera_id for stop in run.braked] == [gate[0].camera_id]
        assert await rig.all_verified(*gate, backend=FILESYSTEM)
        assert await rig.state(yard[0], FILESYSTEM) == "pending"


async def test_what_goes_while_it_acts_is_braked_too(tmp_path: Path) -> None:
    """One ghost was found; when it is to be mended the whole store is empty."""
    async with host(tmp_path) as (rig, segments, held):
        object_of(held, segments[0]).unlink()
        passes: list[int] = []

        def emptied(made: Sequence[reconciler_module.Section]) -> Sequence[reconciler_module.Section]:
            passes.append(1)
            if len(passes) == 2:
                for camera in held.iterdir():
                    shutil.rmtree(camera)
            return made

        run = await bench(rig, sections=emptied).reconciled(apply=True)
        assert run.findings.counts[Kind.GHOST].applied <= 2
        states = [await rig.state(segment, FILESYSTEM) for segment in segments]
        assert states.count("pending") <= 2


@pytest.mark.parametrize("stop_after", [1, 8])
async def test_a_run_that_was_killed_goes_on_and_tells_the_same(
    tmp_path: Path, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler_module, "SAVED_S", 0.0)
    monkeypatch.setattr("cctv_storaged.journal.reconcile.ROWS", 2)
    monkeypatch.setattr("cctv_storaged.backends.walking.PAGE_FILES", 3)
    async with host(tmp_path, 6) as (rig, segments, held):
        object_of(held, segments[2]).unlink()
        rig.source(segments[9]).unlink()
        rig.write(100, "zoo")
        whole = await bench(rig).reconciled()
        killed = bench(rig, sections=lambda made: [_Dying(each, stop_after) for each in made])
        await killed.reconciler.begin(apply=False, force=False, why="test")
        with pytest.raises(_Killed):
            await killed.reconciler._passes(killed.reconciler._run)  # type: ignore[arg-type]
        after = bench(rig)
        async with after.working():
            run = await after.ended()
        assert (run.resumed, run.outcome) == (1, Outcome.COMPLETED)
        assert counts(run) == counts(whole)
        assert [(each.name, each.compared) for each in run.sections] == [
            (each.name, each.compared) for each in whole.sections
        ]


class _Killed(Exception):
    """The process ends here."""


class _Dying:
    """A section in the middle of which the process ends."""

    def __init__(self, section: reconciler_module.Section, after: int) -> None:
        self._section, self._after = section, after
        self.name, self.kind = section.name, section.kind

    async def steps(self, cursor: str | None) -> AsyncIterator[Step]:
        number = 0
        async for step in self._section.steps(cursor):
            if number == self._after:
                raise _Killed
            number += 1
            yield step
        if number < self._after:
            raise _Killed


async def test_a_cancelled_run_ends_where_it_is(tmp_path: Path) -> None:
    async with host(tmp_path) as (rig, _, _):
        tried = bench(rig, rate=1.0)  # it waits for its pace
        await tried.reconciler.begin(apply=False, force=False, why="test")
        async with tried.working():
            await tried.reconciler.cancel()
            run = await tried.ended()
            assert run.outcome is Outcome.CANCELLED
            again = bench(rig)
            assert (await again.reconciled()).outcome is Outcome.COMPLETED


async def test_the_clock_begins_a_dry_run_once_a_day_and_with_a_new_journal(tmp_path: Path) -> None:
    async with host(tmp_path, 1) as (rig, _, _):
        clock = Later(timedelta(0))
        tried = bench(rig, clock=clock)
        await tried.reconciler.run_due()
        assert await tried.reconciler.last() is None, "too soon after the start"
        for ahead, why in ((timedelta(minutes=6), "new journal"), (timedelta(days=2), "schedule")):
            clock.ahead = ahead
            await tried.reconciler.run_due()
            async with tried.working():
                run = await tried.ended()
            assert (run.why, run.apply) == (why, False)
            await tried.reconciler.run_due()
            assert (await tried.reconciler.last()) is run, "not again so soon"


async def test_the_catalog_is_told_anew_and_forgets_what_is_not(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    sql = postgres_database.sql
    async with host(tmp_path) as (rig, segments, _), open_catalog(postgres_database, RIG) as catalog:
        missing, moved, unmarked, untold, told = segments[:5]
        async with cataloguing(rig, catalog):
            await told_all(rig)
        sql(f"DELETE FROM segments WHERE id = '{missing.id}'")
        sql(f"UPDATE segments SET storage_path = 'elsewhere' WHERE id = '{moved.id}'")
        sql(f"UPDATE segment_copies SET state = 'failed' WHERE segment_id = '{unmarked.id}'")
        sql(f"UPDATE segments SET size_bytes = 1 WHERE id = '{untold.id}'")
        await rig.journal.reconcile.tell_again([untold.id])
        await forget(rig, told)
        async with open_catalog(postgres_database, "another") as other:
            row = catalog_row(told, "another")
            assert row is not None
            await other.upsert([replace(row, id=UUID(int=1))])
        tried = bench(rig, catalog=catalog)
        run = await tried.reconciled()
        expected = {Kind.CATALOG_MISSING: 1, Kind.CATALOG_DIFFERS: 2, Kind.CATALOG_EXTRA: 1}
        assert {kind: count for kind, count in counts(run).items() if kind.startswith("catalog")} == expected
        ids = {sample.kind: sample.segment_id for sample in run.findings.samples}
        assert (ids[Kind.CATALOG_MISSING], ids[Kind.CATALOG_EXTRA]) == (missing.id, told.id)
        await tried.reconciled(apply=True)
        assert tried.woken
        async with cataloguing(rig, catalog):
            await told_all(rig)
        assert not [kind for kind in counts(await tried.reconciled()) if kind.startswith("catalog")]
        assert sql("SELECT count(*) FROM segments WHERE host_id = 'another'") == [["1"]]


async def test_a_journal_that_forgot_does_not_empty_the_catalog(
    tmp_path: Path, postgres_database: PostgresDatabase
) -> None:
    async with host(tmp_path) as (rig, segments, _), open_catalog(postgres_database, RIG) as catalog:
        async with cataloguing(rig, catalog):
            await told_all(rig)
        for segment in segments:
            await forget(rig, segment)
        run = await bench(rig, catalog=catalog, sections=lambda made: made[-1:]).reconciled(apply=True)
        assert counts(run) == {Kind.CATALOG_EXTRA: len(segments)}
        assert (await rig.journal.outbox.news(100)).forgotten == ()


@asynccontextmanager
async def cataloguing(rig: Rig, catalog: PostgresCatalog) -> AsyncIterator[None]:
    feeding = Cataloguing(rig.journal, catalog, RIG, rig.clock, rig.metrics, rig.hub)
    task = asyncio.create_task(feeding.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def told_all(rig: Rig) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not (await rig.journal.outbox.news(1)).empty:
            await asyncio.sleep(0.005)


async def until_sounding(tried: Bench) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not tried.alarms.standing:
            await asyncio.sleep(0.005)


# What is done behind the journal's back


async def forget(rig: Rig, segment: Segment) -> None:
    """As a lost commit does: no trace of the segment is left."""
    await rig.journal._store.write(
        lambda db: db.execute("DELETE FROM segment WHERE id = ?", (segment.id.bytes,))
    )


async def unmark(rig: Rig, segment: Segment) -> None:
    """As after a kill between a put and its mark."""
    await rig.journal._store.write(
        lambda db: db.execute(
            """UPDATE copy SET state = 'pending', path = NULL, stored_us = NULL, verified_us = NULL
                WHERE segment_no = (SELECT no FROM segment WHERE id = ?)""",
            (segment.id.bytes,),
        )
    )


def label(path: Path, **words: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        describe(descriptor, words)
    finally:
        os.close(descriptor)


def all_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
