"""Exports in the journal: each is asked for once, worked on by one, and gone in two phases."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.journal.exportrows import Export, ExportRequest, ExportResult, ExportStatus
from cctv_storaged.journal.exports import Ending
from cctv_storaged.journal.idempotency import RepeatKey
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import TimeSpan

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
REQUEST = ExportRequest(
    camera_ids=(UUID(int=1), UUID(int=2)), span=TimeSpan(NOW - DAY, NOW), format="mkv", reason="Überfall"
)
RESULT = ExportResult(
    path="p",
    manifest_path="m",
    file_name="n",
    media_type="video/mp4",
    size_bytes=1,
    sha256="00" * 32,
    segments=1,
    files=(),
    files_total=0,
    gaps=(),
    gaps_total=0,
)
KEY = RepeatKey(route="POST /exports", key="k", request=b"r" * 32)


@pytest_asyncio.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await Journal.open(tmp_path, "nvr", NOW) as opened:
        yield opened


async def asked(journal: Journal, repeat: RepeatKey | None = None, most: int = 100) -> Export:
    made = await journal.exports.add(uuid4(), REQUEST, most, repeat, NOW)
    assert made is not None
    return made


async def seen(journal: Journal, export: Export) -> Export:
    found = await journal.exports.by_id(export.id)
    assert found is not None
    return found


async def completed(journal: Journal) -> Export:
    export = await asked(journal)
    await journal.exports.begin(export.id)
    assert await journal.exports.complete(export.id, RESULT, NOW, NOW + DAY)
    return await seen(journal, export)


async def test_what_was_asked_for_comes_out_as_it_went_in(journal: Journal) -> None:
    export = await asked(journal)
    assert (export.request, export.status, export.created_at) == (REQUEST, ExportStatus.PENDING, NOW)
    assert await seen(journal, export) == export


async def test_the_same_key_asks_for_one_export_also_at_the_same_moment(journal: Journal) -> None:
    first, second = await asked(journal, KEY), await asked(journal, KEY, most=1)
    assert first == second == await journal.exports.made_by(KEY)
    other = RepeatKey(route=KEY.route, key=KEY.key, request=b"o" * 32)
    with pytest.raises(Conflict, match="another body"):
        await journal.exports.add(uuid4(), REQUEST, 100, other, NOW)
    await journal.exports.delete(first.id, NOW)
    await journal.exports.removed(first.id)
    await journal.exports.delete(first.id, NOW)
    assert await journal.exports.made_by(KEY) is None
    second = await asked(journal, KEY)
    assert second.id != first.id, "one that is gone is not answered again"
    assert (await asked(journal, KEY)).id == second.id == (await seen(journal, second)).id


async def test_only_so_many_may_wait(journal: Journal) -> None:
    first = await asked(journal, most=2)
    await asked(journal, most=2)
    assert await journal.exports.add(uuid4(), REQUEST, 2, None, NOW) is None
    await journal.exports.begin(first.id)
    await asked(journal, most=2)


async def test_starts_count_until_work_ends_in_order(journal: Journal) -> None:
    export = await asked(journal)
    for expected in (1, 2, 3):
        begun = await journal.exports.begin(export.id)
        assert begun is not None and begun.starts == expected
    await journal.exports.lay_down(export.id)
    assert ((await seen(journal, export)).status, (await seen(journal, export)).starts) == ("PENDING", 0)


async def test_the_longest_waiting_is_next_but_for_those_taken_or_waiting(journal: Journal) -> None:
    first, second, third = [await asked(journal) for _ in range(3)]
    due = await journal.exports.due(NOW, {first.id})
    assert due is not None and due.id == second.id
    await journal.exports.wait(second.id, "store away", NOW, NOW + timedelta(minutes=1))
    due = await journal.exports.due(NOW, {first.id})
    assert due is not None and due.id == third.id
    due = await journal.exports.due(NOW + timedelta(minutes=2), {first.id})
    assert due is not None and (due.id, due.error) == (second.id, "store away")


async def test_a_wait_is_counted_from_its_beginning_until_a_step_is_done(journal: Journal) -> None:
    export = await asked(journal)
    await journal.exports.wait(export.id, "a", NOW, NOW)
    await journal.exports.wait(export.id, "b", NOW + DAY, NOW)
    assert (await seen(journal, export)).waiting_since == NOW
    await journal.exports.advance(export.id, 0.5)
    assert (await seen(journal, export)).waiting_since == NOW
    await journal.exports.advance(export.id, 0.5, step_done=True)
    assert (await seen(journal, export)).waiting_since is None
    await journal.exports.advance(export.id, 0.2)
    assert (await seen(journal, export)).progress == 0.5, "what was done stays done"


async def test_what_was_cancelled_can_neither_complete_nor_fail(journal: Journal) -> None:
    export = await asked(journal)
    await journal.exports.begin(export.id)
    assert (await journal.exports.delete(export.id, NOW))[1] is Ending.CANCEL
    assert not await journal.exports.complete(export.id, RESULT, NOW, NOW)
    assert not await journal.exports.fail(export.id, "late", NOW)
    await journal.exports.lay_down(export.id)
    await journal.exports.wait(export.id, "late", NOW, NOW)
    assert await journal.exports.begin(export.id) is None
    assert await journal.exports.due(NOW + DAY, set()) is None
    assert (await seen(journal, export)).status is ExportStatus.CANCELLED


@pytest.mark.parametrize("catalogued", [False, True])
async def test_what_is_deleted_is_seen_no_more_and_its_row_goes_after_its_bytes(
    journal: Journal, catalogued: bool
) -> None:
    if catalogued:
        await journal.outbox.address("a catalog")
    export = await completed(journal)
    assert (await journal.exports.delete(export.id, NOW))[1] is Ending.FORGET
    assert await journal.exports.by_id(export.id) is None
    with pytest.raises(NotFound):
        await journal.exports.delete(export.id, NOW)
    assert [each.id for each in await journal.exports.removals(10)] == [export.id]
    assert (await journal.exports.news(10)).forgotten == ()
    await journal.exports.removed(export.id)
    assert await journal.exports.removals(10) == []
    news = await journal.exports.news(10)
    assert news.forgotten == ((export.id,) if catalogued else ())
    await journal.exports.told(news)
    assert (await journal.exports.news(10)).forgotten == ()


async def test_an_export_expires_once_and_stays_on_the_list(journal: Journal) -> None:
    export = await completed(journal)
    assert await journal.exports.expire(NOW + DAY - timedelta(seconds=1)) == []
    assert [each.id for each in await journal.exports.expire(NOW + DAY)] == [export.id]
    assert await journal.exports.expire(NOW + DAY) == []
    await journal.exports.removed(export.id)
    assert await journal.exports.removals(10) == []
    assert ((await seen(journal, export)).status, (await seen(journal, export)).removal) == (
        "COMPLETED",
        "done",
    )


async def test_what_was_made_while_the_clock_was_behind_may_be_had_for_as_long_as_was_promised(
    journal: Journal,
) -> None:
    """A dead battery: it was made minutes ago, and its last day is years past as soon as NTP is there."""
    export, right = await completed(journal), NOW + 600 * DAY

    def right_from(moment: datetime) -> datetime | None:
        return right if moment == NOW else None

    assert await journal.exports.expire(right + timedelta(minutes=1), right_from, 7 * DAY) == []
    assert (await seen(journal, export)).expires_at == right + DAY, "a day was promised"
    assert await journal.exports.expire(right + DAY - timedelta(minutes=1), right_from, 7 * DAY) == []
    gone = await journal.exports.expire(right + DAY, right_from, 7 * DAY)
    assert [each.id for each in gone] == [export.id], "and not once more"


async def test_what_changes_while_the_catalog_is_told_is_told_again(journal: Journal) -> None:
    export = await asked(journal)
    news = await journal.exports.news(10)
    await journal.exports.begin(export.id)
    await journal.exports.told(news)
    again = await journal.exports.news(10)
    assert [each.status for each in again.changed] == ["PROCESSING"]
    await journal.exports.told(again)
    await journal.exports.advance(export.id, 0.5)
    assert (await journal.exports.news(10)).changed == (), "progress alone is no news"
    await journal.outbox.address("another catalog")
    assert len((await journal.exports.news(10)).changed) == 1


async def test_pages_follow_one_another_newest_first(journal: Journal) -> None:
    made = [await asked(journal) for _ in range(5)]
    await journal.exports.begin(made[0].id)
    first = await journal.exports.page(2, None, None)
    await asked(journal)
    second = await journal.exports.page(2, first.next, None)
    third = await journal.exports.page(2, second.next, None)
    assert third.next is None
    ids = [each.id for page in (first, second, third) for each in page.exports]
    assert ids == [each.id for each in reversed(made)]
    only = await journal.exports.page(10, None, ExportStatus.PROCESSING)
    assert [each.id for each in only.exports] == [made[0].id]


async def test_exports_outlive_a_damaged_journal(tmp_path: Path) -> None:
    async with await Journal.open(tmp_path, "nvr", NOW) as journal:
        export = await completed(journal)
    with (tmp_path / "journal.db").open("r+b") as file:
        file.write(bytes(100))
    async with await Journal.open(tmp_path, "nvr", NOW) as journal:
        assert await seen(journal, export) == export


async def test_a_row_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    """A salvage takes what bare pages say: half a text, for one. The daemon would end with every start."""
    async with await Journal.open(tmp_path, "nvr", NOW) as journal:
        first, spoiled, last = [await asked(journal) for _ in range(3)]
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as db:
        change = "UPDATE export SET request = substr(request, 1, 20) WHERE id = ?"
        db.execute(change, (spoiled.id.bytes,))
    async with await Journal.open(tmp_path, "nvr", NOW) as journal:
        due = await journal.exports.due(NOW, {first.id})
        assert due is not None and due.id == last.id
        page = await journal.exports.page(1, None, None)
        assert ([each.id for each in page.exports], page.next) == ([last.id], last.no)
        page = await journal.exports.page(1, page.next, None)
        assert ([each.id for each in page.exports], page.next) == ([first.id], None)
