"""What `backends.base.Backend` promises, tried on files, and with both clients on a real S3 server."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cctv_storaged.backends.base import StoredObject
from cctv_storaged.backends.body import SINGLE_PUT_MAX_BYTES
from cctv_storaged.errors import (
    BackendUnavailable,
    ObjectMismatch,
    ObjectMissing,
    ObjectRejected,
    SourceChanged,
)
from cctv_storaged.pacing import ByteBudget
from tests.services.backends import KINDS, STORES, Subject, files_subject, store_subject
from tests.services.payloads import METADATA, payload_of, some_bytes, write_source
from tests.services.seaweed import Bucket

PATH = "3f0c/2026/03/05/12/20260305T120000.000000Z_10000_0123456789ab.ts"
UNLIMITED = ByteBudget(None)
SMALL, STREAMED = 100_000, 3_000_001


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, tuple[Bucket, Subject]]]:
    """Each store's bucket and backend, made once and probed: the clients are slow to make."""
    made: dict[str, tuple[Bucket, Subject]] = {}
    yield made
    for _, subject in made.values():
        asyncio.run(subject.backend.close())


@pytest.fixture(params=KINDS)
async def subject(
    request: pytest.FixtureRequest, tmp_path: Path, stores: dict[str, tuple[Bucket, Subject]]
) -> AsyncIterator[Subject]:
    """Probed and empty."""
    kind: str = request.param
    if kind not in STORES:
        files = files_subject(kind, tmp_path / "store")
        await files.backend.probe()
        yield files
        await files.backend.close()
        return
    if kind not in stores:
        bucket: Bucket = request.getfixturevalue("seaweed_bucket")
        stores[kind] = bucket, store_subject(kind, bucket)
        await stores[kind][1].backend.probe()
    yield stores[kind][1]
    stores[kind][0].empty()


def own_subject(kind: str, bucket: Bucket, tmp_path: Path) -> Subject:
    """For tests whose threads outlive them, or that close it."""
    return store_subject(kind, bucket) if kind in STORES else files_subject(kind, tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "recorder" / "12-00-00.ts"


async def put(subject: Subject, source: Path, path: str = PATH) -> StoredObject:
    with payload_of(source) as payload:
        return await subject.backend.put(path, payload, UNLIMITED)


async def read(subject: Subject, path: str, start: int = 0, length: int | None = None) -> bytes:
    async with subject.backend.open(path, start, length) as blocks:
        return b"".join([block async for block in blocks])


@pytest.mark.parametrize("size_bytes", [0, 1, 188, SMALL, STREAMED])
async def test_what_was_put_is_proven_read_and_removed(
    subject: Subject, source: Path, size_bytes: int
) -> None:
    data = some_bytes(size_bytes)
    stored = await put(subject, write_source(source, data))
    assert (stored.path, stored.size_bytes) == (PATH, size_bytes)
    assert stored.sha256 == hashlib.sha256(data).digest()
    await subject.backend.verify(stored)
    assert subject.paths() == {PATH}
    assert subject.read(PATH) == data
    assert await read(subject, PATH) == data
    await subject.backend.delete(PATH)
    assert subject.paths() == set()


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (0, 1),
        (0, None),
        (1, 10),
        (SMALL - 1, 1),
        (SMALL - 1, None),
        (500, 0),
        (10, 10 * SMALL),
        (7, SMALL - 7),
    ],
)
async def test_any_range_can_be_read(subject: Subject, source: Path, start: int, length: int | None) -> None:
    data = some_bytes(SMALL)
    await put(subject, write_source(source, data))
    end = None if length is None else start + length
    assert await read(subject, PATH, start, length) == data[start:end]


async def test_a_range_behind_the_end_is_refused(subject: Subject, source: Path) -> None:
    await put(subject, write_source(source, some_bytes(SMALL)))
    with pytest.raises(ObjectRejected):
        await read(subject, PATH, SMALL)


async def test_blocks_are_never_larger_than_a_mebibyte(subject: Subject, source: Path) -> None:
    await put(subject, write_source(source, some_bytes(STREAMED)))
    async with subject.backend.open(PATH) as blocks:
        sizes = [len(block) async for block in blocks]
    assert max(sizes) <= 1024 * 1024
    assert sum(sizes) == STREAMED


