"""What `catalog.base.Catalog` promises, tried on a real PostgreSQL."""

import asyncio
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from cctv_storaged.catalog.base import CatalogCopy, CatalogRow
from cctv_storaged.catalog.postgres import BATCH_ROWS, PostgresCatalog
from tests.services.catalog import (
    CAMERA,
    HOST,
    NOON,
    everything,
    open_catalog,
    query,
    row,
    target_of,
    verified,
)
from tests.services.postgres import PostgresDatabase


async def test_a_row_comes_out_as_it_went_in(postgres_database: PostgresDatabase) -> None:
    full = row(
        1,
        flags=("time_suspect", "partial"),
        copies=(
            CatalogCopy(backend="MILESTONE", path=None, state="pending"),
            verified("a/b.ts", NOON + timedelta(microseconds=1)),
        ),
    )
    bare = row(2, checksum=None, flags=(), copies=())
    async with open_catalog(postgres_database) as catalog:
        result = await catalog.upsert([full, bare])
        assert set(result.stored) == {full.id, bare.id}
        assert result.refused == ()
        assert await everything(catalog) == [full, bare]


async def test_a_second_upsert_of_the_same_rows_changes_nothing(postgres_database: PostgresDatabase) -> None:
    """The answer to a COMMIT may be lost; then the batch comes again."""
    rows = [row(number) for number in range(50)]
    async with open_catalog(postgres_database) as catalog:
        first = await catalog.upsert(rows)
        second = await catalog.upsert(list(reversed(rows)))
        assert set(first.stored) == set(second.stored) == {entry.id for entry in rows}
        assert await everything(catalog) == rows
    assert postgres_database.sql("SELECT count(*) FROM segment_copies") == [["50"]]


async def test_copies_no_longer_named_go_and_others_are_written_over(
    postgres_database: PostgresDatabase,
) -> None:
    before = row(
        1, copies=(verified("x", NOON, "FILESYSTEM"), CatalogCopy(backend="S3", path=None, state="pending"))
    )
    neighbour = row(2, copies=(verified("y", NOON, "FILESYSTEM"),))
    after = replace(before, copies=(verified("z", NOON + timedelta(minutes=1), "S3"),))
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([before, neighbour])
        await catalog.upsert([after])
        assert await everything(catalog) == [after, neighbour]


async def test_every_column_of_an_own_row_can_change(postgres_database: PostgresDatabase) -> None:
    before = row(1)
    after = replace(
        row(2),
        id=before.id,
        camera_id=uuid4(),
        storage_backend="MINIO",
        storage_path="elsewhere",
        flags=("rewritten",),
    )
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([before])
        await catalog.upsert([after])
        assert await everything(catalog) == []
        assert await everything(catalog, query(camera_id=after.camera_id)) == [after]


async def test_of_one_id_offered_twice_in_a_batch_the_last_counts(
    postgres_database: PostgresDatabase,
) -> None:
    older, newer = row(1, size_bytes=1), row(1, size_bytes=2)
    async with open_catalog(postgres_database) as catalog:
        result = await catalog.upsert([older, row(2), newer])
        assert len(result.stored) == 2
        assert await everything(catalog) == [newer, row(2)]


async def test_more_rows_than_a_statement_takes_are_all_stored(postgres_database: PostgresDatabase) -> None:
    rows = [row(number) for number in range(2 * BATCH_ROWS + 1)]
    async with open_catalog(postgres_database) as catalog:
        assert len((await catalog.upsert(rows)).stored) == len(rows)
        assert await everything(catalog) == rows
        assert await catalog.remove([entry.id for entry in rows]) == len(rows)
        assert await everything(catalog) == []


async def test_nothing_to_say_is_said_without_a_fault(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database) as catalog:
        result = await catalog.upsert([])
        assert (result.stored, result.refused) == ((), ())
        assert await catalog.remove([]) == 0


