"""Old lines leave the journal for archives; wherever it is killed on the way none is lost or there twice."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cctv_storaged.alarms import Alarms
from cctv_storaged.auditing import archiving, reading
from cctv_storaged.auditing.archive import ArchiveWriter, archives_in, lines_in
from cctv_storaged.auditing.archiving import Archiver
from cctv_storaged.auditing.closed import lines_of_closed
from cctv_storaged.auditing.proof import Finding, proven
from cctv_storaged.auditing.reading import LedgerReader
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import BackendUnavailable, LedgerError
from cctv_storaged.events import EventHub
from cctv_storaged.journal import ledgerlines
from cctv_storaged.journal.chain import BoundLine
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Kind, add
from cctv_storaged.journal.ledgerfile import closed_ledger
from cctv_storaged.journal.ledgerlines import KEPT, STORED, LedgerLines, Sift
from cctv_storaged.metrics import Metrics
from tests.unit.auditing.chains import chain
from tests.unit.journal.samples import GATE, NOW, YARD, open_journal, span

KINDS = [Kind.REGISTERED, Kind.VERIFIED, Kind.PRUNED, Kind.LOST, Kind.DELETED, Kind.REPLACED, Kind.REGISTERED]
DAY = timedelta(days=1)


class Killed(BaseException):
    """As far as the code under test can tell, the end of everything."""


@dataclass(slots=True)
class Clock(SystemClock):
    """A wall clock that a test sets."""

    moment: Any = NOW

    def now(self) -> Any:
        return self.moment


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives of 40 lines, slices of 20."""
    monkeypatch.setattr(archiving, "LINES", 40)
    for module in (archiving, reading, ledgerlines):
        monkeypatch.setattr(module, "SLICE", 20)


@dataclass(slots=True, kw_only=True)
class Rig:
    """A journal with a ledger of lines a minute apart, and what archives it."""

    folder: Path
    journal: Journal
    store: FilesystemBackend
    clock: Clock

    @property
    def archives(self) -> Path:
        return self.folder / "ledger"

    @property
    def reader(self) -> LedgerReader:
        return LedgerReader(self.journal.ledger_lines, self.archives)

    def archiver(self, keep: timedelta = timedelta(hours=1)) -> Archiver:
        alarms = Alarms(Metrics(), EventHub(), self.clock)
        lines = self.journal.ledger_lines
        return Archiver(lines, self.archives, self.store, "ledger/h/archive/", keep, self.clock, alarms)

    async def fill(self, number: int, *, first: int = 0) -> None:
        def write(db: Any) -> None:
            for each in range(first, first + number):
                at = NOW + timedelta(minutes=each)
                camera = GATE if each % 3 else YARD
                add(db, KINDS[each % len(KINDS)], UUID(int=each), camera.id, span(each), "cause", at)

        await self.journal._store.write(write)

    async def all(self) -> list[BoundLine]:
        end = await self.journal.ledger_lines.end()
        assert end is not None
        return [bound async for batch in self.reader.all(0, end.no) for bound in batch]

    async def table(self) -> list[BoundLine]:
        query = f"SELECT {ledgerlines.LINE_COLUMNS} FROM ledger ORDER BY no"
        rows = await self.journal._store.read(lambda db: db.execute(query).fetchall())
        return [ledgerlines.bound_from(row) for row in rows]

    async def reopen(self) -> None:
        await self.journal.close()
        self.journal = await open_journal(self.folder)


@asynccontextmanager
async def rig_in(folder: Path) -> AsyncIterator[Rig]:
    (folder / "store").mkdir(parents=True)
    store = FilesystemBackend(FilesystemSettings(path=str(folder / "store")))
    journal = await open_journal(folder / "data")
    rig = Rig(folder=folder / "data", journal=journal, store=store, clock=Clock())
    try:
        yield rig
    finally:
        await rig.journal.close()
        await store.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path) as rig:
        yield rig


def stored(rig: Rig) -> list[str]:
    return sorted(path.name for path in Path(rig.store.location).rglob("*.gz"))