async def test_a_read_given_up_half_way_blocks_nothing(subject: Subject, source: Path) -> None:
    """More of them than there are threads or connections: each must give back what it holds."""
    data = some_bytes(STREAMED)
    await put(subject, write_source(source, data))
    for _ in range(20):
        async with subject.backend.open(PATH) as blocks:
            assert await anext(aiter(blocks))
    assert await read(subject, PATH) == data


async def test_the_last_size_put_at_once_and_the_first_put_in_parts(subject: Subject, source: Path) -> None:
    for extra in (0, 1):
        data = some_bytes(SINGLE_PUT_MAX_BYTES + extra)
        path = f"{PATH}.{extra}"
        stored = await put(subject, write_source(source.with_name(f"{extra}.ts"), data), path)
        await subject.backend.verify(stored)
        assert hashlib.sha256(await read(subject, path)).digest() == stored.sha256
        if subject.is_store:
            assert ("sha256:" in (stored.etag or "")) == bool(extra)


async def test_parts_are_hashed_by_the_backend_where_the_payload_does_not_bring_them(
    subject: Subject, source: Path
) -> None:
    write_source(source, some_bytes(SINGLE_PUT_MAX_BYTES + 188))
    with payload_of(source, with_parts=False) as payload:
        stored = await subject.backend.put(PATH, payload, UNLIMITED)
    await subject.backend.verify(stored)


async def test_the_same_put_again_is_success_and_changes_nothing(subject: Subject, source: Path) -> None:
    write_source(source, some_bytes(SMALL))
    first = await put(subject, source)
    second = await put(subject, source)
    await subject.backend.verify(second)
    assert (first.size_bytes, first.sha256) == (second.size_bytes, second.sha256)
    assert subject.paths() == {PATH}


async def test_a_large_put_again_sends_nothing_and_is_proven(subject: Subject, source: Path) -> None:
    write_source(source, some_bytes(SINGLE_PUT_MAX_BYTES + 1))
    await put(subject, source)
    with payload_of(source) as payload:
        budget = _Counted()
        again = await subject.backend.put(PATH, payload, budget)
    await subject.backend.verify(again)
    assert budget.drawn_bytes == 0


async def test_other_content_under_the_same_path_is_refused_and_the_first_kept(
    subject: Subject, source: Path
) -> None:
    data = some_bytes(SMALL, seed=1)
    stored = await put(subject, write_source(source, data))
    for other in (some_bytes(SMALL, seed=2), some_bytes(SMALL - 1, seed=1)):
        with pytest.raises(ObjectMismatch):
            await put(subject, write_source(source.with_name("other.ts"), other))
    assert subject.read(PATH) == data
    await subject.backend.verify(stored)


@pytest.mark.parametrize("size_bytes", [SMALL, SINGLE_PUT_MAX_BYTES + 1])
async def test_bytes_spoiled_in_the_store_are_noticed(
    subject: Subject, source: Path, size_bytes: int
) -> None:
    data = some_bytes(size_bytes)
    stored = await put(subject, write_source(source, data))
    subject.replace(PATH, bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ObjectMismatch):
        await subject.backend.verify(stored)
    subject.replace(PATH, data[:-1])
    with pytest.raises(ObjectMismatch):
        await subject.backend.verify(stored)


async def test_verify_accepts_the_right_bytes_whoever_put_them(subject: Subject, source: Path) -> None:
    """Restored from a backup, say: other inode, other ETag, no checksum, but the bytes are right."""
    data = some_bytes(SMALL)
    stored = await put(subject, write_source(source, data))
    subject.replace(PATH, data)
    await subject.backend.verify(stored)


async def test_verify_believes_no_metadata(subject: Subject, source: Path) -> None:
    """The right hash in the user metadata of wrong bytes is worth nothing."""
    data, wrong = some_bytes(SMALL, seed=1), some_bytes(SMALL, seed=2)
    digest = hashlib.sha256(data).digest()
    write_source(source, wrong)
    with payload_of(source, metadata={**METADATA, "sha256": digest.hex()}) as payload:
        await subject.backend.put(PATH, payload, UNLIMITED)
    with pytest.raises(ObjectMismatch):
        await subject.backend.verify(StoredObject(path=PATH, size_bytes=SMALL, sha256=digest))


