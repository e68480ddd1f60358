"""A journal that was thrown away is made anew from what is left, and says what the one before said.

Not compared, for nobody but that journal knew it: row numbers; when a copy was stored and proven, its store's
mark (`etag`); device and inode of sources that are gone, and why they are gone (`pruned` it is then); tokens,
exports, watched times and the ledger's lines. `docs/reference/rebuild.md` has the same list.
"""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cctv_storaged import cli
from cctv_storaged.auditing.heads import heads_below
from cctv_storaged.backends.base import LegalHolding
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.cli_rebuild import rebuilt_journal
from cctv_storaged.clock import SystemClock, rfc3339, to_us
from cctv_storaged.errors import ConfigError, Conflict, JournalBroken, JournalFull
from cctv_storaged.journal.heldback import KeptHold
from cctv_storaged.journal.journal import FILE_NAME
from cctv_storaged.model import Camera, camera_id_for
from cctv_storaged.rebuilding.keeping import HoldKeeper
from cctv_storaged.wiring import delivery_settings
from tests.footage import cached_ts
from tests.integration.api.harness import Host, running, settings_of, until
from tests.services.kepthold import kept_hold
from tests.services.postgres import PostgresDatabase
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer
from tests.unit.journal.samples import open_journal

TABLES = {
    "camera": "SELECT id, name, folder, longest_us, segments, bytes, first_us FROM camera",
    "segment": """SELECT s.id, c.id, start_us, end_us, f.root, f.path, s.name, size_bytes, mtime_ns,
                         source_state, iif(source_state = 'present', device, 0),
                         iif(source_state = 'present', inode, 0), flags, codec, sha256, held, created_us,
                         stream_ticks, stream_print, deletion_due_us
                    FROM segment s JOIN camera c ON c.no = camera_no JOIN folder f ON f.no = folder_no""",
    "copy": """SELECT s.id, backend, state, path, copy.size_bytes, copy.start_us, error, urgent, attempts
                 FROM copy JOIN segment s ON s.no = segment_no""",
    "tally": "SELECT * FROM tally WHERE segments > 0",
    "hold": """SELECT id, case_id, reason, created_by, created_us, start_us, end_us, expires_us, review_us,
                      released_us, released_by, release_reason FROM hold""",
    "hold_camera": """SELECT h.id, c.id FROM hold_camera JOIN hold h ON h.no = hold_no
                        JOIN camera c ON c.no = camera_no""",
}
BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
SOURCE = {"grace": "0s", "keep": 0}


def rows(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    return rows_of(data / FILE_NAME)


def rows_of(journal: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(journal)) as db:
        return {table: sorted(db.execute(query), key=repr) for table, query in TABLES.items()}


def throw_away(data: Path) -> None:
    for path in data.glob("journal.db*"):
        path.unlink()


def recorded(host: Host, camera: str, number: int, **recipe: Any) -> Path:
    """A recorder's file, closed a while ago."""
    start = BEGIN + timedelta(seconds=10 * number)
    path = host.recordings / camera / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}.ts"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cached_ts(seconds=2, **recipe), path)
    closed = (start + timedelta(seconds=2)).timestamp()
    os.utime(path, (closed, closed))
    return path


async def all_verified(host: Host, count: int) -> None:
    async def settled() -> bool:
        tallies = await host.journal.copies.tallies()
        return {(each.state, each.segments) for each in tallies if each.segments} == {("verified", count)}

    await until(settled)


def hold(camera: str, first: int, last: int, **changes: Any) -> KeptHold:
    """Over the `first` to the `last` file of a camera."""
    facts = {
        "start_us": to_us(BEGIN + timedelta(seconds=10 * first)),
        "end_us": to_us(BEGIN + timedelta(seconds=10 * last + 2)),
    }
    named = Camera(id=camera_id_for("nvr-test", camera), name=camera, folder=camera)
    return kept_hold(named, **facts | changes)