async def test_a_removed_row_is_gone_with_its_copies_and_removing_again_is_harmless(
    postgres_database: PostgresDatabase,
) -> None:
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(1), row(2)])
        assert await catalog.remove([row(1).id, row(9).id]) == 1
        assert await catalog.remove([row(1).id]) == 0
        assert await everything(catalog) == [row(2)]
    assert postgres_database.sql("SELECT segment_id FROM segment_copies") == [[str(row(2).id)]]


async def test_a_host_cannot_change_or_remove_another_hosts_row(postgres_database: PostgresDatabase) -> None:
    theirs = row(1, host_id="nvr-02")
    stolen = replace(theirs, host_id=HOST, storage_path="stolen", copies=(), size_bytes=1)
    async with (
        open_catalog(postgres_database) as catalog,
        open_catalog(postgres_database, "nvr-02") as other,
    ):
        await other.upsert([theirs])
        result = await catalog.upsert([stolen, row(2)])
        assert result.stored == (row(2).id,)
        assert [entry.id for entry in result.refused] == [theirs.id]
        assert "another host" in result.refused[0].reason
        assert await catalog.remove([theirs.id]) == 0
        assert await everything(catalog) == [theirs, row(2)]


async def test_a_row_said_to_be_another_hosts_is_refused(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database) as catalog:
        result = await catalog.upsert([row(1, host_id="nvr-02"), row(2)])
        assert result.stored == (row(2).id,)
        assert [entry.id for entry in result.refused] == [row(1, host_id="nvr-02").id]
        assert await everything(catalog) == [row(2)]


async def test_rows_of_another_program_are_shown_and_left_alone(postgres_database: PostgresDatabase) -> None:
    """Such rows may leave out what the specification lets them leave out, and hold odd times."""
    foreign = uuid4()
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(1)])
        postgres_database.sql(
            f"""INSERT INTO segments (id, camera_id, start_time, end_time, duration_seconds, size_bytes,
                                      storage_backend, storage_path, created_at)
                VALUES ('{foreign}', '{CAMERA}', '-infinity', 'infinity', 0, 1, 'MINIO', 'x', NULL)"""
        )
        odd, ours = await everything(catalog)
        assert (odd.id, odd.host_id, odd.checksum, odd.created_at) == (foreign, "", None, None)
        assert odd.start_time < NOON < odd.end_time
        assert ours == row(1)
        assert (await catalog.upsert([row(1, id=foreign)])).stored == ()
        assert await catalog.remove([foreign]) == 0


async def test_two_hosts_interleaved_give_one_answer_in_order_of_time(
    postgres_database: PostgresDatabase,
) -> None:
    async with (
        open_catalog(postgres_database) as first,
        open_catalog(postgres_database, "nvr-02") as second,
    ):
        ours = [row(number) for number in range(0, 200, 2)]
        theirs = [row(number, host_id="nvr-02") for number in range(1, 200, 2)]
        await asyncio.gather(
            *(first.upsert(ours[at : at + 10]) for at in range(0, 100, 10)),
            *(second.upsert(theirs[at : at + 10]) for at in range(0, 100, 10)),
        )
        merged = sorted([*ours, *theirs], key=lambda entry: entry.start_time)
        assert await everything(first) == await everything(second, query(limit=7)) == merged


