"""The catalog's news, tokens and idempotency keys."""

from datetime import timedelta
from uuid import UUID

import pytest

from cctv_storaged.errors import Conflict
from cctv_storaged.journal import outbox
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.tokens import Token
from cctv_storaged.model import SourceState
from tests.unit.journal.samples import NOW, deliver, fresh, new, proof, record


async def news(journal: Journal) -> set[UUID]:
    return {segment.id for segment in (await journal.outbox.news(100)).changed}


async def tell(journal: Journal) -> None:
    await journal.outbox.told(await journal.outbox.news(100))


async def test_a_segment_is_news_once_it_is_somewhere_until_it_was_told(journal: Journal) -> None:
    segment = await record(journal, new(1), "S3", "FILESYSTEM")
    assert await news(journal) == set()
    await deliver(journal, segment, "S3")
    assert await news(journal) == {segment.id} and await journal.outbox.lag() == 1
    await tell(journal)
    assert (await journal.outbox.news(100)).empty and await journal.outbox.lag() == 0


async def test_every_change_of_a_copy_is_news(journal: Journal) -> None:
    segment = await record(journal, new(1), "S3", "FILESYSTEM")
    await deliver(journal, segment, "S3")

    async def expect_news() -> None:
        assert await news(journal) == {segment.id}
        await tell(journal)
        assert await news(journal) == set()

    await expect_news()
    await journal.copies.stored(segment.id, "FILESYSTEM", proof(segment), NOW)
    await expect_news()
    await journal.copies.put_again(segment.id, "FILESYSTEM", "other bytes", NOW)
    await expect_news()
    await journal.copies.failed(segment.id, "FILESYSTEM", "refused")
    await expect_news()
    await journal.copies.retry_failed(None)
    await expect_news()
    await deliver(journal, segment, "FILESYSTEM")
    await expect_news()
    await journal.copies.redeliver(segment.id, "S3", "404")
    await expect_news()
    await journal.copies.source_gone(segment.id, SourceState.REPLACED, "overwritten", NOW)
    await expect_news()


async def test_a_segment_that_changed_while_the_catalog_listened_stays_news(journal: Journal) -> None:
    unchanged, changed = [await record(journal, new(number), "S3", "FILESYSTEM") for number in (1, 2)]
    for segment in (unchanged, changed):
        await deliver(journal, segment, "S3")
    told = await journal.outbox.news(100)
    await deliver(journal, changed, "FILESYSTEM")
    await journal.outbox.told(told)
    assert await news(journal) == {changed.id}


async def test_a_deleted_segment_is_news_until_it_was_told(journal: Journal) -> None:
    await journal.outbox.address("a catalog")
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    await tell(journal)
    await journal.deletions.begin(segment.id)
    await journal.deletions.done(segment, "deleted_on_request", NOW)
    told = await journal.outbox.news(100)
    assert told.forgotten == (segment.id,)
    await journal.outbox.told(told)
    assert (await journal.outbox.news(100)).empty


async def test_what_is_deleted_where_there_never_was_a_catalog_leaves_nothing_behind(
    journal: Journal,
) -> None:
    """Nobody would ever take it away: a year of retention would be three million lines for each camera."""
    for number, told_from in ((1, False), (2, True)):
        if told_from:
            await journal.outbox.address("a catalog")
        segment = await record(journal, new(number))
        await journal.deletions.begin(segment.id)
        await journal.deletions.done(segment, "deleted_on_request", NOW)
        assert (await journal.outbox.news(100)).forgotten == ((segment.id,) if told_from else ())


async def test_another_catalog_than_before_is_told_everything(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SLICE", 3)  # several slices without thousands of rows
    segments = [await record(journal, new(number)) for number in range(10)]
    for segment in segments[:7]:
        await deliver(journal, segment)
    await journal.outbox.address("one")
    await tell(journal)
    await journal.outbox.address("one")
    assert await news(journal) == set()
    await journal.outbox.address("two")
    assert await news(journal) == {segment.id for segment in segments[:7]}


async def test_news_comes_at_most_so_many_at_a_time(journal: Journal) -> None:
    for number in range(5):
        await deliver(journal, await record(journal, new(number)))
    first = await journal.outbox.news(2)
    await journal.outbox.told(first)
    second = await journal.outbox.news(100)
    assert len(first.changed) == 2 and len(second.changed) == 3


async def test_a_token_is_found_by_its_secret_and_kept_only_as_a_hash(journal: Journal) -> None:
    token = Token(id=UUID(int=1), name="ward \udcff", scopes=frozenset({"read", "write"}), created_at=NOW)
    await journal.tokens.add(token, "s3cret-of-the-token")
    found = await journal.tokens.find("s3cret-of-the-token")
    assert found is not None and (found.id, found.scopes) == (token.id, token.scopes)
    assert await journal.tokens.find("another") is None
    held = await journal._store.read(lambda db: db.execute("SELECT * FROM token").fetchall())
    assert b"s3cret" not in repr(held).encode()
    assert [known.id for known in await journal.tokens.all()] == [token.id]
    assert await journal.tokens.revoke(token.id) and not await journal.tokens.revoke(token.id)
    assert await journal.tokens.find("s3cret-of-the-token") is None


async def test_an_idempotency_key_gives_back_what_its_first_request_made(journal: Journal) -> None:
    keys = journal.idempotency
    assert await keys.made_by("POST /segments", "k\udcff", b"a" * 32) is None
    await keys.remember("POST /segments", "k\udcff", b"a" * 32, "made-1", NOW)
    await keys.remember("POST /segments", "k\udcff", b"a" * 32, "made-2", NOW)
    assert await keys.made_by("POST /segments", "k\udcff", b"a" * 32) == "made-1"
    assert await keys.made_by("POST /exports", "k\udcff", b"a" * 32) is None
    with pytest.raises(Conflict, match="another body"):
        await keys.made_by("POST /segments", "k\udcff", b"b" * 32)
    await keys.remember("POST /segments", "new", b"c" * 32, "made-3", NOW + timedelta(days=2))
    assert await keys.made_by("POST /segments", "k\udcff", b"a" * 32) is None


async def test_a_segment_told_to_the_catalog_and_then_overwritten_before_delivery_is_forgotten_there(
    journal: Journal,
) -> None:
    await journal.outbox.address("a catalog")
    segment = await record(journal, new(1))
    await deliver(journal, segment)
    await tell(journal)
    await journal.copies.redeliver(segment.id, "S3", "404")
    assert (await fresh(journal, segment)).sha256 is not None
    await journal.segments.set_aside(new(1, size_bytes=5, version=1).source, "not_mpegts", "", NOW)
    assert (await journal.outbox.news(100)).forgotten == (segment.id,)


async def test_a_segment_that_comes_back_after_it_was_forgotten_is_not_removed_from_the_catalog(
    journal: Journal,
) -> None:
    await journal.outbox.address("a catalog")
    await record(journal, new(1))
    await record(journal, new(1, version=1))
    back = await record(journal, new(1))
    await deliver(journal, back)
    told = await journal.outbox.news(100)
    assert back.id in {segment.id for segment in told.changed}
    assert back.id not in told.forgotten