async def lived(host: Host, *, catalogued: bool) -> None:
    """Some hours of a host's life: recorded, delivered, pruned in part, held, deleted."""
    for number in range(4):
        recorded(host, "gate", number)
        recorded(host, "Einfahrt Süd", number, codec="hevc")
    cut = recorded(host, "gate", 4)
    os.truncate(cut, os.stat(cut).st_size - 100)
    os.utime(cut, (BEGIN.timestamp() + 42, BEGIN.timestamp() + 42))
    await host.registered("elsewhere/odd name 1.ts", camera=UUID(int=7), start=BEGIN)
    holds = [
        hold("gate", 0, 1),
        hold("gate", 3, 3, end_us=2**62),
        hold("gate", 2, 2, released_us=to_us(BEGIN), released_by="b", release_reason="closed"),
    ]
    await host.journal.held_back.recover(holds, BEGIN)
    host.watch()
    host.deliver()
    await all_verified(host, 10)
    first, deleted = (await host.get("/cameras")).json, None
    assert len(first["cameras"]) == 3
    page = await host.get(f"/segments/{camera_id_for('nvr-test', 'Einfahrt Süd')}", start=str(BEGIN))
    deleted = page.json["segments"][2]
    assert (await host.delete(f"/segments/{deleted['camera_id']}/{deleted['id']}")).status == 204
    await until(lambda: gone(host, UUID(deleted["id"])))
    assert await host.parts.pruner.run_once() > 0
    keeper = HoldKeeper(
        host.journal,
        host.parts.foundation.backends[0],
        delivery_settings(host.settings).prefix,
        host.parts.foundation.clock,
    )
    await keeper.run_once()
    if catalogued and host.parts.cataloguing is not None:
        host.tasks.append(asyncio.create_task(host.parts.cataloguing.run()))
        await until(lambda: nothing_left_to_tell(host))


async def gone(host: Host, segment_id: UUID) -> bool:
    """A segment whose delivery has not let go of it yet is deleted a moment later."""
    await host.parts.remover.run_once()
    return await host.journal.segments.by_id(segment_id) is None


async def nothing_left_to_tell(host: Host) -> bool:
    return await host.journal.outbox.lag() == 0 and (await host.journal.outbox.news(10)).empty


KINDS = ("FILESYSTEM", "MINIO", "S3")


def settings_for(kind: str, server: SeaweedServer, database: PostgresDatabase | None) -> Mapping[str, object]:
    more: dict[str, object] = {"backend": kind, "source": SOURCE, "thumbnails": {"on_ingest": False}}
    bucket = server.create_bucket().name
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": bucket, "prefix": "nvr/"}
    if kind == "MINIO":
        more["minio"] = {"endpoint": server.endpoint, **keys}
    if kind == "S3":
        more["s3"] = {"endpoint_url": server.url, **keys}
    if database is not None:
        facts = {"host": database.host, "port": database.port, "db": database.name, "ssl": "disable"}
        more["postgres"] = {**facts, "user": database.user, "password": database.password}
    return more


@pytest.mark.parametrize(("kind", "catalogued"), [("FILESYSTEM", False), ("MINIO", False), ("S3", True)])
async def test_a_journal_thrown_away_is_made_anew_and_equal(
    tmp_path: Path, seaweed: SeaweedServer, request: pytest.FixtureRequest, kind: str, catalogued: bool
) -> None:
    database = request.getfixturevalue("postgres_database") if catalogued else None
    more = settings_for(kind, seaweed, database)
    async with running(tmp_path, more) as host:
        await lived(host, catalogued=catalogued)
    before = rows(host.settings.data_dir)
    states = {row[9] for row in before["segment"]}
    assert states == {"present", "pruned"}
    assert len(before["segment"]) == 9
    throw_away(host.settings.data_dir)

    rebuilt = await rebuilt_journal(host.settings, replace=False, unlabelled=False)

    assert rebuilt.tally.objects == {"adopted": 9}
    assert (rebuilt.tally.holds, rebuilt.tally.wrong, rebuilt.aside) == (3, 0, None)
    async with running(tmp_path, more) as host:
        held = await host.journal.segments.by_id(UUID(bytes=before["segment"][0][0]))
        assert held is not None
        host.watch()
        host.deliver()
        await all_verified(host, 9)
        await until(lambda: present_again(host, before))
    after = rows(host.settings.data_dir)
    for table in TABLES:
        assert after[table] == before[table], table
    assert not (host.settings.data_dir / "journal.rebuild").exists()


