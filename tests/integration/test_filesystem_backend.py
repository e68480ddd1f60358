"""FILESYSTEM where the contract cannot look: inodes, planted names, bad disks, the order of writes."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cctv_storaged.backends.base import StoredObject
from cctv_storaged.backends.filesystem import FilesystemBackend
from cctv_storaged.errors import BackendUnavailable, ObjectMismatch, ObjectMissing, ObjectRejected
from cctv_storaged.pacing import ByteBudget
from tests.services.backends import filesystem
from tests.services.payloads import payload_of, some_bytes, write_source

UNLIMITED = ByteBudget(None)
PATH = "camera/2026/03/05/12/a.ts"
SIZE = 300_000


@pytest.fixture(params=["filesystem-link", "filesystem-copy"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
async def backend(kind: str, base: Path) -> AsyncIterator[FilesystemBackend]:
    made = filesystem(kind, base, readback_share=0.0)
    yield made
    await made.close()


@pytest.fixture
async def linking(base: Path) -> AsyncIterator[FilesystemBackend]:
    made = filesystem("filesystem-link", base, readback_share=0.0)
    yield made
    await made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "recorder" / "a.ts", some_bytes(SIZE))


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="cctv-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


async def put(backend: FilesystemBackend, source: Path, path: str = PATH) -> StoredObject:
    with payload_of(source) as payload:
        return await backend.put(path, payload, UNLIMITED)


async def test_a_store_that_is_not_made_yet_has_no_leftovers(backend: FilesystemBackend, base: Path) -> None:
    """A new host's first start would tell of a sweep that was put off as its folder is missing."""
    base.rmdir()
    assert await backend.sweep(0) == 0


async def test_on_the_same_file_system_the_object_is_the_recorders_inode(
    linking: FilesystemBackend, base: Path, source: Path
) -> None:
    await put(linking, source)
    assert (base / PATH).stat().st_ino == source.stat().st_ino
    source.unlink()
    assert (base / PATH).read_bytes() == some_bytes(SIZE)


async def test_a_copy_is_a_file_of_its_own_with_its_own_mode(base: Path, source: Path) -> None:
    backend = filesystem("filesystem-copy", base)
    source.chmod(0o600)
    before = os.umask(0o077)
    try:
        await put(backend, source)
    finally:
        os.umask(before)
        await backend.close()
    copied = (base / PATH).stat()
    assert copied.st_ino != source.stat().st_ino
    assert stat.S_IMODE(copied.st_mode) == 0o640
    assert stat.S_IMODE((base / "camera/2026").stat().st_mode) == 0o750


async def test_across_file_systems_a_link_becomes_a_copy(
    linking: FilesystemBackend, base: Path, elsewhere: Path
) -> None:
    assert elsewhere.stat().st_dev != base.stat().st_dev, "this test needs two file systems"
    source = write_source(elsewhere / "a.ts", some_bytes(SIZE))
    await linking.verify(await put(linking, source))
    assert (base / PATH).read_bytes() == some_bytes(SIZE)
    assert (base / PATH).stat().st_nlink == 1


async def test_a_recorder_rewriting_in_place_what_we_linked_is_noticed(
    linking: FilesystemBackend, base: Path, source: Path
) -> None:
    """The price of a hard link: the recorder can still reach the bytes."""
    stored = await put(linking, source)
    await linking.verify(stored)
    with source.open("r+b") as recorder:
        recorder.write(b"other")
    with pytest.raises(ObjectMismatch):
        await linking.verify(stored)
    os.truncate(source, SIZE - 1)
    with pytest.raises(ObjectMismatch):
        await linking.verify(stored)


async def test_a_quiet_link_is_proven_without_reading_it(
    linking: FilesystemBackend, base: Path, source: Path
) -> None:
    """Shown by bytes changed with the stamps kept, as only a test does; a sample finds even that."""
    stored = await put(linking, source)
    before = source.stat()
    with source.open("r+b") as recorder:
        recorder.write(b"other")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    await linking.verify(stored)
    sampling = filesystem("filesystem-link", base, readback_share=1.0)
    with pytest.raises(ObjectMismatch):
        await sampling.verify(stored)
    await sampling.close()


