"""Retrieval from a camera's own storage, as XProtect's ONVIF driver does it: Profile G search, then replay.

Whatever a device does that no driver could work with ends in `RetrievalFailed`, which names it.
"""

import asyncio
from contextlib import aclosing
from datetime import datetime
from itertools import groupby

import aiohttp

from tests.fakes.xprotect.digest import DigestAuth
from tests.fakes.xprotect.onvifdriver import Driver
from tests.fakes.xprotect.onvifsoap import DeviceRefused, OnvifDevice
from tests.fakes.xprotect.pictures import ms
from tests.fakes.xprotect.rtpunits import BadStream, Received
from tests.fakes.xprotect.rtspplay import rtsp_player
from tests.fakes.xprotect.site import Camera, Site
from tests.fakes.xprotect.tasks import RetrievalFailed

_PATH = "onvif/device_service"
PATIENCE_S = 60.0


async def pull(site: Site, camera: Camera, start: datetime, end: datetime) -> None:
    """Puts what the camera's device holds of the span into the media database, even if it is nothing."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    address = camera.address.rstrip("/") + "/" + _PATH
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            kind = site.assumptions.onvif_authentication
            device = OnvifDevice(http, address, camera.device_user, camera.device_password, kind)
            driver = Driver(device, camera.device_channel or camera.name)
            uri = await driver.replay_uri(start, end)
            if site.assumptions.onvif_opens_live:
                async with rtsp_player(await driver.live_uri(), _digest(camera), PATIENCE_S) as live:
                    await live.open_live()
        if uri is not None:
            await _replay(site, camera, uri, start, end)
    except asyncio.IncompleteReadError as exc:
        raise RetrievalFailed(f"{address}: the device closed in the middle of an answer") from exc
    except (aiohttp.ClientError, OSError, TimeoutError, DeviceRefused, BadStream) as exc:
        raise RetrievalFailed(f"{address}: {exc or type(exc).__name__}") from exc


async def _replay(site: Site, camera: Camera, uri: str, start: datetime, end: datetime) -> None:
    """To the first key picture at or after the end. What came before an interruption is kept."""
    pictures: list[Received] = []
    async with rtsp_player(uri, _digest(camera), PATIENCE_S) as player:
        try:
            async with aclosing(player.pictures(start)) as received:
                async for one in received:
                    if one.picture.key and one.picture.time_ms >= ms(end):
                        break
                    pictures.append(one)
        finally:
            for codec, run in groupby(pictures, key=lambda one: one.codec):
                site.media.add(camera.id, codec, [one.picture for one in run])


def _digest(camera: Camera) -> DigestAuth:
    return DigestAuth(camera.device_user, camera.device_password)
