"""Every metric of the specification and the contract: its name, its labels, and that it moves."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.metrics import Metrics
from cctv_storaged.model import SourceState
from tests.integration.api.harness import Host, path_of, running, until

CAMERA = UUID("123e4567-e89b-12d3-a456-426614174000")
NAMES: dict[str, tuple[str, ...]] = {
    "storage_segments_stored_total": ("backend", "mode"),
    "storage_segments_retrieved_total": ("backend",),
    "storage_segments_deleted_total": ("backend",),
    "storage_exports_created_total": ("status",),
    "storage_export_duration_seconds": ("status",),
    "storage_bytes_used": ("backend", "bucket"),
    "storage_segments_count": ("camera_id",),
    "storage_errors_total": ("operation", "backend"),
    "storage_upload_backlog_segments": ("backend",),
    "storage_upload_backlog_bytes": ("backend",),
    "storage_oldest_undelivered_seconds": ("backend",),
    "storage_ingest_seconds": (),
    "storage_delivery_seconds": ("backend",),
    "storage_segments_quarantined": ("reason",),
    "storage_segments_lost_total": ("cause",),
    "storage_scan_found_total": (),
    "storage_watcher_overflows_total": (),
    "storage_backend_up": ("backend",),
    "storage_catalog_lag_segments": (),
    "storage_retention_achieved_days": ("camera_id",),
    "storage_disk_free_bytes": ("root",),
    "storage_holds": (),
}


async def samples(host: Host) -> defaultdict[str, float]:
    """What /metrics says, by name and labels as they are written; 0 for what it does not."""
    await host.parts.gauges.set_all()
    await host.parts.upkeep.reporting.refresh()
    lines = (await host.get("/metrics")).body.decode().splitlines()
    found: defaultdict[str, float] = defaultdict(float)
    for series, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#")):
        found[series] = float(value)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_of_the_contract_has_its_name_and_labels(name: str) -> None:
    families = {each._name: each._labelnames for each in vars(Metrics()).values() if hasattr(each, "_name")}
    assert families[name.removesuffix("_total")] == NAMES[name]


async def test_a_segments_life_moves_what_tells_of_it(host: Host) -> None:
    camera = f'{{camera_id="{CAMERA}"}}'
    there = '{backend="FILESYSTEM"}'
    kept = f'storage_bytes_used{{backend="FILESYSTEM",bucket="{host.settings.filesystem.path}"}}'
    segment = await host.registered(camera=CAMERA)

    waiting = await samples(host)
    assert waiting[f"storage_segments_count{camera}"] == 1
    assert waiting[f"storage_retention_achieved_days{camera}"] > 0
    assert waiting[f"storage_upload_backlog_segments{there}"] == 1
    assert waiting[f"storage_upload_backlog_bytes{there}"] == segment["size_bytes"]
    assert waiting[f"storage_oldest_undelivered_seconds{there}"] > 500  # its footage began 10 min ago
    assert waiting[kept] == 0

    host.deliver()
    await host.delivered(segment)
    assert (await host.get(f"{path_of(segment)}/content")).status == 200
    stored = await samples(host)
    assert stored['storage_segments_stored_total{backend="FILESYSTEM",mode="LOCAL"}'] == 1
    assert stored[f"storage_delivery_seconds_count{there}"] == 1
    assert stored[f"storage_upload_backlog_segments{there}"] == 0
    assert stored[f"storage_upload_backlog_bytes{there}"] == 0
    assert stored[f"storage_oldest_undelivered_seconds{there}"] == 0
    assert stored[f"storage_backend_up{there}"] == 1
    assert stored[kept] == segment["size_bytes"]
    retrieved = sum(value for name, value in stored.items() if name.startswith("storage_segments_retrieved_"))
    assert retrieved == 1

    assert (await host.delete(path_of(segment))).status == 204
    deleted = await samples(host)
    assert deleted[f"storage_segments_deleted_total{there}"] == 1
    assert deleted[f"storage_segments_count{camera}"] == 0
    assert deleted[kept] == 0


async def test_what_a_scan_finds_and_what_it_sets_aside_is_counted(host: Host) -> None:
    day = host.recordings / "gate" / "2026-11-22"
    host.file("gate/2026-11-22/10-00-00.ts")
    (day / "10-00-10.ts").write_bytes(b"no stream" * 100)
    (day / "10-00-20.ts").touch()
    host.watch()

    async def looked_through() -> defaultdict[str, float] | None:
        now = await samples(host)
        aside = [name for name in now if name.startswith("storage_segments_quarantined")]
        return now if len(aside) == 2 and now["storage_scan_found_total"] == 1 else None

    now = await until(looked_through)
    assert now['storage_segments_quarantined{reason="empty"}'] == 1
    roots = {host.settings.data_dir, host.settings.filesystem.path, host.recordings}
    assert all(now[f'storage_disk_free_bytes{{root="{root}"}}'] > 0 for root in roots)
    assert now["storage_ingest_seconds_count"] == 1
    assert now["storage_watcher_overflows_total"] == 0


async def test_a_loss_is_an_increase_though_it_be_the_first_or_told_by_the_ledger_alone(
    tmp_path: Path,
) -> None:
    series = 'storage_segments_lost_total{cause="source_vanished"}'
    async with running(tmp_path) as host:
        assert series in await samples(host), "from nothing to 1 is no increase for Prometheus"
        segment = await host.registered(camera=CAMERA)
        lost = await host.journal.copies.source_gone(  # as a process killed right after the commit
            UUID(segment["id"]), SourceState.MISSING, "source_vanished", datetime.now(UTC)
        )
        assert lost is not None
    async with running(tmp_path) as host:
        assert (await samples(host))[series] == 1


async def test_the_catalogs_lag_grows_while_it_is_away(tmp_path: Path) -> None:
    async with running(tmp_path, {"postgres": {"host": "127.0.0.1", "port": 1}}) as host:
        cataloguing = host.parts.cataloguing
        assert cataloguing is not None
        host.tasks.append(asyncio.create_task(cataloguing.run()))
        host.deliver()
        await host.delivered(await host.registered(camera=CAMERA))

        async def away() -> str | None:
            return cataloguing.trouble

        assert await until(away)
        now = await samples(host)
        assert now["storage_catalog_up"] == 0
        assert now["storage_catalog_lag_segments"] == 1


async def test_without_a_catalog_none_is_down(host: Host) -> None:
    assert not [name for name in await samples(host) if name.startswith("storage_catalog")]
