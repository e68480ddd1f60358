"""Group commit: one fsync for many, each caller answered for itself and only after it is on the disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.errors import JournalBroken, JournalError, JournalFull
from cctv_storaged.journal import store as store_module
from cctv_storaged.journal import turns as turns_module
from cctv_storaged.journal.ballast import Ballast
from cctv_storaged.journal.connection import PAGE_BYTES, Connection, log_path
from cctv_storaged.journal.opening import prepare
from cctv_storaged.journal.store import Store
from cctv_storaged.journal.turns import PASSED_OVER
from cctv_storaged.journal.wal import read_log
from tests.unit.journal.samples import NOW, open_journal

Operation = Callable[[sqlite3.Connection], Any]


async def open_store(folder: Path, reserve_bytes: int = 0) -> Store:
    folder.mkdir(exist_ok=True)
    connection = Connection(prepare(folder / "journal.db", NOW)[0])
    await connection
    return Store(connection, folder / "journal.db", Ballast(folder / "reserve", reserve_bytes))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path)
    yield opened
    await opened.close()


def put(key: str, value: str = "x") -> Operation:
    return lambda db: db.execute("INSERT INTO meta VALUES (?, ?)", (key, value)).rowcount


def run(statement: str) -> Operation:
    return lambda db: db.execute(statement)


def raising(error: Exception) -> Operation:
    def operation(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES ('half done', 'x')")
        raise error

    return operation


async def keys(store: Store) -> set[str]:
    rows = await store.read(lambda db: db.execute("SELECT key FROM meta").fetchall())
    return {row[0] for row in rows} - {"closed_cleanly"}


def sqlite_error(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    error = kind("made up")
    error.sqlite_errorcode = code
    error.sqlite_errorname = f"code {code}"
    return error


# Batches


async def test_many_concurrent_writers_share_few_commits(store: Store) -> None:
    answers = await asyncio.gather(*(store.write(put(f"key {number}")) for number in range(1000)))
    assert answers == [1] * 1000
    assert len(await keys(store)) == 1000
    assert store.commits <= 5  # 1000 / 256, and one that began before the others came


async def test_operations_run_in_the_order_they_were_handed_in(store: Store) -> None:
    order: list[int] = []

    def note(number: int) -> Operation:
        return lambda _: order.append(number)

    await asyncio.gather(*(store.write(note(number)) for number in range(600)))
    assert order == list(range(600))


async def test_one_failing_operation_undoes_itself_and_no_neighbour(store: Store) -> None:
    results = await asyncio.gather(
        store.write(put("before")),
        store.write(raising(ValueError("mine alone"))),
        store.write(put("before")),  # breaks the primary key
        store.write(put("after")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, ValueError, sqlite3.IntegrityError, int]
    assert await keys(store) == {"before", "after"}
    await store.write(put("later"))
    assert not store.full


async def test_a_mistake_in_an_operation_goes_to_its_caller_only(store: Store) -> None:
    for mistake in ("INSERT INTO nowhere VALUES (1)", "SELEC 1", "INSERT INTO meta VALUES ('a')"):
        with pytest.raises(sqlite3.OperationalError):
            await store.write(run(mistake))
        with pytest.raises(sqlite3.OperationalError):
            await store.read(run(mistake))
    await store.write(put("works"))
    assert await keys(store) == {"works"}


async def test_the_answer_comes_after_the_commit(store: Store, tmp_path: Path) -> None:
    """Whoever has an answer finds the frames of the commit in the log, already written."""
    log = log_path(tmp_path / "journal.db")
    await store.write(put("first"))
    while log.stat().st_size:  # the first commit of a process is folded in, after its answer
        await asyncio.sleep(0)
    await store.write(put("second"))
    assert read_log(log, PAGE_BYTES).replayed > 0
    assert await store.read(lambda db: db.in_transaction) is False


async def test_a_read_never_sees_half_a_batch(store: Store) -> None:
    async def write_pairs() -> None:
        for number in range(60):
            await asyncio.gather(store.write(put(f"a{number}")), store.write(put(f"b{number}")))

    writing = asyncio.create_task(write_pairs())
    while not writing.done():
        found = await keys(store)
        assert {key[1:] for key in found if key[0] == "a"} == {key[1:] for key in found if key[0] == "b"}
        await asyncio.sleep(0)
    await writing


async def test_a_caller_that_left_does_not_break_the_batch(store: Store) -> None:
    leaving = asyncio.create_task(store.write(put("left")))
    staying = asyncio.create_task(store.write(put("stayed")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert "stayed" in await keys(store)
    await store.write(put("later"))


# Trouble with the disk


async def test_a_full_disk_fails_the_batch_and_the_next_one_works(store: Store) -> None:
    results = await asyncio.gather(
        store.write(put("neighbour")),
        store.write(raising(sqlite_error(sqlite3.SQLITE_FULL))),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [JournalFull, JournalFull]
    assert results[0] is not results[1]  # one object raised in two tasks would mix their tracebacks
    assert store.full and await keys(store) == set()
    await store.write(put("neighbour"))
    assert not store.full and await keys(store) == {"neighbour"}


async def test_the_ballast_is_given_up_before_anybody_hears_of_a_full_disk(tmp_path: Path) -> None:
    store = await open_store(tmp_path, reserve_bytes=200_000)
    store._ballast.restore()
    reserve = tmp_path / "reserve"
    assert reserve.stat().st_blocks * 512 >= 200_000

    def full_while_the_reserve_is_there(db: sqlite3.Connection) -> None:
        if reserve.exists():
            raise sqlite_error(sqlite3.SQLITE_FULL)
        put("squeezed in")(db)

    await store.write(full_while_the_reserve_is_there)
    assert await keys(store) == {"squeezed in"} and not store.full
    await store.close()
    assert reserve.exists()  # there was plenty of room all the time, so it was laid down again


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
    ],
)
async def test_an_io_error_ends_the_journal_for_everybody(store: Store, code: int) -> None:
    watching = asyncio.create_task(store.broken())
    results = await asyncio.gather(
        store.write(put("neighbour")),
        store.write(raising(sqlite_error(code))),
        store.write(put("another")),
        return_exceptions=True,
    )
    assert {type(result) for result in results} == {JournalBroken}
    with pytest.raises(JournalBroken, match="code"):
        await watching
    for again in (store.write(put("late")), store.read(lambda db: db.execute("SELECT 1")), store.broken()):
        with pytest.raises(JournalBroken):
            await again
    await store.close()


async def test_a_read_that_meets_damage_ends_the_journal_too(store: Store) -> None:
    with pytest.raises(JournalBroken, match="carries over"):
        await store.read(raising(sqlite_error(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError)))
    with pytest.raises(JournalBroken):
        await store.write(put("late"))


async def test_errors_of_folding_the_log_in_are_not_kept_quiet(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own checkpoint would say nothing, and the next one would take the log away."""

    def failing(_: sqlite3.Connection) -> None:
        raise sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)

    monkeypatch.setattr(store_module, "_checkpoint", failing)
    assert await store.write(put("acknowledged")) == 1  # the commit itself stood
    with pytest.raises(JournalBroken):
        await asyncio.wait_for(store.broken(), 60)