async def test_pages_follow_one_another_without_gap_or_repetition_also_at_equal_times(
    postgres_database: PostgresDatabase,
) -> None:
    """Segments of one camera may begin at the same moment: two hosts, or a rewritten file."""
    rows = [row(number // 5, id=uuid4()) for number in range(103)]
    wanted = sorted(rows, key=lambda entry: (entry.start_time, entry.id))
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert(rows)
        for limit in (1, 4, 102, 103, 104):
            assert await everything(catalog, query(limit=limit)) == wanted, limit


async def test_pages_stay_in_order_while_rows_come_and_go(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(number) for number in range(0, 40, 2)])
        page = await catalog.find(query(limit=10))
        await catalog.upsert([row(3), row(33)])  # one before the cursor, one after it
        await catalog.remove([page.rows[-1].id])  # the very row the cursor was made from
        rest = await everything(catalog, query(limit=10, after=page.next))
    assert rest == [row(number) for number in (20, 22, 24, 26, 28, 30, 32, 33, 34, 36, 38)]


async def test_spans_are_half_open(postgres_database: PostgresDatabase) -> None:
    ten = timedelta(seconds=10)
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(0)])
        assert await everything(catalog, query(NOON + ten, NOON + 2 * ten)) == []
        assert await everything(catalog, query(NOON - ten, NOON)) == []
        just = timedelta(microseconds=1)
        assert await everything(catalog, query(NOON + ten - just, NOON + 2 * ten)) == [row(0)]
        assert await everything(catalog, query(NOON - ten, NOON + just)) == [row(0)]


async def test_overlaps_are_found_whatever_the_durations(postgres_database: PostgresDatabase) -> None:
    """From a millisecond to weeks, also right at the lengths where another index takes over."""
    choice = random.Random(20260305)
    minutes, day, week = timedelta(minutes=2), timedelta(hours=24), timedelta(days=7)
    just = timedelta(microseconds=1)
    lengths = [timedelta(milliseconds=1), timedelta(seconds=10), minutes - just, minutes, minutes + just]
    lengths += [timedelta(hours=1), day - just, day, day + just, 3 * week]
    rows = [_random_row(choice, number, choice.choice(lengths)) for number in range(400)]
    edges = [moment for entry in rows for moment in (entry.start_time, entry.end_time)]
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert(rows)
        found = 0
        for _ in range(150):
            start = choice.choice(edges) + choice.choice((-just, timedelta(0), just))
            end = start + choice.choice((just, timedelta(seconds=10), timedelta(hours=1), week))
            wanted = [entry for entry in rows if entry.start_time < end and entry.end_time > start]
            answer = await everything(catalog, query(start, end, limit=choice.choice((3, 50, 1000))))
            assert answer == sorted(wanted, key=lambda entry: (entry.start_time, entry.id)), (start, end)
            found += len(answer)
    assert found > 1000


async def test_overlaps_are_found_right_where_one_index_takes_over_from_another(
    postgres_database: PostgresDatabase,
) -> None:
    just, minutes, day = timedelta(microseconds=1), timedelta(minutes=2), timedelta(hours=24)
    edges = [edge + by for edge in (timedelta(0), minutes, day) for by in (-just, timedelta(0), just)]
    begins = [NOON - edge for edge in edges]
    lengths = [edge for edge in edges if edge > timedelta(0)]
    pairs = [(begin, length) for begin in begins for length in lengths]
    rows = [
        row(number, start_time=begin, end_time=begin + length) for number, (begin, length) in enumerate(pairs)
    ]
    wanted = [entry for entry in rows if entry.start_time < NOON + just and entry.end_time > NOON]
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert(rows)
        found = await everything(catalog, query(NOON, NOON + just))
    assert found == sorted(wanted, key=lambda entry: (entry.start_time, entry.id))
    assert 0 < len(wanted) < len(rows)


async def test_spans_at_the_ends_of_time_can_be_asked_for(postgres_database: PostgresDatabase) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    async with open_catalog(postgres_database) as catalog:
        await catalog.upsert([row(1)])
        assert await everything(catalog, query(first, last)) == [row(1)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size_bytes": 2**63}, "int64"),
        ({"duration_seconds": 2**31}, "int32"),
        ({"storage_backend": "x" * 51}, "character varying(50)"),
        ({"checksum": "f" * 65}, "character varying(64)"),
        ({"storage_path": "lone \ud800 surrogate"}, "surrogate"),
        ({"flags": ("NUL \0",)}, "u0000"),
        ({"copies": (verified("a", NOON), verified("b", NOON))}, "second time"),
        ({"copies": (verified("a", NOON, backend="B\0"),)}, "0x00"),
    ],
)
async def test_a_row_that_cannot_be_stored_is_named_and_keeps_no_other_out(
    postgres_database: PostgresDatabase, wrong: dict[str, object], words: str
) -> None:
    bad = (3, 4, 31)
    rows = [row(number, **(wrong if number in bad else {})) for number in range(40)]
    good = [entry for number, entry in enumerate(rows) if number not in bad]
    async with open_catalog(postgres_database) as catalog:
        result = await catalog.upsert(rows)
        assert {entry.id for entry in result.refused} == {rows[number].id for number in bad}
        assert all(words in entry.reason and "\n" not in entry.reason for entry in result.refused)
        assert set(result.stored) == {entry.id for entry in good}
        assert await everything(catalog) == good


