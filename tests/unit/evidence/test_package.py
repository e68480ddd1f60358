"""Making a package: originals bit for bit, failures without a trace, no file under its name too early."""

import asyncio
import errno
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from cctv_storaged.errors import ObjectMissing, PackageError
from cctv_storaged.evidence import package as packages
from cctv_storaged.evidence.container import Entry, directory, local_header
from cctv_storaged.evidence.facts import OpenOriginal, WorkingCopy
from cctv_storaged.evidence.listing import TAIL_BYTES, bounds, listed
from cctv_storaged.evidence.manifest import FileRole
from cctv_storaged.evidence.package import package_at
from cctv_storaged.evidence.stored import StoredZip
from cctv_storaged.model import TimeSpan
from tests.unit.evidence.samples import (
    GATE,
    KEY,
    START,
    STEP,
    YARD,
    checked,
    facts,
    giving,
    make_package,
    original,
)

MIB = 1024 * 1024
GIB = 1024 * MIB


async def test_originals_are_bit_for_bit_and_all_is_as_the_manifest_says(tmp_path: Path) -> None:
    made = await make_package(tmp_path)
    with ZipFile(made.path) as file:
        assert file.testzip() is None
        contents = {info.filename: file.read(info) for info in file.infolist()}
        assert {info.compress_type for info in file.infolist()} == {ZIP_STORED}
    assert [*contents] == [*made.names, "manifest.json", "manifest.json.sig"]
    for listed_file in made.facts.manifest.files:
        raw = contents[listed_file.path]
        assert (len(raw), sha256(raw).hexdigest()) == (listed_file.size_bytes, listed_file.sha256)
    originals = made.facts.manifest.of_role(FileRole.ORIGINAL)
    assert [contents[file.path] for file in originals] == [b"G0" * 200, b"G1" * 150, b"Y" * 188]
    assert all(file.sha256[:12] in file.path for file in originals)
    assert KEY.public.has_signed(contents["manifest.json.sig"], contents["manifest.json"])
    assert contents["manifest.json"] == made.facts.manifest_raw
    assert made.facts.size_bytes == made.path.stat().st_size
    assert os.listdir(tmp_path) == ["package.zip"]


async def test_the_same_export_gives_the_same_bytes(tmp_path: Path) -> None:
    """A job that is done again after a crash makes the very package."""
    first = (await make_package(tmp_path)).raw
    (tmp_path / "package.zip.unfinished").write_bytes(b"left by a process that was killed" * 1000)
    assert (await make_package(tmp_path)).raw == first
    assert os.listdir(tmp_path) == ["package.zip"]


async def test_what_the_manifest_says_of_an_original(tmp_path: Path) -> None:
    made = await make_package(tmp_path)
    first, second, _ = made.facts.manifest.of_role(FileRole.ORIGINAL)
    assert first.source is not None
    assert first.source.recorded_sha256 == first.sha256
    assert (first.source.read_from, first.source.path) == ("FILESYSTEM", "gate/2026-03-29/0.ts")
    assert second.source is not None
    assert (second.source.recorded_sha256, second.flags) == (None, ("partial",))
    assert second.span is not None
    assert second.span.local_start == "2026-03-29T03:00:00+02:00"
    gate, yard = made.facts.manifest.cameras
    assert [(gap.cause, gap.detail, gap.span.start) for gap in gate.gaps] == [
        ("lost", "segment 7 was gone", START + 2 * STEP)
    ]
    assert yard.gaps == ()


async def test_bytes_that_are_not_the_recorded_ones_are_never_an_original(tmp_path: Path) -> None:
    made = await make_package(tmp_path, originals=[original(GATE, 0, b"rotten", sha256=b"\1" * 32)])
    assert made.facts.manifest.of_role(FileRole.ORIGINAL) == []
    (file,) = made.facts.manifest.of_role(FileRole.DIFFERING)
    assert file.sha256 == sha256(b"rotten").hexdigest()
    assert file.source is not None
    assert file.source.recorded_sha256 == "01" * 32
    assert [(found.wrong, found.name) for found in checked(made.path).findings] == [("changed", file.path)]


