"""The API over an object store that works, hangs, and comes back (T-20, as far as the API goes)."""

import time
from pathlib import Path
from statistics import median

from tests.footage import cached_ts
from tests.integration.api.harness import DELETE_PATIENCE_S, Host, path_of, running, until
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

SILENT_S = 30.0
"""How long a store that says nothing is waited for (`Timeouts.read_s`): by half of it nobody has."""


def settings(server: SeaweedServer, bucket: Bucket) -> dict[str, object]:
    return {
        "backend": "MINIO",
        "minio": {
            "endpoint": server.endpoint,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "bucket_recordings": bucket.name,
        },
    }


async def seconds_of(host: Host, path: str) -> float:
    started = time.monotonic()
    assert (await host.get(path)).status == 200
    return time.monotonic() - started


async def test_bytes_come_from_the_store_whole_and_in_part(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    async with running(tmp_path, settings(seaweed, seaweed_bucket)) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
        assert (segment["storage_backend"], {segment["storage_path"]}) == ("MINIO", seaweed_bucket.keys())
        (host.recordings / "gate/a.ts").unlink()
        data = cached_ts(seconds=2).read_bytes()
        whole = await host.request("GET", f"{path_of(segment)}/content")
        part = await host.request("GET", f"{path_of(segment)}/content", headers={"Range": "bytes=1000-1999"})
        assert (whole.status, whole.body) == (200, data)
        assert (part.status, part.body) == (206, data[1000:2000])


async def test_a_store_that_hangs_holds_up_no_answer_and_no_deletion(
    tmp_path: Path, seaweed: SeaweedServer, seaweed_bucket: Bucket
) -> None:
    chosen = settings(seaweed, seaweed_bucket)
    async with running(tmp_path, chosen, delete_patience_s=DELETE_PATIENCE_S) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
        other = await host.delivered(await host.registered("gate/b.ts"))
        with seaweed.frozen():
            started = time.monotonic()
            assert (await host.delete(path_of(segment))).status == 204
            assert time.monotonic() - started < SILENT_S / 2
            assert (await host.get(path_of(segment))).status == 404
            waits = [await seconds_of(host, path) for _ in range(20) for path in ("/cameras", path_of(other))]
            assert median(waits[::2]) < 0.5 and median(waits[1::2]) < 0.5
            assert sorted(waits)[-4] < 3 and max(waits) < SILENT_S / 2

        async def deleted() -> bool:
            await host.parts.remover.run_once()
            return not {segment["storage_path"]} & seaweed_bucket.keys()

        await until(deleted)
        assert seaweed_bucket.keys() == {other["storage_path"]}
        assert (await host.get(path_of(other))).status == 200