async def present_again(host: Host, before: Mapping[str, list[tuple[Any, ...]]]) -> bool:
    """Whether the scan has found the sources that are there."""
    ids = [UUID(bytes=row[0]) for row in before["segment"] if row[9] == "present"]
    found = [await host.journal.segments.by_id(id_) for id_ in ids]
    return all(each is not None and each.source_state == "present" for each in found)


async def test_a_sound_journal_is_replaced_on_request_alone_and_kept_aside(tmp_path: Path) -> None:
    more = {"thumbnails": {"on_ingest": False}}
    async with running(tmp_path, more) as host:
        await host.journal.held_back.recover([hold("gate", 0, 0)], BEGIN)
        recorded(host, "gate", 0)
        host.watch()
        host.deliver()
        await all_verified(host, 1)
        await host.parts.foundation.journal.ledger_lines.note("kept", BEGIN, "of the first journal")
        with pytest.raises(JournalBroken, match="in use by another"):
            await rebuilt_journal(host.settings, replace=True, unlabelled=False)
    settings, data = host.settings, host.settings.data_dir
    before = rows(data)
    with pytest.raises(ConfigError, match="a sound journal is there"):
        await rebuilt_journal(settings, replace=False, unlabelled=False)
    assert rows(data) == before

    rebuilt = await rebuilt_journal(settings, replace=True, unlabelled=False)
    assert rebuilt.aside is not None
    assert rows_of(rebuilt.aside) == before
    assert rows(data)["hold"] == before["hold"]
    (data / FILE_NAME).rename(data / f"{FILE_NAME}.rebuilt")  # killed before the last rename
    async with running(tmp_path, more) as host:
        assert not host.journal.opening.created
        host.watch()
        host.deliver()
        await all_verified(host, 1)

        async def present() -> bool:
            return rows_now(await segments_of(host)) == ["present"]

        await until(present)
    assert rows(data) == before


async def segments_of(host: Host) -> list[Any]:
    camera = camera_id_for("nvr-test", "gate")
    page = await host.get(f"/segments/{camera}", start="2000-01-01T00:00:00Z")
    found = [await host.journal.segments.by_id(UUID(each["id"])) for each in page.json["segments"]]
    return [each for each in found if each is not None]


def rows_now(segments: list[Any]) -> list[str]:
    return [str(each.source_state) for each in segments]


async def test_a_new_chain_names_the_last_signed_head_of_the_one_before(tmp_path: Path) -> None:
    async with running(tmp_path, {"thumbnails": {"on_ingest": False}}) as host:
        store = Path(host.parts.foundation.backends[0].location)
    heads = store / heads_below(delivery_settings(host.settings).prefix, "nvr-test")
    heads.mkdir(parents=True, exist_ok=True)
    for number in (9, 10):  # a stop made a second one that day
        (heads / f"2001-01-01-{number}.json").write_text("{}")
    throw_away(host.settings.data_dir)
    await rebuilt_journal(host.settings, replace=False, unlabelled=False)
    with closing(sqlite3.connect(host.settings.data_dir / FILE_NAME)) as db:
        [told] = db.execute("SELECT detail FROM ledger WHERE detail LIKE 'begun;%'").fetchall()
    assert told[0].endswith("2001-01-01-10.json")


async def test_a_new_journal_beside_footage_takes_its_holds_back_and_tells(tmp_path: Path) -> None:
    more = {"thumbnails": {"on_ingest": False}, "source": SOURCE}
    async with running(tmp_path, more) as host:
        recorded(host, "gate", 0)
        host.watch()
        host.deliver()
        await all_verified(host, 1)
        await host.journal.held_back.recover([hold("gate", 1, 1)], BEGIN)
        [keeper] = host.parts.upkeep.keepers
        await keeper.run_once()
        assert await host.parts.pruner.run_once() == 1
        await host.parts.upkeep.freshness.run_once()
        await host.parts.upkeep.auditing.heads.run_once()
        assert alarms(host) == []
        assert await before_the_first(host) == "before_first"
    data = host.settings.data_dir
    held = rows(data)["hold"]
    throw_away(data)
    async with running(tmp_path, more) as host:
        assert [each.id.bytes for each in await host.journal.held_back.all()] == [held[0][0]]
        await host.parts.upkeep.freshness.run_once()
        assert alarms(host) == ["fresh_journal"]
        assert await before_the_first(host) == "unknown"
    async with running(tmp_path, more) as host:  # it is not told once only
        await host.parts.upkeep.freshness.run_once()
        await host.parts.upkeep.auditing.heads.compare_stored()
        assert alarms(host) == ["fresh_journal", "ledger"]
    rebuilt = await rebuilt_journal(host.settings, replace=True, unlabelled=False)
    assert rebuilt.tally.holds_told.startswith("1 in force; 1 of them taken over from the journal before; 0")
    async with running(tmp_path, more) as host:
        await host.parts.upkeep.freshness.run_once()
        await host.parts.upkeep.auditing.heads.run_once()  # the head of the chain before is the newest there
        assert alarms(host) == []
        assert await before_the_first(host) == "unknown", "retention may have deleted what was there"
        [line] = (await host.get("/retention/report")).json["cameras"]
        assert line["installed_at"] is None
        assert rows_now(await segments_of(host)) == ["pruned"]
    assert rows(data)["hold"] == held