async def test_the_log_is_folded_in_when_it_has_grown(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOG_BYTES", 100_000)
    wal = log_path(tmp_path / "journal.db")
    folded_in: list[int] = []
    fold = store_module._checkpoint

    def noted(db: sqlite3.Connection) -> None:
        folded_in.append(wal.stat().st_size)
        fold(db)

    await store.write(put("the first commit, which is folded in by itself"))
    monkeypatch.setattr(store_module, "_checkpoint", noted)
    for number in range(60):
        await store.write(put(f"key {number}", "x" * 3000))
    assert folded_in and 100_000 < min(folded_in) <= max(folded_in) < 200_000
    assert (tmp_path / "journal.db").stat().st_size > 150_000


# Waiting for the worst


async def test_who_waits_for_the_worst_may_be_cancelled(store: Store) -> None:
    first, second = asyncio.create_task(store.broken()), asyncio.create_task(store.broken())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await store.write(put("still works"))
    assert not second.done()
    with pytest.raises(JournalBroken):
        await store.write(raising(sqlite_error(sqlite3.SQLITE_IOERR)))
    with pytest.raises(JournalBroken):
        await second


async def test_an_orderly_close_is_not_the_worst(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    watching = asyncio.create_task(store.broken())
    await asyncio.sleep(0)
    await store.close()
    await asyncio.wait_for(watching, 60)  # returns, and cancels nobody


async def test_a_task_group_ends_with_the_journal(store: Store) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(store.broken())
            group.create_task(asyncio.sleep(3600))
            with pytest.raises(JournalBroken):
                await store.write(raising(sqlite_error(sqlite3.SQLITE_IOERR)))
            await asyncio.sleep(3600)
    assert caught.group_contains(JournalBroken)


# Turns


async def test_a_slice_of_long_work_goes_after_whoever_waits_and_alone(store: Store) -> None:
    order: list[str] = []
    commits: list[int] = []

    def note(word: str) -> Operation:
        def noted(_: sqlite3.Connection) -> None:
            order.append(word)
            commits.append(store.commits)

        return noted

    slices = [store.write(note(f"slice {number}"), patient=True) for number in range(3)]
    others = [store.write(note(f"client {number}")) for number in range(3)]
    await asyncio.gather(*slices, *others)
    assert order == [
        *(f"client {number}" for number in range(3)),
        *(f"slice {number}" for number in range(3)),
    ]
    assert commits == [commits[0]] * 3 + [commits[0] + 1, commits[0] + 2, commits[0] + 3]


async def test_a_slice_of_long_work_has_its_turn_though_others_never_end(store: Store) -> None:
    over, writes = asyncio.Event(), 0

    async def client(name: int) -> None:
        nonlocal writes
        while not over.is_set():
            await store.write(put(f"{name} {writes}"))
            writes += 1

    async with asyncio.TaskGroup() as clients:
        for name in range(3):
            clients.create_task(client(name))
        await store.write(put("before"))
        before = store.commits
        await store.write(put("slice"), patient=True)
        assert store.commits - before <= PASSED_OVER + 2  # and the one that was on its way
        over.set()


async def test_a_log_is_folded_in_when_nobody_waits_and_a_long_one_in_any_case(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(put("first"))
    folded_at: list[int] = []
    monkeypatch.setattr(store_module, "_checkpoint", lambda _: folded_at.append(store.commits))
    monkeypatch.setattr(turns_module, "MAX_BATCH", 1)
    monkeypatch.setattr(store_module, "LOG_BYTES", 0)
    before = store.commits
    await asyncio.gather(*(store.write(put(f"key {number}")) for number in range(5)))
    await keys(store)  # behind the fold
    assert folded_at == [before + 5]
    monkeypatch.setattr(store_module, "LONGEST_LOG_BYTES", 0)
    await asyncio.gather(*(store.write(put(f"another {number}")) for number in range(5)))
    await keys(store)
    assert folded_at == [before + number for number in range(5, 11)]


# The end


async def test_close_finishes_what_was_handed_in(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    writes = [
        asyncio.create_task(store.write(put(f"key {number}"), patient=number % 7 == 0))
        for number in range(700)
    ]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*writes) == [1] * 700
    assert not log_path(tmp_path / "journal.db").exists()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        assert db.execute("SELECT count(*) FROM meta").fetchone()[0] == 701
    db.close()


async def test_after_the_close_nothing_hangs(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await store.close()
    await store.close()
    with pytest.raises(JournalError, match="closed"):
        await asyncio.wait_for(store.write(put("late")), 60)
    with pytest.raises(JournalError, match="closed"):
        await asyncio.wait_for(store.read(lambda db: db.execute("SELECT 1")), 60)


async def test_a_cancelled_close_still_closes(tmp_path: Path) -> None:
    journal = await open_journal(tmp_path)
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with await open_journal(tmp_path) as again:
        assert not again.opening.unclean


async def test_a_cancelled_open_leaves_nothing_open(tmp_path: Path) -> None:
    for turns in range(6):
        opening = asyncio.create_task(open_journal(tmp_path))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    async with await open_journal(tmp_path) as journal:
        await journal.alive()


async def test_a_writer_that_is_taken_away_leaves_nobody_waiting(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    waiting = asyncio.create_task(store.write(put("waiting")))
    await asyncio.sleep(0)
    store._writer.cancel()
    with pytest.raises(JournalBroken):
        await asyncio.wait_for(waiting, 60)
    with pytest.raises(JournalBroken):
        await asyncio.wait_for(store.broken(), 60)
    await store.close()
