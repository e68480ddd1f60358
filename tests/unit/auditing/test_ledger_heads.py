"""Heads of the ledger: what is signed, where it is kept, and what a ledger that contradicts one brings on."""

import asyncio
import base64
import json
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.auditing import headkeeping
from cctv_storaged.auditing.earlier import chains_of, text_of
from cctv_storaged.auditing.headkeeping import CONTRADICTED, HeadKeeper, HeadParts
from cctv_storaged.auditing.heads import head_key, newest_of, read_head, signed_document
from cctv_storaged.auditing.reading import LedgerReader
from cctv_storaged.backends.filesystem import FilesystemBackend, FilesystemSettings
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import BackendUnavailable, LedgerError, NotLookedAt
from cctv_storaged.events import EventHub
from cctv_storaged.evidence.keys import HostKey
from cctv_storaged.guarding.folders import FolderPlace
from cctv_storaged.guarding.place import Keeping, PlaceKind
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.ledgerlines import EARLIER
from cctv_storaged.metrics import Metrics
from tests.unit.auditing.chains import chain, head_of
from tests.unit.journal.samples import HOST, NOW, open_journal

DAY = timedelta(days=1)


@dataclass(slots=True)
class Clock(SystemClock):
    """A wall clock that a test sets."""

    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment


@dataclass(slots=True, kw_only=True)
class Rig:
    """A journal, a store, and the keeper of heads between them."""

    journal: Journal
    store: FilesystemBackend
    clock: Clock
    alarms: Alarms
    keeper: HeadKeeper

    def stored(self) -> list[str]:
        root = Path(self.store.location)
        return sorted(str(path.relative_to(root)) for path in root.rglob("*.json"))

    async def note(self) -> None:
        await self.journal.ledger_lines.note("something", self.clock.now())

    async def told(self) -> list[dict[str, Any]]:
        page = await self.keeper._parts.reader.page(0, 1000)
        noted = [each.line for each in page.lines if each.line.cause == CONTRADICTED]
        assert all(line.kind == Kind.NOTED for line in noted)
        return [json.loads(line.detail) for line in noted]

    def sounding(self) -> list[str]:
        return [alarm.text for alarm in self.alarms.standing if alarm.name is AlarmName.LEDGER]


@asynccontextmanager
async def rig_in(folder: Path, data: str = "data", moment: datetime = NOW) -> AsyncIterator[Rig]:
    """`data`: the folder of the journal; store and key are the same for all."""
    (folder / "store").mkdir(exist_ok=True)
    store = FilesystemBackend(FilesystemSettings(path=str(folder / "store")))
    clock = Clock(moment)
    alarms = Alarms(Metrics(), EventHub(), clock)
    async with await open_journal(folder / data) as journal:
        lines = journal.ledger_lines
        parts = HeadParts(
            lines=lines,
            reader=LedgerReader(lines, folder / data / "ledger"),
            store=store,
            prefix="",
            host_id=HOST,
            key=HostKey(folder),
            alarms=alarms,
            clock=clock,
        )
        yield Rig(journal=journal, store=store, clock=clock, alarms=alarms, keeper=HeadKeeper(parts))
    await store.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path) as rig:
        yield rig


def test_a_head_says_what_was_signed_and_nothing_else(tmp_path: Path) -> None:
    key, head = HostKey(tmp_path).current(), head_of(chain(9))
    document = signed_document(head, key)
    assert read_head(document).head == head
    assert read_head(document).key.fingerprint == key.public.fingerprint
    forged = json.loads(document)
    forged["signed"] = forged["signed"].replace('"no":9', '"no":8')
    foreign = {**forged, "signed": "{}"}
    for wrong in (json.dumps(forged), json.dumps(foreign), "{}", "[]", "no", '{"signed":1}', "9" * 100_000):
        with pytest.raises(LedgerError):
            read_head(wrong.encode())


def test_the_same_key_under_something_else_is_no_head(tmp_path: Path) -> None:
    """It signs evidence packages as well."""
    key = HostKey(tmp_path).current()
    document = json.loads(signed_document(head_of(chain(9)), key))
    text = document["signed"].replace("ledger head 1", "ledger head 2")
    document |= {"signed": text, "signature": base64.b64encode(key.sign(text.encode())).decode()}
    with pytest.raises(LedgerError, match="no head"):
        read_head(json.dumps(document).encode())


