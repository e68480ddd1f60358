"""Where a reconcile looks: the same objects in a folder, in a bucket, and in the journal's rows."""

import hashlib
import os
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cctv_storaged.clock import to_us
from cctv_storaged.model import camera_id_for
from scripts.benchmarks.filling import filling
from tests.fakes.s3stub import S3Stub, Stored
from tests.services.seaweed import Bucket

HOST = "bench"
SEGMENT = timedelta(seconds=10)
CAMERAS = 100
BYTES = b"G"
"""Of each object: what is compared is names and sizes."""
_ETAG = hashlib.md5(BYTES).hexdigest()


class ManyObjects(S3Stub):
    """A server in memory that lists a million objects without sorting them for each page."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__("bench")
        self._keys = keys
        for key in keys:
            self.objects[key] = Stored(data=BYTES, etag=_ETAG, checksum=None, metadata={})

    def listed(self) -> Sequence[str]:
        """What the daemon puts besides (its mark, its probes) is not listed."""
        return self._keys


def keys_of(count: int) -> list[str]:
    """Ten-second segments that ended an hour ago, an equal number of each camera; sorted."""
    each = count // CAMERAS
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    starts = [end - SEGMENT * (each - number) for number in range(each)]
    names = [f"{start:%Y/%m/%d/%H/%Y%m%dT%H%M%S.%fZ}_10000_" for start in starts]
    cameras = sorted(str(camera_id_for(HOST, f"cam{number}")) for number in range(CAMERAS))
    return [f"{camera}/{name}{number:012x}.ts" for camera in cameras for number, name in enumerate(names)]


def write_files(store: Path, keys: Sequence[str]) -> None:
    """A file for each: of one byte that takes no block."""
    for folder in dict.fromkeys(os.path.dirname(key) for key in keys):
        (store / folder).mkdir(parents=True)
    for key in keys:
        descriptor = os.open(store / key, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        os.ftruncate(descriptor, len(BYTES))
        os.close(descriptor)


def put_objects(bucket: Bucket, keys: Sequence[str]) -> None:
    """Past S3, by the server's own file interface."""

    def put(key: str) -> None:
        bucket_request = urllib.request.Request(bucket.object_url(key), data=BYTES, method="PUT")
        with urllib.request.urlopen(bucket_request, timeout=60):
            pass

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(put, keys))


def fill(journal: Path, backend: str, keys: Sequence[str]) -> None:
    """The journal's rows: delivered, verified, and their sources pruned long since."""
    with filling(journal) as db:
        db.executemany("DELETE FROM copy", [()])
        for table in ("segment", "folder", "camera"):
            db.execute(f"DELETE FROM {table}")
        cameras = {key[:36]: None for key in keys}
        numbers = {camera: number for number, camera in enumerate(cameras, start=1)}
        db.executemany(
            "INSERT INTO camera (no, id, name, folder) VALUES (?, ?, ?, ?)",
            [(no, bytes.fromhex(id_.replace("-", "")), id_, id_.encode()) for id_, no in numbers.items()],
        )
        db.execute("INSERT INTO folder (no, root, path) VALUES (1, ?, ?)", (b"/pruned", b"all"))
        db.executemany(
            """INSERT INTO segment (no, id, camera_no, start_us, end_us, folder_no, name, device, inode,
                                    size_bytes, mtime_ns, source_state, codec, sha256, created_us,
                                    settled_us, catalogued)
               VALUES (?, randomblob(16), ?, ?, ?, 1, ?, 1, ?, ?, 1, 'pruned', 'h264', randomblob(32), ?,
                       ?, 1)""",
            _segments(keys, numbers),
        )
        db.executemany(
            """INSERT INTO copy (segment_no, backend, state, path, start_us, size_bytes, stored_us,
                                 verified_us)
               VALUES (?, ?, 'verified', ?, ?, ?, ?, ?)""",
            _copies(keys, backend),
        )


def _segments(keys: Sequence[str], numbers: dict[str, int]) -> Iterator[tuple[object, ...]]:
    for no, key in enumerate(keys, start=1):
        start_us = _start_us(key)
        end_us = start_us + to_us(datetime(1970, 1, 1, tzinfo=UTC) + SEGMENT)
        yield no, numbers[key[:36]], start_us, end_us, b"%d.ts" % no, no, len(BYTES), end_us, end_us


def _copies(keys: Sequence[str], backend: str) -> Iterator[tuple[object, ...]]:
    for no, key in enumerate(keys, start=1):
        start_us = _start_us(key)
        yield no, backend, key, start_us, len(BYTES), start_us, start_us


def _start_us(key: str) -> int:
    return to_us(datetime.strptime(key[51:74], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC))