async def test_a_link_to_a_file_written_a_moment_ago_is_read(
    linking: FilesystemBackend, source: Path
) -> None:
    """Its next change might fall into the same tick of the clock that stamps files."""
    # a stamp that lies ahead stays recent, however slow the machine is
    stored = await put(linking, write_source(source, some_bytes(SIZE), age_s=-600.0))
    before = source.stat()
    with source.open("r+b") as recorder:
        recorder.write(b"other")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ObjectMismatch):
        await linking.verify(stored)


@pytest.mark.parametrize(
    "path", ["../a.ts", "/a.ts", "a/../../b.ts", "a//b.ts", "./a.ts", "a/.", "a/..", "", "a/", "a\0b/c.ts"]
)
async def test_no_path_leads_out(backend: FilesystemBackend, base: Path, source: Path, path: str) -> None:
    stored = StoredObject(path=path, size_bytes=SIZE, sha256=bytes(32))
    attempts = [put(backend, source, path), backend.verify(stored), backend.delete(path), backend.stat(path)]
    for attempt in attempts:
        with pytest.raises(ObjectRejected):
            await attempt
    assert list(base.iterdir()) == []
    assert sorted(entry.name for entry in base.parent.iterdir()) == ["recorder", "store"]


async def test_a_planted_link_to_a_folder_is_not_followed(
    backend: FilesystemBackend, base: Path, source: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "2026/03/05/12").mkdir(parents=True)
    (outside / "2026/03/05/12/a.ts").write_bytes(some_bytes(SIZE))
    (base / "camera").symlink_to(outside)
    stored = StoredObject(path=PATH, size_bytes=SIZE, sha256=bytes(32))
    for attempt in (put(backend, source), backend.verify(stored), backend.stat(PATH), backend.delete(PATH)):
        with pytest.raises(ObjectRejected):
            await attempt
    assert (outside / "2026/03/05/12/a.ts").exists()


@pytest.mark.parametrize("planted", ["symlink", "fifo", "folder"])
async def test_what_is_planted_in_the_objects_place_is_neither_followed_nor_replaced(
    backend: FilesystemBackend, base: Path, source: Path, planted: str
) -> None:
    place = base / PATH
    place.parent.mkdir(parents=True)
    match planted:
        case "symlink":
            place.symlink_to(source)
        case "fifo":
            os.mkfifo(place)
        case _:
            place.mkdir()
    kind = place.lstat().st_mode
    stored = StoredObject(path=PATH, size_bytes=SIZE, sha256=bytes(32))
    for attempt in (put(backend, source), backend.verify(stored), backend.stat(PATH)):
        with pytest.raises(ObjectRejected):
            await attempt
    assert place.lstat().st_mode == kind
    assert [entry.name for entry in place.parent.iterdir()] == ["a.ts"]


async def test_a_missing_base_is_told_with_its_remedy_and_never_made_by_a_put(
    kind: str, tmp_path: Path, source: Path
) -> None:
    """It may be a disk that is not mounted: writing beside it would fill the wrong one."""
    missing = tmp_path / "not-mounted"
    backend = filesystem(kind, missing)
    for attempt in (backend.probe(), put(backend, source), backend.stat(PATH)):
        with pytest.raises(BackendUnavailable, match="mount what belongs there") as caught:
            await attempt
        assert caught.value.reason == "bucket"
    assert await backend.sweep(0) == 0, "there is nothing to sweep, and others say that it is missing"
    assert not missing.exists()
    await backend.ensure_bucket()
    await backend.verify(await put(backend, source))
    await backend.close()


async def test_a_sweep_removes_old_temporary_files_of_ours_and_nothing_else(
    backend: FilesystemBackend, base: Path, source: Path
) -> None:
    await put(backend, source)
    left = base / "camera/2026/03/05/12/.cctv-put-0123456789abcdef"
    left.write_bytes(b"x")
    (base / ".cctv-put-top").write_bytes(b"x")
    strangers = [base / "camera/.hidden", base / "camera/cctv-put-x", base / "camera/.cctv-putty"]
    for stranger in strangers:
        stranger.write_bytes(b"x")
    (base / "camera/.cctv-put-folder").mkdir()
    assert await backend.sweep(3600) == 0
    assert left.exists()
    assert await backend.sweep(0) == 2
    assert not left.exists()
    assert all(stranger.exists() for stranger in strangers)
    assert (base / PATH).exists()
    assert (base / "camera/.cctv-put-folder").is_dir()