@pytest.mark.parametrize(
    ("contents", "size_bytes", "error", "told"),
    [
        (b"x" * 500, 1000, ObjectMissing("gone meanwhile"), "gone meanwhile"),
        (b"", 1000, ObjectMissing("gone meanwhile"), "gone meanwhile"),
        (b"x" * 500, 1000, None, "has 500 bytes and not 1000"),
        (b"x" * 500, 400, None, "has more than its 400 bytes"),
        (b"x" * 5000, 500_000, OSError(errno.EIO, "I/O error"), "I/O error"),
    ],
)
async def test_an_original_that_fails_leaves_no_trace(
    tmp_path: Path, contents: bytes, size_bytes: int, error: Exception | None, told: str
) -> None:
    failing = replace(original(GATE, 0, b""), size_bytes=size_bytes, open=giving(contents, error))
    expected = await make_package(
        tmp_path, originals=[original(GATE, 0, b"first"), original(YARD, 1, b"last")]
    )
    whole = expected.raw
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"not really a film" * 20)
    async with package_at(tmp_path / "again.zip", facts(), KEY) as package:
        with pytest.raises((PackageError, ObjectMissing, OSError), match=told):
            await package.add_original(failing)
        assert (tmp_path / "again.zip.unfinished").stat().st_size == 0
        await package.add_original(original(GATE, 0, b"first"))
        with pytest.raises((PackageError, ObjectMissing, OSError), match=told):
            await package.add_original(failing)
        await package.add_original(original(YARD, 1, b"last"))
        span = TimeSpan(START, START + 2 * STEP)
        await package.add_working_copy(
            WorkingCopy(camera_id=GATE.id, file=clip, span=span, codec="h264", made_by="stream_copy")
        )
        done = await package.finish({})
    assert [file.path for file in done.manifest.files] == expected.names
    assert (tmp_path / "again.zip").stat().st_size < len(whole)  # without the gap
    assert checked(tmp_path / "again.zip").findings == ()


async def test_segments_with_the_same_start_have_names_of_their_own(tmp_path: Path) -> None:
    same = [original(GATE, 0, contents) for contents in (b"one", b"one", b"two")]
    made = await make_package(tmp_path, originals=same)
    assert len(made.facts.manifest.of_role(FileRole.ORIGINAL)) == 3
    assert checked(made.path).findings == ()


async def test_there_is_no_package_before_it_is_finished_and_nothing_stays_of_one_given_up(
    tmp_path: Path,
) -> None:
    out = tmp_path / "package.zip"

    async def give_up() -> None:
        async with package_at(out, facts(), KEY) as package:
            await package.add_original(original(GATE, 0, b"first"))
            assert os.listdir(tmp_path) == ["package.zip.unfinished"]
            raise ObjectMissing("the bucket is gone")

    with pytest.raises(ObjectMissing):
        await give_up()
    assert os.listdir(tmp_path) == []


async def test_a_cancelled_package_leaves_nothing(tmp_path: Path) -> None:
    reading = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            reading.set()

    @asynccontextmanager
    async def opening() -> AsyncIterator[OpenOriginal]:
        yield OpenOriginal("S3", endless())

    async def make() -> None:
        async with package_at(tmp_path / "package.zip", facts(), KEY) as package:
            await package.add_original(replace(original(GATE, 0, b""), size_bytes=GIB, open=opening))

    making = asyncio.create_task(make())
    await reading.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert os.listdir(tmp_path) == []


