"""A whole host over a real bucket with object lock: what is held cannot be deleted there, by anybody."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.backends.base import Backend, LegalHolding
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import ObjectLocked
from tests.integration.api.harness import Host, running
from tests.services.backends import STORES
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket


def settings(kind: str, bucket: Bucket) -> Mapping[str, Any]:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": bucket.name}
    if kind == "minio":
        return {"backend": "MINIO", "minio": {"endpoint": bucket.server.endpoint, **keys}}
    return {"backend": "S3", "s3": {"endpoint_url": bucket.server.url, **keys}}


async def held(host: Host, segment: Mapping[str, Any]) -> str:
    start = rfc3339(datetime.now(UTC) - timedelta(hours=1))
    body = {"camera_ids": [segment["camera_id"]], "start_time": start, "reason": "burglary"}
    reply = await host.post("/holds", body)
    assert reply.status == 201
    return str(reply.json["id"])


async def followed_up(host: Host) -> None:
    await host.parts.upkeep.holding.settle()
    await host.parts.upkeep.mirror.run_once()


async def mirror_of(host: Host, hold_id: str) -> tuple[str, int]:
    mirror = (await host.get(f"/holds/{hold_id}")).json["mirror"]
    return mirror["state"], mirror["copies"]


def backend_of(host: Host) -> Backend:
    [backend] = host.parts.foundation.backends
    return backend


@pytest.mark.parametrize("kind", STORES)
async def test_held_footage_is_locked_in_the_bucket_until_its_release(
    kind: str, tmp_path: Path, locked_bucket: Bucket
) -> None:
    async with running(tmp_path, settings(kind, locked_bucket)) as host:
        segment = await host.registered()
        hold_id = await held(host, segment)
        assert (await mirror_of(host, hold_id))[0] == "in_progress"
        host.deliver()
        segment = await host.delivered(segment)
        path = segment["storage_path"]
        await followed_up(host)
        assert await mirror_of(host, hold_id) == ("mirrored", 1)
        backend = backend_of(host)
        assert isinstance(backend, LegalHolding) and await backend.legal_hold(path) is True
        with pytest.raises(ObjectLocked):
            await backend.delete(path)
        assert await backend.legal_hold(path) is True  # and it is there, bytes and all

        assert (await host.delete(f"/holds/{hold_id}?reason=closed")).status == 204
        await followed_up(host)
        assert await backend.legal_hold(path) is False
        await backend.delete(path)


async def test_a_key_that_is_not_told_of_object_lock_for_a_while_leaves_no_legal_hold_behind(
    tmp_path: Path, locked_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def untold() -> bool:
        return False  # as after a start with a key that may not ask

    async with running(tmp_path, settings("s3", locked_bucket)) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
        hold_id = await held(host, segment)
        await followed_up(host)
        backend = backend_of(host)
        assert isinstance(backend, LegalHolding)
        with monkeypatch.context() as patched:
            patched.setattr(backend, "object_lock", untold)
            assert (await host.delete(f"/holds/{hold_id}?reason=closed")).status == 204
            await followed_up(host)
            assert await backend.legal_hold(segment["storage_path"]) is True
        await followed_up(host)
        assert await backend.legal_hold(segment["storage_path"]) is False


async def test_a_bucket_without_object_lock_leaves_the_hold_local_and_says_so(
    tmp_path: Path, seaweed_bucket: Bucket
) -> None:
    async with running(tmp_path, settings("s3", seaweed_bucket)) as host:
        host.deliver()
        segment = await host.delivered(await host.registered())
        hold_id = await held(host, segment)
        await followed_up(host)
        assert await mirror_of(host, hold_id) == ("local_only", 0)
        [alarm] = [
            each for each in host.parts.foundation.alarms.standing if each.name is AlarmName.HOLD_LOCAL
        ]
        assert seaweed_bucket.name in alarm.subject
        assert (await host.delete(f"/segments/{segment['camera_id']}/{segment['id']}")).status == 409
