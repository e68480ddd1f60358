"""The host's name may change until something followed from it, and never after."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from cctv_storaged.journal.chain import Walk
from cctv_storaged.journal.journal import FILE_NAME, Journal
from cctv_storaged.journal.ledgerlines import EVERYTHING, RECOVERED
from tests.unit.journal.samples import GATE, HOST, NOW, new, record

LATER = "nvr-07"


async def renamed(folder: Path) -> str:
    async with await Journal.open(folder, LATER, NOW) as journal:
        return journal.host_id


async def test_a_host_without_footage_may_be_named_anew_and_its_chain_goes_on(tmp_path: Path) -> None:
    async with await Journal.open(tmp_path, HOST, NOW) as journal:
        await journal.cameras.ensure(GATE)
    assert await renamed(tmp_path) == LATER
    async with await Journal.open(tmp_path, LATER, NOW) as journal:
        assert await journal.cameras.all(NOW) == [], "its id was of the former name"
        lines = (await journal.ledger_lines.page(0, 10, EVERYTHING)).lines
        walk = Walk()
        assert [walk.step(each) for each in lines] == [None, None]
        assert json.loads(lines[0].line.detail)["host"] == HOST
        assert lines[1].line.cause == "host_renamed"
        assert json.loads(lines[1].line.detail) == {"from": HOST, "to": LATER}


async def test_a_host_with_footage_keeps_its_name(tmp_path: Path) -> None:
    async with await Journal.open(tmp_path, HOST, NOW) as journal:
        await record(journal, new(1))
    assert await renamed(tmp_path) == HOST
    async with await Journal.open(tmp_path, HOST, NOW) as journal:
        assert [each.camera.id for each in await journal.cameras.all(NOW)] == [GATE.id]


async def test_a_journal_that_was_recovered_may_have_forgotten_footage_and_keeps_its_name(
    tmp_path: Path,
) -> None:
    async with await Journal.open(tmp_path, HOST, NOW) as journal:
        await journal.ledger_lines.note(RECOVERED, NOW)
    assert await renamed(tmp_path) == HOST


async def test_all_that_was_deleted_again_has_still_been_there(tmp_path: Path) -> None:
    async with await Journal.open(tmp_path, HOST, NOW) as journal:
        await record(journal, new(1))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db, db:
        db.execute("DELETE FROM copy")
        db.execute("DELETE FROM segment")
    assert await renamed(tmp_path) == HOST
