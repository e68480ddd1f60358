"""Both S3 clients on a real server: what it is found to do, and what becomes of it being away."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from cctv_storaged.backends.base import StoredObject
from cctv_storaged.backends.body import MIB, PART_BYTES
from cctv_storaged.backends.objectstore import ObjectStore
from cctv_storaged.backends.wire import Timeouts
from cctv_storaged.errors import BackendUnavailable, ObjectMismatch, ObjectMissing, ObjectRejected
from cctv_storaged.model import is_object_key
from cctv_storaged.pacing import ByteBudget
from tests.fakes.cutproxy import CutProxy, Line
from tests.services.backends import SHORT, STORES, AnyBackend, closing, knowing, store
from tests.services.payloads import payload_of, some_bytes, write_source
from tests.services.ports import kept_port
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

UNLIMITED = ByteBudget(None)
PATH = "camera/2026/03/05/12/a.ts"
SIZE = 300_000
IN_PARTS = PART_BYTES + 188
BUSY_S = 20.0
"""What a busy machine may add: less, even so, than without the limits, whose defaults are half a minute."""


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def backend(kind: str, seaweed_bucket: Bucket) -> AsyncIterator[ObjectStore]:
    made = store(kind, seaweed_bucket.server.endpoint, seaweed_bucket.name)
    yield made
    await made.close()


@pytest.fixture
def proxy(seaweed: SeaweedServer) -> Iterator[CutProxy]:
    made = CutProxy(seaweed.endpoint)
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "recorder" / "a.ts", some_bytes(SIZE))


async def put(backend: AnyBackend, source: Path, path: str = PATH) -> StoredObject:
    with payload_of(source) as payload:
        return await backend.put(path, payload, UNLIMITED)


async def test_the_probe_finds_what_the_server_does(backend: ObjectStore, seaweed_bucket: Bucket) -> None:
    begun = time.monotonic()
    found = await backend.probe()
    took_s = time.monotonic() - begun
    assert (found.refuses_wrong_sha256, found.returns_sha256, found.conditional_put) == (True, True, True)
    assert (found.versioning, found.object_lock) == (False, False)
    assert found.clock_skew_s == pytest.approx(0, abs=2 + took_s)  # as late as the answer was
    assert seaweed_bucket.keys() == set()
    assert backend.capabilities == found


@pytest.mark.parametrize(
    ("access_key", "secret_key"), [(ACCESS_KEY, "canary-wrong-secret"), ("canary-nobody", SECRET_KEY)]
)
async def test_wrong_credentials_are_told_apart_and_not_told(
    kind: str, seaweed_bucket: Bucket, source: Path, access_key: str, secret_key: str
) -> None:
    endpoint, name = seaweed_bucket.server.endpoint, seaweed_bucket.name
    made = store(kind, endpoint, name, access_key=access_key, secret_key=secret_key)
    async with closing(made) as backend:
        for attempt in (backend.probe(), put(backend, source), backend.stat(PATH), backend.delete(PATH)):
            with pytest.raises(BackendUnavailable) as caught:
                await attempt
            assert caught.value.reason == "auth"
            assert "canary" not in str(caught.value)
            assert SECRET_KEY not in str(caught.value)


async def test_a_missing_bucket_is_the_buckets_fault_not_the_objects(
    kind: str, seaweed: SeaweedServer, source: Path
) -> None:
    async with closing(store(kind, seaweed.endpoint, "no-such-bucket")) as backend:
        stored = StoredObject(path=PATH, size_bytes=SIZE, sha256=bytes(32))
        attempts = (backend.probe(), put(backend, source), backend.verify(stored), backend.stat(PATH))
        for attempt in attempts:
            with pytest.raises(BackendUnavailable, match="create the bucket or correct its name") as caught:
                await attempt
            assert caught.value.reason == "bucket"


async def test_the_bucket_is_made_when_asked_for(kind: str, seaweed: SeaweedServer, source: Path) -> None:
    async with closing(store(kind, seaweed.endpoint, f"made-by-{kind}")) as backend:
        await backend.ensure_bucket()
        await backend.ensure_bucket()
        await backend.probe()
        await backend.verify(await put(backend, source))


async def test_a_server_that_is_not_there_is_told_at_once(kind: str, source: Path) -> None:
    with kept_port() as port:
        async with closing(store(kind, f"127.0.0.1:{port}", "bucket")) as backend:
            for attempt in (backend.probe(), put(backend, source), backend.delete(PATH)):
                with pytest.raises(BackendUnavailable) as caught:
                    await attempt
                assert caught.value.reason == "network"


@pytest.mark.parametrize("how", ["swallow_up", "swallow_down"])
async def test_a_black_hole_is_left_within_the_time_limits(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path, how: str
) -> None:
    async with closing(knowing(store(kind, proxy.endpoint, seaweed_bucket.name, timeouts=SHORT))) as backend:
        stored = await put(backend, source)
        with proxy.spoiled(**{how: True}):
            for attempt in (put(backend, source, "other.ts"), backend.verify(stored), backend.delete("none")):
                begun = time.monotonic()
                with pytest.raises(BackendUnavailable) as caught:
                    await attempt
                assert caught.value.reason == "network"
                assert time.monotonic() - begun < SHORT.object_base_s + SHORT.connect_s + BUSY_S
        await backend.verify(stored)


async def test_a_frozen_server_holds_no_put_longer_than_the_limits_and_works_on_thawing(
    kind: str, seaweed_bucket: Bucket, source: Path
) -> None:
    server = seaweed_bucket.server
    async with closing(knowing(store(kind, server.endpoint, seaweed_bucket.name, timeouts=SHORT))) as backend:
        with server.frozen():
            begun = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await put(backend, source)
            assert time.monotonic() - begun < SHORT.object_base_s + BUSY_S
        async with asyncio.timeout(60):
            await _until_it_works(backend, source)


async def _until_it_works(backend: AnyBackend, source: Path) -> None:
    """As delivery would: again, after BackendUnavailable."""
    while True:
        with contextlib.suppress(BackendUnavailable):
            await backend.verify(await put(backend, source))
            return


async def test_a_line_that_trickles_is_given_up_by_the_objects_deadline(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path
) -> None:
    """Every single read and write is in time; only the whole is not."""
    async with closing(knowing(store(kind, proxy.endpoint, seaweed_bucket.name, timeouts=SHORT))) as backend:
        write_source(source, some_bytes(3 * MIB))  # may take 3 s + 12 s
        with proxy.spoiled(delay_s=0.5):
            begun = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await put(backend, source)
            assert time.monotonic() - begun < 15 + BUSY_S  # all of it would take a minute and a half
    assert seaweed_bucket.keys() == set()


@pytest.mark.parametrize("cut_up_after", [100, 64 * 1024, 200 * 1024])
async def test_a_put_cut_off_leaves_nothing_and_succeeds_later(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path, cut_up_after: int
) -> None:
    async with closing(knowing(store(kind, proxy.endpoint, seaweed_bucket.name, timeouts=SHORT))) as backend:
        with proxy.spoiled(cut_up_after=cut_up_after), pytest.raises(BackendUnavailable) as caught:
            await put(backend, source)
        assert caught.value.reason == "network"
        assert seaweed_bucket.keys() == set()
        await backend.verify(await put(backend, source))


@pytest.mark.parametrize("how", ["cut_down_after", "end_down_after"])
@pytest.mark.parametrize("after", [0, 10, 150])
async def test_an_answer_lost_or_truncated_after_the_put_ends_as_stored_once(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path, how: str, after: int
) -> None:
    async with closing(knowing(store(kind, proxy.endpoint, seaweed_bucket.name, timeouts=SHORT))) as backend:
        with proxy.spoiled(**{how: after}), pytest.raises(BackendUnavailable) as caught:
            await put(backend, source)
        assert caught.value.reason == "network"
        await backend.verify(await put(backend, source))
        assert seaweed_bucket.keys() == {PATH}


async def test_a_read_cut_off_fails_and_never_ends_early(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path
) -> None:
    """Short bytes that look whole would be worse than none."""
    async with closing(store(kind, proxy.endpoint, seaweed_bucket.name, timeouts=SHORT)) as backend:
        await put(backend, source)
        for how in ("cut_down_after", "end_down_after"):
            proxy.cut_all()
            with proxy.spoiled(**{how: SIZE // 2}), pytest.raises(BackendUnavailable):
                async with backend.open(PATH) as blocks:
                    async for _ in blocks:
                        pass


async def test_many_objects_go_over_few_connections(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path
) -> None:
    async with closing(store(kind, proxy.endpoint, seaweed_bucket.name)) as backend:
        await backend.probe()
        before = proxy.connections
        for number in range(20):
            await backend.verify(await put(backend, source, f"{number}.ts"))
        assert proxy.connections - before <= 1


async def test_a_kept_connection_that_the_server_has_closed_is_not_used(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path
) -> None:
    async with closing(store(kind, proxy.endpoint, seaweed_bucket.name)) as backend:
        await backend.probe()
        stored = await put(backend, source)
        for _ in range(5):
            proxy.cut_all()
            await asyncio.to_thread(proxy.wait_cut)
            await backend.verify(stored)


async def test_an_upload_cut_off_is_swept_when_old_enough_and_not_before(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path
) -> None:
    """Cut and not let in again, so that the backend cannot even abort."""
    write_source(source, some_bytes(IN_PARTS))
    made = store(kind, proxy.endpoint, seaweed_bucket.name, timeouts=SHORT, prefix="camera/")
    async with closing(knowing(made)) as backend:
        with payload_of(source) as payload, pytest.raises(BackendUnavailable):
            await backend.put(PATH, payload, _Cutting(proxy, after_bytes=PART_BYTES))
        proxy.line = Line()
        assert seaweed_bucket.keys() == set()
        assert await backend.sweep(3600) == 0
        assert await backend.sweep(0) == 1
        assert await backend.sweep(0) == 0
        await backend.verify(await put(backend, source))


async def test_a_sweep_leaves_other_prefixes_alone(kind: str, seaweed_bucket: Bucket) -> None:
    endpoint, name = seaweed_bucket.server.endpoint, seaweed_bucket.name
    async with closing(store(kind, endpoint, name, prefix="theirs/")) as theirs:
        assert isinstance(theirs, ObjectStore)
        theirs._client.begin_upload("theirs/camera/x.ts", {})
        async with closing(store(kind, endpoint, name, prefix="ours/")) as ours:
            assert await ours.sweep(0) == 0
        assert await theirs.sweep(0) == 1


async def test_a_sweep_of_a_shared_bucket_leaves_what_is_not_ours_alone(
    kind: str, seaweed_bucket: Bucket
) -> None:
    endpoint, name = seaweed_bucket.server.endpoint, seaweed_bucket.name
    own = "123e4567-e89b-12d3-a456-426614174000/2026/11/01/00/20261101T000000.000000Z_2000_abababababab.ts"
    async with closing(store(kind, endpoint, name, ours=partial(is_object_key, ""))) as backend:
        assert isinstance(backend, ObjectStore)
        for key in ("backup/of/somebody.tar", own):
            backend._client.begin_upload(key, {})
        assert await backend.sweep(0) == 1
        assert [upload.key for upload in backend._client.uploads("")] == ["backup/of/somebody.tar"]


async def test_a_sample_is_read_back_in_full(
    kind: str, seaweed_bucket: Bucket, proxy: CutProxy, source: Path
) -> None:
    for share, at_least, at_most in ((1.0, SIZE, 2 * SIZE), (0.0, 0, SIZE // 10)):
        made = store(kind, proxy.endpoint, seaweed_bucket.name, readback_share=share)
        async with closing(made) as backend:
            await backend.probe()
            stored = await put(backend, source, f"{share}.ts")
            before = proxy.down_bytes
            await backend.verify(stored)
            assert at_least <= proxy.down_bytes - before <= at_most


async def test_a_bit_that_rots_on_the_stores_disk_is_found_by_reading_and_is_this_objects_fault(
    seaweed_bucket: Bucket, source: Path
) -> None:
    """A head does not show it, which is why a sample is read. The store itself is well.

    With one client only: the server tries for ten seconds before it admits that it cannot read.
    """
    server = seaweed_bucket.server
    data = some_bytes(SIZE, seed=77)
    async with closing(store("s3", server.endpoint, seaweed_bucket.name, readback_share=1.0)) as backend:
        await backend.probe()
        stored = await put(backend, write_source(source, data))
        assert server.rot(data[1000:1100]) == 1
        with pytest.raises((ObjectRejected, ObjectMismatch)):
            await backend.verify(stored)


async def test_an_object_deleted_behind_our_back_is_missing(
    backend: ObjectStore, seaweed_bucket: Bucket, source: Path
) -> None:
    await backend.probe()
    stored = await put(backend, source)
    seaweed_bucket.empty()
    with pytest.raises(ObjectMissing):
        await backend.verify(stored)


@pytest.mark.parametrize("size_bytes", [60 * MIB, 70 * MIB])
def test_a_large_put_takes_little_memory(
    kind: str, seaweed_bucket: Bucket, tmp_path: Path, size_bytes: int
) -> None:
    """Peak of a process that puts and proves a small object first, then a large one."""
    small = write_source(tmp_path / "small.ts", some_bytes(SIZE))
    large = write_source(tmp_path / "large.ts", some_bytes(size_bytes))
    endpoint = seaweed_bucket.server.endpoint
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _MEASURE,
            kind,
            endpoint,
            seaweed_bucket.name,
            small,
            large,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    before_kib, after_kib = map(int, done.stdout.split())
    assert (after_kib - before_kib) / 1024 < 16


_MEASURE = """
import asyncio, resource, sys
from pathlib import Path
from tests.services.backends import closing, store
from tests.services.payloads import payload_of
from cctv_storaged.pacing import ByteBudget

async def main(kind, endpoint, bucket, small, large):
    async with closing(store(kind, endpoint, bucket, readback_share=1.0)) as backend:
        await backend.probe()
        for path in (small, large):
            with payload_of(Path(path)) as payload:
                await backend.verify(await backend.put(path.lstrip("/"), payload, ByteBudget(None)))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

asyncio.run(main(*sys.argv[1:]))
"""


class _Cutting(ByteBudget):
    """Cuts the line for good once so much was sent."""

    def __init__(self, proxy: CutProxy, after_bytes: int) -> None:
        super().__init__(None)
        self._proxy, self._left = proxy, after_bytes

    def draw(self, size_bytes: int) -> None:
        self._left -= size_bytes
        if self._left < 0:
            self._proxy.line = Line(refuse=True)
            self._proxy.cut_all()


def test_the_default_limits_are_those_of_the_architecture() -> None:
    assert Timeouts() == Timeouts(connect_s=5.0, read_s=30.0, object_base_s=30.0)