async def test_what_is_not_there_is_missing_and_can_be_deleted(subject: Subject, source: Path) -> None:
    await put(subject, write_source(source, some_bytes(188)))
    for path in ("3f0c/2026/03/05/12/none.ts", "nowhere/at/all.ts"):
        with pytest.raises(ObjectMissing):
            await subject.backend.verify(StoredObject(path=path, size_bytes=1, sha256=bytes(32)))
        with pytest.raises(ObjectMissing):
            await subject.backend.stat(path)
        with pytest.raises(ObjectMissing):
            await read(subject, path)
        await subject.backend.delete(path)
    assert subject.paths() == {PATH}


async def test_the_metadata_of_a_put_can_be_read_back(subject: Subject, source: Path) -> None:
    for size_bytes in (SMALL, SINGLE_PUT_MAX_BYTES + 1):
        path = f"{PATH}.{size_bytes}"
        await put(subject, write_source(source.with_name(f"{size_bytes}.ts"), some_bytes(size_bytes)), path)
        facts = await subject.backend.stat(path)
        assert facts.size_bytes == size_bytes
        assert facts.metadata == METADATA


@pytest.mark.parametrize(
    "path",
    [
        "a b/c+d%20e.ts",
        "umlaut-ä/☃.ts",
        "quotes-\"'&<>.ts",
        "brackets-(1)[2]{3}*.ts",
        "dots/..a/b...ts",
        "colon:and=equals,comma;semi@at$dollar!~.ts",
    ],
)
async def test_paths_may_have_any_printable_characters(subject: Subject, source: Path, path: str) -> None:
    stored = await put(subject, write_source(source, some_bytes(188)), path)
    await subject.backend.verify(stored)
    assert await read(subject, path) == some_bytes(188)
    await subject.backend.delete(path)
    with pytest.raises(ObjectMissing):
        await subject.backend.verify(stored)


@pytest.mark.parametrize("size_bytes", [STREAMED, SINGLE_PUT_MAX_BYTES + 1])
async def test_a_file_rewritten_after_it_was_hashed_leaves_nothing_wrong_behind(
    subject: Subject, source: Path, size_bytes: int
) -> None:
    data = some_bytes(size_bytes)
    write_source(source, data)
    with payload_of(source) as payload:
        with source.open("r+b") as recorder:
            recorder.seek(size_bytes // 2)
            recorder.write(b"other")
        with pytest.raises(SourceChanged):
            await subject.backend.put(PATH, payload, UNLIMITED)
    assert subject.paths() == set()


@pytest.mark.parametrize("change_bytes", [-1, 188])
async def test_a_file_that_became_shorter_or_longer_is_not_put(
    subject: Subject, source: Path, change_bytes: int
) -> None:
    write_source(source, some_bytes(STREAMED))
    with payload_of(source) as payload:
        os.truncate(source, STREAMED + change_bytes)
        with pytest.raises(SourceChanged):
            await subject.backend.put(PATH, payload, UNLIMITED)
    assert subject.paths() == set()


async def test_a_file_that_was_just_written_is_put_and_proven(subject: Subject, source: Path) -> None:
    """The common case: delivered within a moment of its close."""
    stored = await put(subject, write_source(source, some_bytes(STREAMED), age_s=0.0))
    await subject.backend.verify(stored)


async def test_a_file_unlinked_while_it_waited_is_put_all_the_same(subject: Subject, source: Path) -> None:
    data = some_bytes(STREAMED)
    write_source(source, data)
    with payload_of(source) as payload:
        source.unlink()
        stored = await subject.backend.put(PATH, payload, UNLIMITED)
    await subject.backend.verify(stored)
    assert subject.read(PATH) == data


async def test_a_put_keeps_to_the_budget(subject: Subject, source: Path) -> None:
    """Every byte that is moved is drawn for; a link moves none."""
    write_source(source, some_bytes(STREAMED))
    slept: list[float] = []
    budget = ByteBudget(1_000_000, monotonic=lambda: sum(slept), sleep=slept.append)
    with payload_of(source) as payload:
        stored = await subject.backend.put(PATH, payload, budget)
    await subject.backend.verify(stored)
    if subject.kind == "filesystem-link":
        assert slept == []
    else:  # a burst of one second at first
        assert sum(slept) == pytest.approx(STREAMED / 1_000_000 - 1, abs=0.01)
        assert max(slept) < 0.2, "drawn for in small pieces"


async def test_eight_puts_at_once(subject: Subject, source: Path) -> None:
    async def one(number: int) -> None:
        data = some_bytes(SMALL * (number + 1), seed=number)
        made = write_source(source.with_name(f"{number}.ts"), data)
        stored = await put(subject, made, f"camera-{number % 3}/{number}.ts")
        await subject.backend.verify(stored)
        assert await read(subject, stored.path) == data

    await asyncio.gather(*map(one, range(8)))
    assert len(subject.paths()) == 8


async def test_the_same_object_put_from_eight_sides_at_once_is_there_once(
    subject: Subject, source: Path
) -> None:
    data = some_bytes(SMALL)
    write_source(source, data)
    stored = await asyncio.gather(*(put(subject, source) for _ in range(8)))
    for each in stored:
        await subject.backend.verify(each)
    assert subject.paths() == {PATH}
    assert subject.read(PATH) == data


async def test_puts_and_deletes_in_one_folder_do_not_trip_over_each_other(
    subject: Subject, source: Path
) -> None:
    write_source(source, some_bytes(188))

    async def come_and_go(number: int) -> None:
        for turn in range(5):
            stored = await put(subject, source, f"camera/2026/{number}-{turn}.ts")
            await subject.backend.verify(stored)
            await subject.backend.delete(stored.path)

    await asyncio.gather(*map(come_and_go, range(6)))
    assert subject.paths() == set()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "filesystem-link"])  # which sends nothing
