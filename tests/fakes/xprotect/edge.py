"""What a camera recorded itself ("edge storage"), as files: where `instant` retrieves from."""

import asyncio
from datetime import datetime
from functools import lru_cache

from tests.fakes.xprotect.pictures import Codec, Coded, Group, grouped, ms, pictures_of_ts
from tests.fakes.xprotect.site import Camera, EdgeFile, Site
from tests.fakes.xprotect.tasks import RetrievalFailed


async def retrieve(site: Site, camera: Camera, start: datetime, end: datetime) -> None:
    """Takes the groups of pictures that overlap the span into the media database."""
    if site.edge_look is not None:
        await asyncio.to_thread(site.edge_look)
    files = list(site.edge.get(camera.id, ()))
    found = await asyncio.to_thread(_overlapping, files, ms(start), ms(end))
    if not found:
        raise RetrievalFailed(f"{camera.name} holds nothing of {start} to {end}")
    for group in found:
        site.media.add(camera.id, group.codec, group.pictures)


def _overlapping(files: list[EdgeFile], start_ms: int, end_ms: int) -> list[Group]:
    found = []
    for file in files:
        if ms(file.start) < end_ms:
            found += [
                group
                for group in grouped(*_pictures(file))
                if group.start_ms < end_ms and group.last_ms >= start_ms
            ]
    return found


@lru_cache(maxsize=32)
def _pictures(file: EdgeFile) -> tuple[Codec, tuple[Coded, ...]]:
    return pictures_of_ts(file.path, file.start)
