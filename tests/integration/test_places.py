"""Places on real folders and a real S3 server: marks laid down once, missed, mistaken and accepted."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.backends import base
from cctv_storaged.backends.base import StoredObject
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.backends.shelf import ShelfBackend
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import BackendUnavailable, Conflict, NotFound, ObjectMissing, WrongDisk
from cctv_storaged.events import EventHub
from cctv_storaged.guarding import folders
from cctv_storaged.guarding.guarded import GuardedBackend
from cctv_storaged.guarding.identity import NAME, Standing, identity_in
from cctv_storaged.guarding.place import PlaceKind, Seen
from cctv_storaged.guarding.places import Places
from cctv_storaged.journal.journal import Journal
from cctv_storaged.metrics import Metrics
from cctv_storaged.pacing import ByteBudget
from tests.integration.api.harness import running, until
from tests.services.backends import closing, store
from tests.services.payloads import payload_of, some_bytes, write_source
from tests.services.seaweed import Bucket

KEY = "3f0c/2026/03/05/12/20260305T120000.000000Z_10000_0123456789ab.ts"
UNLIMITED = ByteBudget(None)


class Bench:
    """The places of one host over a real journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.metrics = Metrics()
        self.alarms = Alarms(self.metrics, EventHub(), SystemClock())
        self.places = Places(journal.places, "nvr-01", SystemClock(), self.alarms, self.metrics)

    @property
    def sounding(self) -> set[str]:
        return {each.subject for each in self.alarms.standing if each.name is AlarmName.WRONG_DISK}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Bench]:
    async with await Journal.open(folder, "nvr-01", datetime.now(UTC)) as journal:
        bench = Bench(journal)
        await bench.places.load()
        yield bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path / "data") as made:
        yield made


def folder(path: Path, *names: str) -> Path:
    made = path.joinpath(*names)
    made.mkdir(parents=True, exist_ok=True)
    return made


async def test_a_folder_is_marked_once_and_known_by_that_for_good(tmp_path: Path) -> None:
    root = folder(tmp_path, "recordings")
    async with opened(tmp_path / "data") as first:
        place = first.places.root(str(root))
        await first.places.check()
        assert (place.standing, first.places.trouble()) == (Standing.RIGHT, None)
    document = (root / NAME).read_bytes()
    assert place.known == identity_in(document)
    assert sorted(os.listdir(root)) == [NAME], "nothing else is left behind"
    async with opened(tmp_path / "data") as second:
        place = second.places.root(str(root))
        await second.places.check()
        assert (place.standing, (root / NAME).read_bytes()) == (Standing.RIGHT, document)
        (root / NAME).unlink()
        await second.places.check()
        assert (place.standing, second.sounding) == (Standing.MISSING, {str(root)})
        assert not (root / NAME).exists(), "a mark that is missing is never made anew by itself"
        (root / NAME).write_bytes(document)
        await second.places.check()
        assert (place.standing, second.sounding) == (Standing.RIGHT, set())


async def test_a_fresh_journal_takes_over_the_mark_that_is_there(tmp_path: Path) -> None:
    root = folder(tmp_path, "recordings")
    known = []
    for data in ("data", "another"):
        async with opened(tmp_path / data) as bench:
            place = bench.places.root(str(root))
            await bench.places.check()
            known.append(place.known)
    assert known[0] == known[1] is not None


async def test_swapped_roots_are_told_by_whose_disk_it_is(tmp_path: Path, bench: Bench) -> None:
    one, other, aside = folder(tmp_path, "one"), folder(tmp_path, "other"), tmp_path / "aside"
    places = [bench.places.root(str(one)), bench.places.root(str(other))]
    await bench.places.check()
    for source, target in ((one, aside), (other, one), (aside, other)):
        source.rename(target)
    await bench.places.check()
    assert [place.standing for place in places] == [Standing.OTHER] * 2
    assert bench.sounding == {str(one), str(other)}
    assert f"the identity of {other}" in (places[0].trouble or "")
    assert "cctv-storaged places accept" in (places[0].trouble or "")
    assert bench.metrics.place_ok.labels("root", str(one))._value.get() == 0