async def test_old_lines_are_in_archives_and_those_that_others_ask_for_in_the_table_as_well(rig: Rig) -> None:
    await rig.fill(100)
    written = await rig.all()
    rig.clock.moment = NOW + timedelta(minutes=100, hours=1)
    await rig.archiver().run_once()
    assert [(each.first, each.last) for each in archives_in(rig.archives)] == [(1, 40), (41, 80)]
    assert stored(rig) == [each.path.name for each in archives_in(rig.archives)]
    table = await rig.table()
    assert [each for each in written if each.line.no > 80 or each.line.kind in KEPT] == table
    assert await rig.all() == written
    assert not proven(written).wrong
    rig.clock.moment += DAY  # too few for an archive, and due for a day
    await rig.archiver().run_once()
    assert archives_in(rig.archives)[-1].last == 100, "the last line stays: the next one is bound to it"
    assert (await rig.table())[-1] == written[-1]
    await rig.fill(1, first=100)
    assert not proven(await rig.all()).wrong


async def test_nothing_is_archived_before_its_day(rig: Rig) -> None:
    await rig.fill(100)
    rig.clock.moment = NOW + timedelta(hours=1)
    await rig.archiver(keep=DAY).run_once()
    assert archives_in(rig.archives) == []


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The process ends right before or behind one of the steps that leave something."""
    seen: list[str] = []

    def stop(name: str) -> None:
        seen.append(name)
        if len(seen) == step + 1:
            raise Killed

    def around(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)
        if asyncio.iscoroutinefunction(real):

            async def step_async(*given: Any, **more: Any) -> Any:
                stop(f"before {name}")
                value = await real(*given, **more)
                stop(f"behind {name}")
                return value

            patch.setattr(owner, name, step_async)
        else:

            def step_sync(*given: Any, **more: Any) -> Any:
                stop(f"before {name}")
                value = real(*given, **more)
                stop(f"behind {name}")
                return value

            patch.setattr(owner, name, step_sync)

    with monkeypatch.context() as patch:
        around(ArchiveWriter, "write")
        around(ArchiveWriter, "finish")
        for name in ("archived", "drop", "remember"):
            around(LedgerLines, name)
        around(archiving, "shelve")
        yield seen


async def kill_and_go_on(rig: Rig, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether there was such a step."""
    await rig.fill(50)
    written = await rig.all()
    rig.clock.moment = NOW + timedelta(minutes=50, hours=1)
    killed = False
    with killed_at(step, monkeypatch) as seen:
        try:
            await rig.archiver().run_once()
        except Killed:
            killed = True
    rig.archives.mkdir(exist_ok=True)
    (rig.archives / ".making-1").write_bytes(b"half")  # a process that is killed removes nothing
    await rig.reopen()
    assert await rig.all() == written, seen[-1]
    rig.clock.moment += timedelta(minutes=1)
    await rig.archiver().run_once()
    assert await rig.all() == written, seen[-1]
    assert [(each.first, each.last) for each in archives_in(rig.archives)] == [(1, 40)], seen[-1]
    assert [path for path in rig.archives.iterdir() if path.suffix != ".gz"] == []
    kept = [each for each in written if each.line.no > 40 or each.line.kind in KEPT]
    assert await rig.table() == kept, seen[-1]
    assert await rig.journal.ledger_lines.recall(STORED) == "40"
    assert stored(rig) == [each.path.name for each in archives_in(rig.archives)]
    return killed


async def test_a_kill_at_any_step_loses_no_line_and_leaves_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = 0
    while True:
        async with rig_in(tmp_path / str(step)) as rig:
            if not await kill_and_go_on(rig, step, monkeypatch):
                break
        step += 1
    assert step > 15


async def test_a_store_that_is_away_holds_up_no_archive_and_gets_them_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.fill(50)
    rig.clock.moment = NOW + DAY
    await asyncio.to_thread(Path(rig.store.location).rmdir)
    with pytest.raises(BackendUnavailable):
        await rig.archiver().run_once()
    assert [each.last for each in archives_in(rig.archives)] == [40]
    assert {each.line.kind for each in (await rig.table())[:-11]} <= KEPT
    await asyncio.to_thread(Path(rig.store.location).mkdir)
    await rig.archiver().run_once()
    assert stored(rig) == [each.path.name for each in archives_in(rig.archives)]
    await asyncio.to_thread(shutil.rmtree, Path(rig.store.location) / "ledger")
    await rig.archiver().put_again()
    assert stored(rig) == [each.path.name for each in archives_in(rig.archives)], "emptied, and accepted"