async def test_a_store_that_nobody_looked_at_yet_is_no_warning(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every first start finds it like that."""
    place = FolderPlace(PlaceKind.STORE, "/srv/store", MagicMock(Keeping))
    with pytest.raises(NotLookedAt, match="not looked at yet") as unseen:
        place.by_descriptor(0)
    assert "places accept" not in str(unseen.value)
    monkeypatch.setattr(rig.keeper, "run_once", AsyncMock(side_effect=unseen.value))
    with caplog.at_level(logging.INFO):
        await rig.keeper._begin()
    [record] = [each for each in caplog.records if "waits for the schedule" in each.message]
    assert record.levelno == logging.INFO


def test_the_newest_is_found_by_day_and_number() -> None:
    names = ["2026-01-23-9.json", "2026-01-23-10.json", "2026-01-22-99.json", "other.json", ""]
    paths = [f"p/{name}" for name in names]
    assert newest_of(paths, NOW.date()) == "p/2026-01-23-10.json"
    assert newest_of([*paths, "p/2027-03-01-3.json"], NOW.date()) == "p/2026-01-23-10.json", (
        "a clock ran ahead"
    )
    assert newest_of(["p/2027-03-01-3.json"], NOW.date()) == "p/2027-03-01-3.json"
    assert newest_of(["p/x"], NOW.date()) is None


async def test_a_head_is_stored_once_a_day_and_at_a_stop_when_there_is_news(rig: Rig) -> None:
    await rig.keeper.keep()
    await rig.note()
    await rig.keeper.keep()
    [first] = rig.stored()
    assert first == "ledger/test-host/heads/2026-01-23-1.json"
    await rig.keeper.keep(last=True)
    await rig.keeper.keep(last=True)
    assert rig.stored() == [first, first.replace("-1.json", "-2.json")]
    rig.clock.moment += DAY
    await rig.keeper.keep()
    assert len(rig.stored()) == 2, "a day without a line needs no head"
    await rig.note()
    await rig.keeper.keep()
    assert rig.stored()[-1] == "ledger/test-host/heads/2026-01-24-3.json"
    head = read_head((Path(rig.store.location) / rig.stored()[-1]).read_bytes()).head
    end = await rig.journal.ledger_lines.end()
    assert end is not None
    assert (head.no, head.hash, head.chain, head.host) == (end.no, end.hash, end.chain, HOST)
    assert head_key("", head) == rig.stored()[-1]


async def test_a_store_that_is_away_gets_its_head_later(rig: Rig) -> None:
    await asyncio.to_thread(Path(rig.store.location).rmdir)
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await rig.keeper.keep()
    known = await rig.keeper.remembered()
    assert known is not None and not known.stored
    await asyncio.to_thread(Path(rig.store.location).mkdir)
    await rig.keeper.run_once()
    assert rig.stored() == [known.path]
    assert (await rig.keeper.remembered()) != known


async def test_a_clean_stop_leaves_the_last_head(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headkeeping, "STOP_S", 60.0)
    running = asyncio.create_task(rig.keeper.run())
    while not rig.stored():
        await asyncio.sleep(0.01)
    await rig.note()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert rig.stored()[-1].endswith("-2.json")
    assert rig.sounding() == []


async def test_a_stop_hides_no_head_that_was_never_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(headkeeping, "STOP_S", 60.0)
    async with rig_in(tmp_path) as rig:
        await rig.note()
        await rig.keeper.run_once()
        away, store = tmp_path / "away", Path(rig.store.location)
        statements = ["DELETE FROM ledger WHERE no > 1", "DELETE FROM meta WHERE key LIKE 'ledger_head%'"]
        await rig.journal._store.write(lambda db: [db.execute(each) for each in statements])
    async with rig_in(tmp_path, moment=NOW + DAY) as rig:
        await asyncio.to_thread(store.rename, away)
        running = asyncio.create_task(rig.keeper.run())
        while "waits for the schedule" not in caplog.text:
            await asyncio.sleep(0.01)
        assert rig.sounding() == []
        await asyncio.to_thread(shutil.rmtree, store, True)
        await asyncio.to_thread(away.rename, store)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert "cut short" in rig.sounding()[0]
        assert len(await rig.told()) == 1, "and the head of now is of a ledger that says so"


async def test_a_ledger_that_agrees_sounds_nothing(rig: Rig) -> None:
    await rig.keeper.run_once()
    await rig.note()
    await rig.keeper.compare_remembered()
    await rig.keeper.compare_stored()
    assert (rig.sounding(), await rig.told()) == ([], [])


CHANGES = {
    "cut short": ("DELETE FROM ledger WHERE no > 1", "cut short"),
    "a line missing": ("DELETE FROM ledger WHERE no = 3", "missing"),
    "changed": ("UPDATE ledger SET hash = zeroblob(32) WHERE no = 3", "was changed"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_ledger_that_contradicts_its_head_sounds_and_says_so_once(rig: Rig, change: str) -> None:
    statement, told = CHANGES[change]
    for _ in range(2):
        await rig.note()
    await rig.keeper.keep()
    await rig.note() if change == "a line missing" else None
    await rig.journal._store.write(lambda db: db.execute(statement))
    for _ in range(2):
        await rig.keeper.compare_remembered()
        await rig.keeper.compare_stored()
    [text] = rig.sounding()
    assert told in text
    [noted] = await rig.told()
    assert told in noted["trouble"] and noted["head"] == rig.stored()[0]


async def test_a_journal_begun_anew_is_told_by_the_store(tmp_path: Path) -> None:
    async with rig_in(tmp_path, "first") as rig:
        await rig.keeper.run_once()
    async with rig_in(tmp_path, "second", NOW + DAY) as rig:
        await rig.keeper.run_once()
        [text] = rig.sounding()
        assert "another chain" in text
    async with rig_in(tmp_path, "second", NOW + 2 * DAY) as rig:
        await rig.keeper.run_once()
        assert rig.sounding() == [], "the newest head is its own since"


async def test_heads_of_the_chain_before_a_rebuild_are_expected_as_far_as_it_knew_them(
    tmp_path: Path,
) -> None:
    async with rig_in(tmp_path, "first") as rig:
        for _ in range(4):
            await rig.note()
        await rig.keeper.keep()
        before = read_head((Path(rig.store.location) / rig.stored()[0]).read_bytes())
    async with rig_in(tmp_path, "second") as rig:  # on the same day, with fewer lines
        await rig.journal.ledger_lines.remember(EARLIER, text_of(chains_of([before])))
        await rig.keeper.run_once()
        assert (rig.sounding(), len(rig.stored())) == ([], 2)
        shorter = replace(chains_of([before])[0], no=4)
        await rig.journal.ledger_lines.remember(EARLIER, text_of([shorter]))
        await rig.keeper.compare_stored()
        assert "another chain" in rig.sounding()[0], "that chain was gone on with"


async def test_a_head_of_the_chain_before_with_the_same_name_is_no_contradiction(tmp_path: Path) -> None:
    async with rig_in(tmp_path, "first") as rig:
        await rig.keeper.keep()
        before = read_head((Path(rig.store.location) / rig.stored()[0]).read_bytes())
    for known in (True, False):
        async with rig_in(tmp_path, f"second {known}") as rig:
            chains = chains_of([before]) if known else []
            await rig.journal.ledger_lines.remember(EARLIER, text_of(chains))
            await rig.keeper.keep()
            assert (rig.sounding() == []) is known


async def test_a_head_that_the_store_forgot_or_spoiled_sounds(rig: Rig) -> None:
    await rig.keeper.run_once()
    path = Path(rig.store.location) / rig.stored()[0]
    text = path.read_bytes()
    await asyncio.to_thread(path.write_bytes, text.replace(b'\\"no\\":1,', b'\\"no\\":2,'))
    await rig.keeper.compare_stored()
    assert "signature" in rig.sounding()[0]
    await asyncio.to_thread(path.unlink)
    await rig.keeper.compare_stored()
    assert "is gone" in rig.sounding()[0]


async def test_a_head_of_another_key_is_not_believed(tmp_path: Path, rig: Rig) -> None:
    await rig.keeper.run_once()
    await asyncio.to_thread((tmp_path / "signing-key.pem").unlink)
    async with rig_in(tmp_path, "data2") as other:
        await other.keeper.compare_stored()
        assert "another key" in other.sounding()[0]