async def test_a_put_cancelled_half_way_reads_no_other_file_and_can_be_put_again(
    kind: str, seaweed_bucket: Bucket, source: Path, tmp_path: Path
) -> None:
    """Its caller closes the file at once, and the thread, which nobody can stop, reads on."""
    write_source(source, some_bytes(STREAMED))
    other = write_source(tmp_path / "other.ts", some_bytes(STREAMED, seed=2))
    subject = own_subject(kind, seaweed_bucket, tmp_path)
    await subject.backend.probe()
    gate = _Gate()
    with payload_of(source) as payload:
        under_way = asyncio.create_task(subject.backend.put(PATH, payload, gate))
        assert await asyncio.to_thread(gate.reached.wait, 20)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
    takers = [os.open(other, os.O_RDONLY) for _ in range(64)]
    assert payload.descriptor in takers, "the number was to be taken by another file"
    gate.open.set()
    await _until(lambda: subject.paths() == {PATH})
    assert subject.read(PATH) == some_bytes(STREAMED)
    for taker in takers:
        os.close(taker)
    await subject.backend.verify(await put(subject, source))
    await subject.backend.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


async def test_a_sweep_without_leftovers_removes_nothing(subject: Subject, source: Path) -> None:
    stored = await put(subject, write_source(source, some_bytes(SMALL)))
    assert await subject.backend.sweep(0) == 0
    await subject.backend.verify(stored)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_backend_says_so(
    kind: str, seaweed_bucket: Bucket, source: Path, tmp_path: Path
) -> None:
    write_source(source, some_bytes(STREAMED))
    subject = own_subject(kind, seaweed_bucket, tmp_path)
    await subject.backend.close()
    with pytest.raises(BackendUnavailable):
        await put(subject, source)
    with pytest.raises(BackendUnavailable):
        await subject.backend.probe()


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_a_backend_in_the_middle_of_a_read_ends_the_read(
    kind: str, seaweed_bucket: Bucket, source: Path, tmp_path: Path
) -> None:
    write_source(source, some_bytes(STREAMED))
    subject = own_subject(kind, seaweed_bucket, tmp_path)
    await put(subject, source)
    with pytest.raises(BackendUnavailable):
        async with subject.backend.open(PATH) as blocks:
            async for _ in blocks:
                await subject.backend.close()


async def test_a_probe_leaves_nothing_behind(subject: Subject) -> None:
    capabilities = await subject.backend.probe()
    assert capabilities.conditional_put
    assert subject.paths() == set()


async def test_making_the_bucket_again_keeps_what_is_in_it(subject: Subject, source: Path) -> None:
    stored = await put(subject, write_source(source, some_bytes(188)))
    assert isinstance(subject.backend.name, str)
    await subject.backend.ensure_bucket()
    await subject.backend.verify(stored)


class _Gate(ByteBudget):
    """Holds whoever draws until it is opened."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reached, self.open = threading.Event(), threading.Event()

    def draw(self, size_bytes: int) -> None:
        self.reached.set()
        self.open.wait(60)


class _Counted(ByteBudget):
    """Counts what is drawn; never waits."""

    def __init__(self) -> None:
        super().__init__(None)
        self.drawn_bytes = 0

    def draw(self, size_bytes: int) -> None:
        self.drawn_bytes += size_bytes