async def before_the_first(host: Host) -> str:
    """Why there is no footage on the day before."""
    span = {"start": rfc3339(BEGIN - timedelta(days=2)), "end": rfc3339(BEGIN - timedelta(days=1))}
    camera = camera_id_for("nvr-test", "gate")
    [gap] = (await host.get(f"/cameras/{camera}/coverage", **span)).json["gaps"]
    return str(gap["cause"])


async def test_a_damaged_journal_lets_nothing_go_before_the_store_was_asked_for_holds(tmp_path: Path) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store)))

    async def doubted() -> bool:
        async with await open_journal(tmp_path / "data") as journal:
            keeper = await HoldKeeper(journal, backend, "", SystemClock()).open()
            assert keeper.doubt_on_full() == keeper.doubt()
            return keeper.doubt() is not None

    assert not await doubted()
    with (tmp_path / "data" / FILE_NAME).open("r+b") as file:
        file.write(b"\xff" * 100)  # its header: all else is as it was, and the store was asked long ago
    store.rename(away)
    assert [await doubted(), await doubted()] == [True, True]
    away.rename(store)
    assert [await doubted(), await doubted()] == [False, False]
    await backend.close()


async def test_a_journal_put_back_from_a_backup_lets_nothing_go_before_it_has_the_holds_made_since(
    tmp_path: Path,
) -> None:
    """It says of itself that the store was asked. A full disk waits for no store that is away, though."""
    store, away = tmp_path / "store", tmp_path / "away"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store)))
    for backup in (tmp_path / "backup", None):
        async with await open_journal(tmp_path / "data") as journal:
            keeper = await HoldKeeper(journal, backend, "", SystemClock()).open()
            assert keeper.doubt() is None
            if backup is None:
                await journal.held_back.recover([hold("gate", 0, 1)], BEGIN)
            await keeper.run_once()
        if backup is not None:
            shutil.copytree(tmp_path / "data", backup)
    store.rename(away)
    async with await open_journal(tmp_path / "backup") as journal:
        keeper = HoldKeeper(journal, backend, "", SystemClock())
        assert (keeper.doubt() is None, keeper.doubt_on_full() is None) == (False, False), "not asked yet"
        await keeper.open()
        assert "put back from a backup" in (keeper.doubt() or "")
        assert keeper.doubt_on_full() is None
        away.rename(store)
        await keeper.run_once()
        assert (keeper.doubt(), len(await journal.held_back.all())) == (None, 1)
    async with await open_journal(tmp_path / "backup") as journal:
        keeper = await HoldKeeper(journal, backend, "", SystemClock()).open()
        assert keeper.doubt() is None
    await backend.close()