async def test_empty_folders_go_with_the_last_object_and_the_base_stays(
    backend: FilesystemBackend, base: Path, source: Path
) -> None:
    await put(backend, source)
    await put(backend, source, "camera/2026/03/04/23/b.ts")
    await backend.delete(PATH)
    assert not (base / "camera/2026/03/05").exists()
    assert (base / "camera/2026/03/04/23/b.ts").exists()
    await backend.delete("camera/2026/03/04/23/b.ts")
    assert list(base.iterdir()) == []


async def test_names_of_any_bytes_are_carried_through(
    backend: FilesystemBackend, base: Path, source: Path
) -> None:
    path = os.fsdecode(b"cam-\xff\xfe/\n-y \x1b[31m.ts")
    stored = await put(backend, source, path)
    await backend.verify(stored)
    assert (base / path).exists()
    await backend.delete(path)
    with pytest.raises(ObjectMissing):
        await backend.verify(stored)


async def test_a_name_too_long_is_this_objects_own_fault(backend: FilesystemBackend, source: Path) -> None:
    with pytest.raises(ObjectRejected):
        await put(backend, source, f"camera/{'x' * 256}.ts")


SMALL_DISK = """
import asyncio, json, os, subprocess, sys
from pathlib import Path
from tests.services.backends import filesystem
from tests.services.payloads import payload_of
from cctv_storaged.errors import BackendError
from cctv_storaged.pacing import ByteBudget

async def attempt(backend, source, path):
    try:
        with payload_of(Path(source)) as payload:
            await backend.verify(await backend.put(path, payload, ByteBudget(None)))
    except BackendError as exc:
        return getattr(exc, "reason", type(exc).__name__)
    return "done"

async def main(mount_point, small, large):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mount_point], check=True)
    backend = filesystem("filesystem-link", Path(mount_point))
    told = [await attempt(backend, small, "a/small.ts"), await attempt(backend, large, "a/large.ts")]
    files = [path for path in Path(mount_point).rglob("*") if path.is_file()]
    left = [str(path.relative_to(mount_point)) for path in files]
    subprocess.run(["mount", "-o", "remount,ro", mount_point], check=True)
    told.append(await attempt(backend, small, "b/small.ts"))
    told.append(await attempt(backend, small, "a/small.ts"))
    await backend.close()
    print(json.dumps({"told": told, "left": left}))

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_full_disk_is_the_disks_fault_and_keeps_no_half_file_and_a_read_only_one_is_told(
    tmp_path: Path,
) -> None:
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    small = write_source(tmp_path / "small.ts", some_bytes(SIZE))
    large = write_source(tmp_path / "large.ts", some_bytes(3_000_000))
    command = ["unshare", "--mount", "--map-root-user", sys.executable, "-c", SMALL_DISK]
    done = subprocess.run(
        [*command, mount_point, small, large],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # The last one is there already, with the same bytes: there is nothing to write.
    assert found == {"told": ["done", "space", "server", "done"], "left": ["a/small.ts"]}


ONE_PUT = """
import asyncio, sys
from pathlib import Path
from tests.services.backends import filesystem
from tests.services.payloads import payload_of
from cctv_storaged.pacing import ByteBudget

async def main(kind, base, source):
    backend = filesystem(kind, Path(base))
    with payload_of(Path(source)) as payload:
        await backend.put("camera/a.ts", payload, ByteBudget(None))
    await backend.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_bytes_are_durable_before_their_name_and_the_name_before_success(
    kind: str, base: Path, source: Path
) -> None:
    """Looked at from outside: fsync of the file, link, fsync of its folder, in that order."""
    trace = base.parent / "trace"
    calls_of_interest = "trace=fsync,link,linkat,rename,renameat,renameat2"
    tracing = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", calls_of_interest]
    subprocess.run(
        [*tracing, sys.executable, "-c", ONE_PUT, kind, base, source],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    calls = [line for line in trace.read_text().splitlines() if str(base) in line or str(source) in line]
    steps = [_step(call, base) for call in calls]
    assert steps == ["fsync base", "fsync file", "link", "fsync folder"], "\n".join(calls)


def _step(call: str, base: Path) -> str:
    if "link" in call.partition("(")[0]:
        return "link"
    synced = re.search(r"fsync\(\d+<([^>]*)>", call)
    assert synced is not None, call
    if synced[1] == str(base):
        return "fsync base"  # which was given a new folder
    return "fsync folder" if synced[1] == str(base / "camera") else "fsync file"
