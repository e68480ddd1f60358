"""What a journal that is made from a damaged one, or in the place of another, must not forget."""

import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from cctv_storaged import journal as journal_room
from cctv_storaged.journal.clocks import KEY, ClockNote
from cctv_storaged.journal.connection import PAGE_BYTES
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.journal.journal import FILE_NAME, Journal
from cctv_storaged.journal.ledgerlines import KEPT_SQL
from cctv_storaged.journal.ledgerlines import LASTING as LASTING_OF_LEDGER
from cctv_storaged.journal.salvage import LASTING
from cctv_storaged.journal.schema import create
from cctv_storaged.journal.swapping import CARRIED_KEYS, carry_over
from cctv_storaged.model import Segment
from tests.unit.journal.samples import NOW, deliver, new, open_journal, record, rewritten

DAY = timedelta(days=1)
PACKAGE = Path(*journal_room.__path__).parent


def damage(folder: Path, table_or_index: str = "copy_by_path") -> None:
    """Loses the first page of one of its trees: everything else is read row by row."""
    path = folder / FILE_NAME
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        root = db.execute(query, (table_or_index,)).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)


async def salvaged(folder: Path) -> Journal:
    damage(folder)
    journal = await open_journal(folder)
    assert journal.opening.recovered_from is not None
    return journal


# What meta says

NOTE = ClockNote(
    wall=NOW,
    boot_s=5.0,
    boot_id="boot",
    first=False,
    holds=False,
    trusted_from=NOW - DAY,
    lead=timedelta(0),
    offset_s=0.0,
    offset_boot_id="boot",
    misdated=((NOW - 400 * DAY, NOW - 399 * DAY, NOW - DAY),),
    wrong=((NOW - 2 * DAY, NOW - DAY),),
)


async def test_a_salvaged_journal_knows_which_footage_a_wrong_clock_named_and_whether_it_is_doubted(
    tmp_path: Path,
) -> None:
    """Else footage of yesterday that is called 400 days old goes with the next pass."""
    async with await open_journal(tmp_path) as journal:
        await record(journal, new(0))
        await journal.clocks.note(NOTE, [])
    async with await salvaged(tmp_path) as journal:
        assert await journal.clocks.last() == NOTE


async def test_a_journal_in_the_place_of_another_knows_it_too(tmp_path: Path) -> None:
    async with await open_journal(tmp_path / "old") as journal:
        await journal.clocks.note(NOTE, [])
    (tmp_path / "new").mkdir()
    create(tmp_path / "new" / FILE_NAME)
    carry_over(tmp_path / "old" / FILE_NAME, tmp_path / "new" / FILE_NAME)
    async with await open_journal(tmp_path / "new") as journal:
        assert await journal.clocks.last() == NOTE


KEPT, ANEW = True, False
WRITERS = {
    "auditing/archiving.py": KEPT,  # ledger_…
    "auditing/headkeeping.py": KEPT,
    "journal/ledgerlines.py": KEPT,
    "journal/clocks.py": KEPT,
    "journal/hostname.py": KEPT,
    "rebuilding/freshness.py": KEPT,  # known_since; fresh_beside_footage is looked at anew
    "rebuilding/rebuild.py": KEPT,  # known_since, ledger_earlier
    "journal/outbox.py": ANEW,  # catalog_target: whichever there is is told everything
    "journal/reconcile.py": ANEW,  # reconcile: its next run begins at the front
    "journal/requiring.py": ANEW,  # required: the walk begins at the front
    "journal/retention.py": ANEW,  # retention:…: the brake asks for a yes that was given once more
    "journal/schema.py": ANEW,  # closed_cleanly
    "journal/scrubbed.py": ANEW,  # scrub:…: reading back begins at the front
    "journal/vouchdays.py": ANEW,  # review:…: the walk begins at the front
    "rebuilding/keeping.py": ANEW,  # holds_asked:…: must not be believed
}
"""Modules that write to `meta`, and whether a salvaged journal takes over what they wrote."""


def test_each_key_of_meta_is_either_taken_over_by_a_salvage_or_found_out_anew() -> None:
    writes = re.compile(r"INTO meta\b|UPDATE meta\b|\blines\.remember\(|_lines\.remember\(")
    writers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if writes.search(path.read_text()) and path.name != "salvage.py"
    }
    carried_over = {"journal/swapping.py"}
    assert writers - carried_over == set(WRITERS), "decide what a salvage does with it, and say so here"
    assert {"host_id", "known_since", KEY, *LASTING_OF_LEDGER} == set(LASTING)
    assert set(CARRIED_KEYS) == {KEY}, "the ledger begins a new chain, and the host's name is the settings'"


# What came back


async def deleted(journal: Journal, segment: Segment) -> None:
    await journal.deletions.begin(segment.id, Cause.REQUEST)
    await journal.deletions.done(segment, Cause.REQUEST, NOW)


@pytest.mark.parametrize("archived", [False, True])
async def test_footage_that_was_deleted_and_brought_back_survives_a_salvage_and_what_was_deleted_does_not(
    tmp_path: Path, archived: bool
) -> None:
    """Lines that say so may be in archives by then: `found` stays, as `deleted` does."""
    async with await open_journal(tmp_path) as journal:
        back, gone, twice = [await record(journal, new(number)) for number in range(3)]
        for segment in (back, gone, twice):
            await deliver(journal, segment)
            await deleted(journal, segment)
        assert (await record(journal, new(0))).id == back.id
        again = await record(journal, new(2))
        await deleted(journal, again)
        await deliver(journal, back)
        held = await journal.segments.by_id(back.id)
        if archived:
            drop = f"DELETE FROM ledger WHERE kind NOT IN {KEPT_SQL}"
            await journal._store.write(lambda db: db.execute(drop))
    async with await salvaged(tmp_path) as journal:
        assert await journal.segments.by_id(back.id) == held
        assert await journal.segments.by_id(gone.id) is None
        assert await journal.segments.by_id(twice.id) is None


async def test_a_version_that_was_overwritten_and_brought_back_survives_a_salvage(tmp_path: Path) -> None:
    first = new(0)
    async with await open_journal(tmp_path) as journal:
        one = await record(journal, first)
        longer = await record(journal, rewritten(first, size_bytes=2000))
        assert await journal.segments.by_id(one.id) is None
        assert (await record(journal, first)).id == one.id
        assert await journal.segments.by_id(longer.id) is None
    async with await salvaged(tmp_path) as journal:
        assert await journal.segments.by_id(one.id) is not None
        assert await journal.segments.by_id(longer.id) is None


async def test_what_was_deleted_and_is_there_again_is_told_as_found(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        segment = await record(journal, new(0))
        await deleted(journal, segment)
        await record(journal, new(0))
        query = "SELECT kind FROM ledger WHERE segment_id = ? AND kind <> 'registered' ORDER BY no"
        rows = await journal._store.read(lambda db: db.execute(query, (segment.id.bytes,)).fetchall())
        assert [kind for (kind,) in rows] == ["deleted", "found"]
