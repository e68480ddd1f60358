"""The ONVIF device hands over what was recorded: real footage, by the simulator's driver and by ffmpeg."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest

from cctv_storaged.model import SourceState
from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.digest import DigestAuth
from tests.fakes.xprotect.faults import Faults
from tests.fakes.xprotect.media import MediaDatabase
from tests.fakes.xprotect.onvifpull import pull
from tests.fakes.xprotect.pictures import Coded, pictures_of_ts
from tests.fakes.xprotect.rtspplay import rtsp_player
from tests.fakes.xprotect.site import Camera, Site
from tests.fakes.xprotect.tokens import Tokens
from tests.footage import Recipe
from tests.integration.api.harness import running
from tests.services.onvif import GATE, PASSWORD, START, USER, Device, after, device, recorded

MINUTE = timedelta(minutes=1)
PLAIN: Recipe = {"seconds": 2}
SECOND: Recipe = {"seconds": 2, "ts_offset_s": 2}
B_PICTURES: Recipe = {"seconds": 2, "bframes": 2}
HEVC: Recipe = {"seconds": 2, "codec": "hevc", "bframes": 2}


def site_of(at: Device, *, kind: str = "wsse", password: str = PASSWORD, channel: UUID = GATE) -> Site:
    assumptions = Assumptions(onvif_authentication="digest" if kind == "digest" else "wsse")
    faults = Faults()
    camera = Camera(
        id=GATE,
        name="Gate",
        address=at.url,
        device_user=USER,
        device_password=password,
        device_channel=str(channel),
    )
    return Site(
        cameras=[camera],
        faults=faults,
        assumptions=assumptions,
        media=MediaDatabase(faults=faults, assumptions=assumptions),
        tokens=Tokens(faults=faults, assumptions=assumptions),
    )


def held(site: Site) -> list[Coded]:
    """What the simulator's database has, in decoding order."""
    return [picture for group in site.media.groups(GATE) for picture in group.pictures]


async def expected(*files: tuple[Path, datetime]) -> list[Coded]:
    """By ffmpeg and ffprobe: every picture of the files with its time."""
    read = [await asyncio.to_thread(pictures_of_ts, path, start) for path, start in files]
    return [picture for _, pictures in read for picture in pictures]


def times(pictures: list[Coded]) -> list[tuple[int, bool]]:
    return [(picture.time_ms, picture.key) for picture in pictures]


@pytest.mark.parametrize("kind", ["wsse", "digest"])
async def test_a_vms_retrieves_a_span_across_a_gap_with_every_picture_at_its_time(
    tmp_path: Path, kind: str
) -> None:
    async with running(tmp_path) as host:
        first = await recorded(host, "gate/a.ts", after(0), recipe=PLAIN)
        second = await recorded(host, "gate/b.ts", after(2), recipe=SECOND)
        third = await recorded(host, "gate/c.ts", after(120), recipe=B_PICTURES)
        async with device(host) as at:
            site = site_of(at, kind=kind)
            await pull(site, site.cameras[0], START, START + 3 * MINUTE)
        wanted = await expected((first, after(0)), (second, after(2)), (third, after(120)))
    assert times(held(site)) == times(wanted)
    assert len(wanted) == 150
