"""For how long the disk lasts, told over the API and as a metric."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.api.harness import Host, StandingClock, running

CLOCK = StandingClock()
"""A rate is measured over ten minutes each: it is another one once the next are over."""
MORE = {"retention": {"default": {"at_least": "1d", "desired": "3d"}}}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with running(tmp_path, MORE, CLOCK) as host:
        yield host


async def test_the_forecast_tells_of_every_disk_and_camera(host: Host) -> None:
    segment = await host.registered("gate/a.ts", start=CLOCK.now() - timedelta(minutes=40))
    told = (await host.get("/retention/forecast")).json
    [volume] = told["volumes"]  # recordings, store and data_dir share a disk
    assert {folder["use"] for folder in volume["folders"]} == {"root", "store", "data"}
    assert volume["free_bytes"] < volume["total_bytes"]
    assert volume["level"] in {"well", "low", "clean", "emergency"}
    [camera] = told["cameras"]
    assert camera["camera_id"] == segment["camera_id"]
    assert camera["bytes_per_second"] > 0 and camera["at_least_days"] == 1
    assert volume["days_left"] == pytest.approx(
        volume["free_bytes"] / camera["bytes_per_second"] / 86400, rel=0.01
    ), "a linked store holds the bytes once, and no rule ends them"
    assert camera["kept_days"] > 3 and camera["meets_at_least"] and camera["meets_desired"]

    twice = (await host.get("/retention/forecast", rate_factor="2")).json
    assert twice["cameras"][0]["bytes_per_second"] == pytest.approx(2 * camera["bytes_per_second"])
    assert twice["volumes"][0]["days_left"] == pytest.approx(volume["days_left"] / 2, rel=0.01)

    await host.parts.upkeep.capacity.forecasting.refresh()
    metrics = (await host.get("/metrics")).body.decode()
    assert f'storage_disk_total_bytes{{root="{host.recordings}"}}' in metrics
    assert f'storage_disk_days_left{{root="{host.recordings}"}}' in metrics


async def test_a_factor_that_means_nothing_is_refused(host: Host) -> None:
    for factor in ("0", "-1", "many"):
        reply = await host.get("/retention/forecast", rate_factor=factor)
        assert reply.status == 422 and reply.fields == {"rate_factor"}