async def test_a_place_that_is_not_there_yet_is_no_alarm_and_is_marked_when_it_comes(
    tmp_path: Path, bench: Bench
) -> None:
    place = bench.places.root(str(tmp_path / "recordings"))
    await bench.places.check()
    assert (place.standing, place.trouble, bench.sounding) == (Standing.AWAY, None, set())
    folder(tmp_path, "recordings")
    await bench.places.check()
    assert (place.standing, (tmp_path / "recordings" / NAME).exists()) == (Standing.RIGHT, True)
    (tmp_path / "recordings").rename(tmp_path / "elsewhere")
    await bench.places.check()
    assert (place.standing, bench.sounding) == (Standing.MISSING, {place.location})


async def test_where_nothing_can_be_laid_down_the_file_system_stands_in(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a root that is mounted read-only; the refusal is the only thing made up here."""
    root = folder(tmp_path, "recordings")

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folders, "laid_in", refuse)
    place = bench.places.root(str(root))
    await bench.places.check()
    assert bench.places.trouble() is None
    assert (place.known or "").startswith(("fs:", "net:"))
    assert bench.places.roots.doubt(str(root)) is None
    root.rename(tmp_path / "elsewhere")
    folder(tmp_path, "recordings")
    await bench.places.check()
    assert place.standing is Standing.OTHER
    assert bench.places.roots.doubt(str(root)) is not None


async def test_a_mount_that_hangs_keeps_nobody_waiting_and_is_told(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, answers = folder(tmp_path, "hangs"), folder(tmp_path, "answers")
    one, other = bench.places.root(str(hangs)), bench.places.root(str(answers))
    await bench.places.check()
    release, look, looks = threading.Event(), folders._looked_at, list[str]()

    def hang(path: str, known: str | None) -> Seen:
        looks.append(path)
        if path == str(hangs):
            release.wait()
        return look(path, known)

    monkeypatch.setattr(folders, "_looked_at", hang)
    monkeypatch.setattr(folders, "PATIENCE_S", 0.05)
    for _ in range(3):
        await bench.places.check()
    assert (one.standing, looks.count(str(hangs))) == (Standing.SILENT, 1), "one look, however often"

    async def told_right() -> bool:
        """Also the other's thread may need more than this moment on a busy machine."""
        await bench.places.check()
        return (other.standing, bench.sounding) == (Standing.RIGHT, {str(hangs)})

    await until(told_right)
    assert (one.standing, looks.count(str(hangs))) == (Standing.SILENT, 1)
    release.set()
    monkeypatch.setattr(folders, "PATIENCE_S", 30.0)
    await bench.places.check()
    assert (one.standing, bench.sounding) == (Standing.RIGHT, set())


async def test_another_disk_is_right_once_somebody_says_so(tmp_path: Path, bench: Bench) -> None:
    root = folder(tmp_path, "recordings")
    place = bench.places.root(str(root))
    await bench.places.check()
    before = place.known
    root.rename(tmp_path / "old")
    folder(tmp_path, "recordings")
    await bench.places.check()
    accepted = await bench.places.accept("root", str(root))
    assert (accepted.place, accepted.before, accepted.entries) == (place, before, 0)
    assert (place.standing, bench.sounding) == (Standing.RIGHT, set())
    assert place.known == identity_in((root / NAME).read_bytes()) != before
    known = {each.location: each.identity for each in await bench.journal.places.all()}
    assert known == {str(root): place.known}
    lines = await bench.journal._store.read(
        lambda db: db.execute("SELECT kind, cause, detail FROM ledger").fetchall()
    )
    assert [line[:2] for line in lines if line[1] == "place_accepted"] == [("noted", "place_accepted")]
    with pytest.raises(NotFound):
        await bench.places.accept("store", str(root))
    root.rename(tmp_path / "gone")
    with pytest.raises(Conflict):
        await bench.places.accept("root", str(root))


async def test_a_store_that_is_named_elsewhere_is_believed_only_if_it_was_moved_there(tmp_path: Path) -> None:
    """Else a deletion of what lies in the old one would be told as done, and all of it be taken for lost."""
    settings: dict[str, Any] = {"filesystem": {"path": str(tmp_path / "old"), "link": False}}
    folder(tmp_path, "old")
    async with running(tmp_path, settings) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
    [copy] = (tmp_path / "old").rglob("*.ts")
    settings["filesystem"]["path"] = str(folder(tmp_path, "new"))
    async with running(tmp_path, settings) as host:
        places = host.parts.foundation.places
        assert places.trouble() is not None
        with pytest.raises(Conflict):  # nor can such a store say which holds are in force
            await host.parts.remover.delete(UUID(segment["id"]))
        host.parts.remover.holds_unknown = lambda: None  # as if it had been heard before the disk was changed
        await host.parts.remover.delete(UUID(segment["id"]))
        waiting = await host.journal.deletions.unfinished(9, datetime.now(UTC) + timedelta(hours=1))
        assert [str(each.id) for each in waiting] == [segment["id"]], "nobody says that it is gone"
        assert copy.exists()
    (tmp_path / "new").rmdir()
    (tmp_path / "old").rename(tmp_path / "new")
    async with running(tmp_path, settings) as host:
        assert host.parts.foundation.places.trouble() is None
    settings["filesystem"]["path"] = str(folder(tmp_path, "another"))
    async with running(tmp_path, settings) as host:
        assert host.parts.foundation.places.trouble() is not None
        await host.parts.foundation.places.accept("store", str(tmp_path / "another"))
    async with running(tmp_path, settings) as host:
        assert host.parts.foundation.places.trouble() is None
        stores = [each for each in await host.journal.places.all() if each.kind == PlaceKind.STORE]
        assert [each.location for each in stores] == [str(tmp_path / "another")]


async def test_a_root_is_held_while_something_is_done_in_it(tmp_path: Path, bench: Bench) -> None:
    root = folder(tmp_path, "recordings")
    (root / "a.ts").write_bytes(b"a")
    bench.places.root(str(root))
    await bench.places.check()
    with bench.places.roots.opened(str(root)) as path:
        root.rename(tmp_path / "taken away")
        folder(tmp_path, "recordings")
        assert os.listdir(path).count("a.ts") == 1, "it leads to what was found to be right"
    with pytest.raises(WrongDisk), bench.places.roots.opened(str(root)):
        pass
    with bench.places.roots.opened(str(tmp_path)) as path:
        assert path == str(tmp_path), "what nobody named is not guarded"


# A store's folder


async def files(bench: Bench, base_path: Path) -> tuple[FilesystemBackend, GuardedBackend]:
    place = bench.places.store(str(base_path))
    await bench.places.check()
    inner = FilesystemBackend(FilesystemSettings(path=str(base_path)), place.by_descriptor)
    return inner, GuardedBackend(inner, place)


async def put(backend: ShelfBackend, source: Path, key: str = KEY) -> StoredObject:
    with payload_of(source) as payload:
        return await backend.put(key, payload, UNLIMITED)


async def test_a_wrong_folder_is_neither_written_to_nor_believed(tmp_path: Path, bench: Bench) -> None:
    base_path = folder(tmp_path, "store")
    inner, backend = await files(bench, base_path)
    async with closing(inner):
        source = write_source(tmp_path / "recorder" / "a.ts", some_bytes(5000))
        held = await put(backend, source)
        await backend.verify(held)
        base_path.rename(tmp_path / "right")
        folder(tmp_path, "store")
        asked: list[Callable[[], object]] = [
            lambda: put(backend, source, f"{KEY}.ts"),
            lambda: backend.verify(held),
            lambda: backend.stat(KEY),
            lambda: backend.delete(KEY),
            lambda: backend.delete_many([KEY]),
            lambda: backend.sweep(0.0),
            backend.probe,
            backend.ensure_bucket,
            lambda: _first(backend.open(KEY)),
            lambda: _listed(backend),
        ]
        for ask in asked:
            with pytest.raises(BackendUnavailable) as told:
                await ask()  # type: ignore[misc]
            assert told.value.reason == "wrong_disk"
        assert list((tmp_path / "store").rglob("*")) == [], "nothing was made there"
        assert (tmp_path / "right" / KEY).exists()
        (tmp_path / "store").rmdir()
        (tmp_path / "right").rename(base_path)
        await backend.verify(held)
        await backend.delete(KEY)
        with pytest.raises(ObjectMissing):
            await backend.verify(held)


async def _first(opening: object) -> None:
    async with opening:  # type: ignore[attr-defined]
        pass


async def _listed(backend: GuardedBackend) -> list[object]:
    assert isinstance(backend, base.Listing)
    return [each async for page in backend.listed("") for each in page]


async def test_a_folder_is_made_at_first_sight_only(tmp_path: Path, bench: Bench) -> None:
    inner, backend = await files(bench, tmp_path / "store")
    async with closing(inner):
        with pytest.raises(BackendUnavailable) as told:
            await backend.probe()
        assert told.value.reason == "bucket"
        await backend.ensure_bucket()
        await backend.probe()
        assert (tmp_path / "store" / NAME).exists()
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        await bench.places.check()
        with pytest.raises(BackendUnavailable) as told:
            await backend.ensure_bucket()
        assert told.value.reason == "wrong_disk"
        assert not (tmp_path / "store").exists()


# Buckets


@asynccontextmanager
async def guarded(
    bench: Bench, bucket: Bucket, kind: str, prefix: str = ""
) -> AsyncIterator[tuple[ShelfBackend, GuardedBackend]]:
    inner = store(kind, bucket.server.endpoint, bucket.name, readback_share=0.0, prefix=prefix)
    place = bench.places.bucket(PlaceKind.STORE, kind.upper(), bucket.name, prefix)
    place.reached_by(inner)
    async with closing(inner):
        yield inner, GuardedBackend(inner, place)


async def test_a_bucket_that_answers_and_forgot_everything_is_not_believed(
    tmp_path: Path, bench: Bench, seaweed_bucket: Bucket
) -> None:
    source = write_source(tmp_path / "a.ts", some_bytes(5000))
    async with guarded(bench, seaweed_bucket, "s3") as (_, backend):
        await backend.probe()
        held = await put(backend, source)
        with pytest.raises(ObjectMissing):
            await backend.verify(StoredObject(path=f"{KEY}.ts", size_bytes=1, sha256=bytes(32)))
        seaweed_bucket.empty()
        for ask in (backend.verify(held), backend.stat(KEY), _first(backend.open(KEY)), _listed(backend)):
            with pytest.raises(BackendUnavailable) as told:
                await ask
            assert told.value.reason == "wrong_disk"
        await bench.places.check()
        (place,) = bench.places.all()
        assert (place.standing, bench.sounding) == (Standing.MISSING, {place.location})
        with pytest.raises(BackendUnavailable):
            await put(backend, source)
        accepted = await bench.places.accept("store", place.location)
        assert accepted.entries == 0
        with pytest.raises(ObjectMissing):
            await backend.verify(held)
        await backend.verify(await put(backend, source))


async def test_hosts_that_share_a_bucket_share_its_mark(tmp_path: Path, seaweed_bucket: Bucket) -> None:
    async def host(name: str) -> str | None:
        async with (
            opened(tmp_path / name) as bench,
            guarded(bench, seaweed_bucket, "minio", "site/") as (_, backend),
        ):
            await backend.probe()
            (place,) = bench.places.all()
            assert place.standing is Standing.RIGHT
            return place.known

    known = await asyncio.gather(*(host(f"nvr-{number}") for number in range(2)))
    assert len(set(known)) == 1
    assert known[0] == identity_in(seaweed_bucket.read(f"site/{NAME}"))


async def test_what_a_backend_can_do_the_guarded_one_can(
    bench: Bench, seaweed_bucket: Bucket, tmp_path: Path
) -> None:
    protocols = [
        each
        for each in vars(base).values()
        if getattr(each, "_is_runtime_protocol", False) and each is not base.Backend
    ]
    assert {base.Listing, base.Preparing, base.Presigning} <= set(protocols)
    on_files = await files(bench, folder(tmp_path, "store"))
    async with (
        guarded(bench, seaweed_bucket, "s3") as s3,
        guarded(bench, seaweed_bucket, "minio") as minio,
        closing(on_files[0]),
    ):
        for inner, backend in (s3, minio, on_files):
            for protocol in protocols:
                assert isinstance(backend, protocol) == isinstance(inner, protocol), protocol
    assert not isinstance(on_files[1], base.Presigning)