async def test_a_cancelled_package_waits_for_the_thread_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the thread would write into a file that is closed, or into whatever is open under its number."""
    writing, go_on = threading.Event(), threading.Event()
    write = StoredZip.write

    def slowly(self: StoredZip, block: bytes) -> None:
        writing.set()
        assert go_on.wait(30)
        write(self, block)

    async def make() -> None:
        async with package_at(tmp_path / "package.zip", facts(), KEY) as package:
            await package.add_original(original(GATE, 0, b"first"))

    monkeypatch.setattr(StoredZip, "write", slowly)
    making = asyncio.create_task(make())
    assert await asyncio.to_thread(writing.wait, 30)
    making.cancel()
    done, _ = await asyncio.wait([making], timeout=0.1)
    assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert os.listdir(tmp_path) == []


async def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes, position: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with package_at(tmp_path / "package.zip", facts(), KEY) as package:
        await package.add_original(original(GATE, 0, b"first"))
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            await package.add_original(original(GATE, 1, b"second"))
    assert os.listdir(tmp_path) == []


async def test_more_files_than_a_package_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MOST_FILES", 5)
    with pytest.raises(PackageError, match="at most 5 files: ask for a shorter span"):
        await make_package(tmp_path, originals=[original(GATE, number, b"x") for number in range(3)])
    assert os.listdir(tmp_path) == ["clip.mp4"]


async def test_progress_counts_every_byte(tmp_path: Path) -> None:
    counted: list[int] = []
    async with package_at(tmp_path / "package.zip", facts(), KEY, counted.append) as package:
        await package.add_original(original(GATE, 0, b"x" * 12345))
    assert sum(counted) == 12345


async def test_memory_stays_small_however_long_the_footage(tmp_path: Path) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(MIB)

    @asynccontextmanager
    async def opening() -> AsyncIterator[OpenOriginal]:
        yield OpenOriginal("S3", blocks())

    long = replace(original(GATE, 0, b"", sha256=None), size_bytes=64 * MIB, open=opening)
    tracemalloc.start()
    try:
        made = await make_package(tmp_path, originals=[long])
        written_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert checked(made.path).findings == ()
        checked_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(written_peak, checked_peak) < 12 * MIB


# The container, at sizes that nobody wants to write


def skeleton(path: Path, sizes: dict[str, int]) -> list[Entry]:
    """A ZIP whose files are holes of these sizes; their CRC is not looked at."""
    entries: list[Entry] = []
    moment = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    with path.open("wb") as file:
        for name, size_bytes in sizes.items():
            offset = entries[-1].end if entries else 0
            entry = Entry(name=name, moment=moment, size_bytes=size_bytes, crc32=7, offset=offset)
            entries.append(entry)
            file.seek(offset)
            file.write(local_header(entry))
        file.seek(entries[-1].end)
        file.write(directory(entries))
    return entries


@pytest.mark.parametrize(
    "sizes",
    [
        {"a.ts": 5 * GIB, "b.ts": 3, "c.ts": 5 * GIB, "d.ts": 0},
        {"a.ts": 4 * GIB - 2, "b.ts": 1},
        {"a.ts": 4 * GIB - 1, "b.ts": 1},
        {f"{number}.ts": number % 3 for number in range(65534)},
        {f"{number}.ts": number % 3 for number in range(65536)},
    ],
    ids=["large", "just below", "just at", "many", "more"],
)
def test_a_large_package_is_a_zip64_that_others_read(tmp_path: Path, sizes: dict[str, int]) -> None:
    path = tmp_path / "large.zip"
    entries = skeleton(path, sizes)
    with ZipFile(path) as file:
        assert [(info.filename, info.file_size, info.header_offset) for info in file.infolist()] == [
            (entry.name, entry.size_bytes, entry.offset) for entry in entries
        ]
        for info in file.infolist()[:: max(1, len(entries) // 50)]:
            file.open(info).close()  # compares the two headers
        assert file.infolist()[0].date_time == (2026, 1, 2, 3, 4, 6)
    with path.open("rb") as raw:
        size_bytes = path.stat().st_size
        raw.seek(max(0, size_bytes - TAIL_BYTES))
        found = bounds(raw.read(), size_bytes)
        raw.seek(found.begin)
        ours = list(listed(raw.read(found.size_bytes)))
    assert (found.before, found.end, found.begin) == (0, size_bytes, entries[-1].end)
    assert [(each.name, each.size_bytes, each.offset, each.oddity) for each in ours] == [
        (entry.name, entry.size_bytes, entry.offset, None) for entry in entries
    ]


def test_times_that_a_zip_cannot_tell_are_the_nearest_it_can(tmp_path: Path) -> None:
    early, late = datetime(1969, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
    for moment, told in ((early, (1980, 1, 1, 0, 0, 0)), (late, (2107, 12, 31, 23, 59, 58))):
        entry = Entry(name="a", moment=moment, size_bytes=0, crc32=0, offset=0)
        path = tmp_path / "a.zip"
        path.write_bytes(local_header(entry) + directory([entry]))
        with ZipFile(path) as file:
            assert file.infolist()[0].date_time == told
    assert START - timedelta(days=1) > early