async def test_a_journal_with_no_room_for_the_answer_asks_the_store_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that can wait would go before a restart."""
    store = tmp_path / "store"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store)))
    async with await open_journal(tmp_path / "data") as journal:

        async def no_room(key: str, value: str) -> None:
            raise JournalFull("no room")

        with monkeypatch.context() as full:
            full.setattr(journal.ledger_lines, "remember", no_room)
            keeper = await HoldKeeper(journal, backend, "", SystemClock()).open()
            assert keeper.doubt() is not None
        await keeper.run_once()
        assert (keeper.doubt(), keeper.doubt_on_full()) == (None, None)
    await backend.close()


async def test_a_store_that_answers_what_nobody_thought_of_ends_no_start_and_leaves_the_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    backend = FilesystemBackend(FilesystemSettings(path=str(store)))
    async with await open_journal(tmp_path / "data") as journal:
        await HoldKeeper(journal, backend, "", SystemClock()).open()

        async def oddly(keeper: HoldKeeper) -> None:
            raise RuntimeError("odd")

        with monkeypatch.context() as odd:
            odd.setattr(HoldKeeper, "newest", oddly)
            keeper = await HoldKeeper(journal, backend, "", SystemClock()).open()
        assert keeper.doubt() is not None
        assert keeper.doubt_on_full() is None, "as where it is away"
        await keeper.run_once()
        assert keeper.doubt() is None
    await backend.close()


async def test_what_can_wait_waits_for_the_store_after_each_start_and_what_a_full_disk_needs_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = {"url": "http://127.0.0.1:9", "username": "u", "password": "p", "allow_plain_http": True}
    async with running(tmp_path, {"milestone": site}) as host:
        upkeep, pruner = host.parts.upkeep, host.parts.pruner
        assert upkeep.vms is not None
        [keeper] = upkeep.keepers
        giving_up = upkeep.capacity.keeper._parts.giving_up
        assert upkeep.retention.waiting is None
        monkeypatch.setattr(keeper, "doubt", lambda: "the store is away")
        for told in (
            lambda: upkeep.retention.waiting,
            host.parts.remover.holds_unknown,
            pruner.holds_unknown,
            host.parts.exporting.holds_unknown,
            upkeep.mirror.holds_unknown,
            upkeep.vms.marking.holds_unknown,
        ):
            assert told() == "the store is away"
        assert pruner.holds_unknown_on_full is not None
        for told in (giving_up.holds_unknown, pruner.holds_unknown_on_full):
            monkeypatch.setattr(keeper, "_failed", False)
            assert told() == "the store is away"
            monkeypatch.setattr(keeper, "_failed", True)
            assert told() is None


def alarms(host: Host) -> list[str]:
    return [str(alarm.name) for alarm in host.parts.foundation.alarms.standing]


async def test_a_legal_hold_that_no_hold_covers_becomes_one(tmp_path: Path, seaweed: SeaweedServer) -> None:
    more = settings_for("S3", seaweed, None)
    bucket = seaweed.create_locked_bucket()
    more = {**more, "s3": {**more["s3"], "bucket_recordings": bucket.name}}  # type: ignore[dict-item]
    async with running(tmp_path, more) as host:
        for number in range(3):
            recorded(host, "gate", number)
        host.watch()
        host.deliver()
        await all_verified(host, 3)
        first = min(await segments_of(host), key=lambda each: each.span)
        await backend_of(host).set_legal_hold(first.copies[0].path, True)
    throw_away(host.settings.data_dir)
    rebuilt = await rebuilt_journal(host.settings, replace=False, unlabelled=False)
    assert rebuilt.tally.holds == 1
    async with running(tmp_path, more) as host:
        [hold_] = await host.journal.held_back.all()
        assert (hold_.start_us, hold_.end_us) == (to_us(first.span.start), to_us(first.span.end))
        assert (hold_.expires_us, [camera.id for camera in hold_.cameras]) == (None, [first.camera_id])
        with pytest.raises(Conflict):
            await host.parts.remover.delete(first.id)


def backend_of(host: Host) -> LegalHolding:
    [backend] = host.parts.foundation.backends
    assert isinstance(backend, LegalHolding)
    return backend


def test_the_command_says_what_it_did_and_refuses_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    for name in ("recordings", "data/store"):
        (tmp_path / name).mkdir(parents=True)
    settings_of(tmp_path, {})
    command = ["rebuild", "--config", str(tmp_path / "config.yaml")]
    options = cli.parser().parse_args(command)
    assert cli._run(options) == 0
    assert "objects: none" in capsys.readouterr().out
    assert cli._run(options) == 2
    assert "a sound journal is there (use it; or, to have another made" in capsys.readouterr().err
    (tmp_path / "data" / "journal.db").write_bytes(b"no journal")
    assert cli._run(options) == 0
    assert "the journal that was there is kept as" in capsys.readouterr().out