async def test_a_rule_of_the_site_refuses_only_the_rows_it_means(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database) as catalog:
        await catalog.check()
        await catalog.upsert([row(0)])
        postgres_database.sql(
            "ALTER TABLE segments ADD CONSTRAINT small CHECK (size_bytes < 6000000) NOT VALID"
        )
        result = await catalog.upsert([row(1), row(2, size_bytes=7_000_000)])
        assert result.stored == (row(1).id,)
        assert "small" in result.refused[0].reason


HOSTILE_PATHS = [
    "per%cent 100%",
    "%25 %2500 %00 %80 %FF %ff %zz %",
    "new\nline\ttab 'quote\" \\ back; DROP TABLE segments; --",
    "bidi \u202e and \U0001f3a5",
    "NUL \0 inside",
    os.fsdecode(b"caf\xe9/\xff\xfe/%\xe9"),
    "",
    "x" * 5000,
]


async def test_paths_of_any_bytes_come_out_as_they_went_in(postgres_database: PostgresDatabase) -> None:
    rows = [
        row(number, storage_path=path, copies=(verified(path, NOON),))
        for number, path in enumerate(HOSTILE_PATHS)
    ]
    async with open_catalog(postgres_database) as catalog:
        assert (await catalog.upsert(rows)).refused == ()
        assert await everything(catalog) == rows


async def test_a_host_name_of_any_bytes_owns_its_rows(postgres_database: PostgresDatabase) -> None:
    odd = os.fsdecode(b"nvr-\xff % 25")
    async with open_catalog(postgres_database, odd) as catalog:
        await catalog.upsert([row(1, host_id=odd)])
        assert await everything(catalog) == [row(1, host_id=odd)]
        assert await catalog.remove([row(1, host_id=odd).id]) == 1


async def test_the_session_tells_the_dba_which_host_it_is(postgres_database: PostgresDatabase) -> None:
    async with open_catalog(postgres_database, "nvr-07") as catalog:
        await catalog.check()
        names = postgres_database.sql(
            f"SELECT application_name FROM pg_stat_activity WHERE datname = '{postgres_database.name}'"
            " AND application_name <> 'psql' AND backend_type = 'client backend'"  # nor who cleans up in it
        )
        assert names == [["cctv-storaged@nvr-07"]]


def test_a_row_with_a_naive_time_is_refused_at_the_door() -> None:
    with pytest.raises(ValueError, match="aware UTC"):
        row(1, start_time=datetime(2026, 3, 5))  # noqa: DTZ001 (a naive time is what this is about)
    with pytest.raises(ValueError, match="aware UTC"):
        row(1, copies=(verified("x", datetime(2026, 3, 5)),))  # noqa: DTZ001


def test_a_catalog_without_a_host_is_refused(postgres_database: PostgresDatabase) -> None:
    """An empty host would own the rows of every other program."""
    for nobody in ("", "a\0b"):
        with pytest.raises(ValueError, match="which host"):
            PostgresCatalog(target_of(postgres_database), nobody)


def _random_row(choice: random.Random, number: int, length: timedelta) -> CatalogRow:
    start = NOON + timedelta(seconds=choice.randrange(40 * 86400))
    return row(number, start_time=start, end_time=start + length)