async def test_a_file_that_is_no_archive_of_this_ledger_is_left_aside_and_counts_not(rig: Rig) -> None:
    await rig.fill(50)
    written = await rig.all()
    with ArchiveWriter(rig.archives) as writer:
        writer.write(chain(40))
        writer.finish(1, 40)
    await rig.archiver(keep=DAY).run_once()
    assert [path.name for path in rig.archives.iterdir()] == [
        "000000000001-000000000040.ndjson.gz.not-this-ledger"
    ]
    assert await rig.table() == written


async def test_archives_that_a_salvaged_journal_no_longer_counts_are_taken_in_again(rig: Rig) -> None:
    await rig.fill(90)
    written = await rig.all()
    rig.clock.moment = NOW + timedelta(minutes=90, hours=1)
    await rig.archiver().run_once()
    await rig.journal._store.write(lambda db: db.execute("DELETE FROM meta WHERE key LIKE 'ledger%'"))
    await rig.archiver(keep=30 * DAY).run_once()
    assert await rig.all() == written
    end = await rig.journal.ledger_lines.end()
    assert end is not None and end.archived == 80


async def test_pages_go_through_archives_and_table_and_pick_lines(rig: Rig) -> None:
    await rig.fill(90)
    written = await rig.all()
    rig.clock.moment = NOW + timedelta(minutes=90, hours=1)
    await rig.archiver().run_once()
    for sift in (
        Sift(),
        Sift(camera_id=YARD.id),
        Sift(kind=Kind.PRUNED),
        Sift(camera_id=GATE.id, kind=Kind.LOST),
    ):
        found: list[BoundLine] = []
        after: int | None = 0
        while after is not None:
            page = await rig.reader.page(after, 7, sift)
            assert len(page.lines) <= 7
            found += page.lines
            after = page.next
        assert found == [each for each in written if sift.takes(each.line)]
    assert (await rig.reader.line(33)) == written[32]
    assert (await rig.reader.line(99)) is None


async def test_a_rare_kind_is_looked_for_in_bounded_pages(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOOKED_AT", 30)
    await rig.fill(90)
    page = await rig.reader.page(0, 10, Sift(kind=Kind.HELD))
    assert (page.lines, page.next) == ((), 40)


async def test_a_closed_journal_is_compared_with_its_archives(rig: Rig) -> None:
    await rig.fill(90)
    written = await rig.all()
    rig.clock.moment = NOW + timedelta(minutes=90, hours=1)
    await rig.archiver().run_once()
    changes = [
        "UPDATE ledger SET cause = 'forged' WHERE kind = 'lost' AND no = 5",
        "DELETE FROM ledger WHERE no = 6",
    ]
    await rig.journal._store.write(lambda db: [db.execute(change) for change in changes])
    await rig.journal.close()
    told: list[Finding] = []
    with closed_ledger(rig.folder / "journal.db") as ledger:
        assert list(lines_of_closed(ledger, rig.archives, told.append)) == written
    assert [(each.first, each.wrong) for each in told] == [(5, "changed"), (6, "missing")]


async def test_lines_that_a_closed_journal_calls_archived_and_are_not_are_missed(rig: Rig) -> None:
    await rig.fill(90)
    rig.clock.moment = NOW + timedelta(minutes=90, hours=1)
    await rig.archiver().run_once()
    hidden = f"UPDATE meta SET value = '200:{bytes(32).hex()}' WHERE key = 'ledger_archived'"
    await rig.journal._store.write(lambda db: db.execute(hidden))
    await rig.journal.close()
    told: list[Finding] = []
    with closed_ledger(rig.folder / "journal.db") as ledger:
        assert len(list(lines_of_closed(ledger, rig.archives, told.append))) == 80
    assert [(each.first, each.last, each.wrong) for each in told] == [(81, 201, "cut short")]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_says_so(tmp_path: Path, damage: str) -> None:
    with ArchiveWriter(tmp_path) as writer:
        writer.write(chain(100))
        archive = writer.finish(1, 100)
    data = bytearray(archive.path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    archive.path.write_bytes(data)
    with pytest.raises(LedgerError):
        list(lines_in(archive.path))


def test_an_archive_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path) as writer:
        writer.write(chain(3))
    assert list(tmp_path.iterdir()) == []
