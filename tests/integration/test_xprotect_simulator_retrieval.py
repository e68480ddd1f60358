"""The simulator's ONVIF driver at the real device: what it takes, and how it fails where it gets nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes.xprotect.onvifpull import pull
from tests.fakes.xprotect.site import Camera, Site, make_site
from tests.fakes.xprotect.tasks import RetrievalFailed
from tests.footage import Recipe
from tests.integration.api.harness import running
from tests.services.onvif import GATE, PASSWORD, USER, after, device, recorded
from tests.services.ports import kept_port

MINUTE = timedelta(minutes=1)
SMALL: Recipe = {"seconds": 2, "rate": 10, "size": "64x64", "gop": 5}


def site_at(address: str) -> tuple[Site, Camera]:
    camera = Camera(
        id=GATE,
        name="Gate",
        address=address,
        device_user=USER,
        device_password=PASSWORD,
        device_channel=str(GATE),
    )
    return make_site([camera]), camera


async def why_it_fails(site: Site, camera: Camera, start: datetime) -> str:
    with pytest.raises(RetrievalFailed) as failed:
        await pull(site, camera, start, start + MINUTE)
    return str(failed.value)


async def test_a_retrieval_stops_at_its_end_and_takes_nothing_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await recorded(host, "gate/a.ts", after(0), recipe=SMALL)
        await recorded(host, "gate/b.ts", after(60), recipe=SMALL)
        async with device(host) as at:
            site, camera = site_at(at.url)
            site.assumptions.onvif_opens_live = True
            await pull(site, camera, after(0.7), after(1.2))
            starts = [group.start_ms for group in site.media.groups(GATE)]
            await pull(site, camera, after(0), after(59))
            whole = [group.start_ms for group in site.media.groups(GATE)]
            await pull(site, camera, after(0), after(59))
            await pull(site, camera, after(10), after(50))  # a gap: nothing to fetch, and no failure
            await refuses(site, camera)
            assert [group.start_ms for group in site.media.groups(GATE)] == whole
    first = whole[0]
    assert [start - first for start in starts] == [500, 1000]  # from the key picture before, to that after
    assert [start - first for start in whole] == [0, 500, 1000, 1500]


async def refuses(site: Site, camera: Camera) -> None:
    """A device that does not know the user or the channel is told of by the call that failed."""
    stranger = replace(camera, device_password="another")
    assert "GetVideoSources answers 4" in await why_it_fails(site, stranger, after(0))
    unknown = replace(camera, device_channel="no channel")
    assert "no media profile of 'no channel'" in await why_it_fails(site, unknown, after(0))
    site.assumptions.onvif_authentication = "digest"
    assert "GetVideoSources" in await why_it_fails(site, stranger, after(0))


async def test_a_device_that_is_away_fails_the_retrieval() -> None:
    with kept_port() as port:
        address = f"http://127.0.0.1:{port}"
        site, camera = site_at(address)
        assert address in await why_it_fails(site, camera, after(0))
