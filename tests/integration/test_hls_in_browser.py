"""hls.js in Chromium plays playlists as they are: across gaps, changes and stores.

The page tells a small server what it sees. The same server hands its requests on to the API, as a reverse
proxy in front of both would: all of it is of one origin.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from tests.integration.api.harness import API, Host, running
from tests.integration.api.played import CAMERA, T0, delivered, path, player_token, recorded
from tests.services.chromium import browsing
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedServer

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "tests" / "browser" / "player.html"
HLS_JS = PROJECT / "build" / "browser" / "node_modules" / "hls.js" / "dist" / "hls.min.js"
PATIENCE_S = 150.0
RATE = 4
SECOND = timedelta(seconds=1)


@dataclass(slots=True)
class Site:
    """The page, the player, and the API behind them."""

    api: str
    session: aiohttp.ClientSession
    url: str = ""
    seen: dict[str, Any] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE)

    async def player(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(HLS_JS)

    async def report(self, request: web.Request) -> web.StreamResponse:
        self.seen = await request.json()
        self.news.set()
        return web.Response()

    async def proxy(self, request: web.Request) -> web.StreamResponse:
        wanted = {
            name: request.headers[name] for name in ("Authorization", "Range") if name in request.headers
        }
        async with self.session.get(self.api + request.raw_path, headers=wanted) as answer:
            headers = {"Content-Type": answer.headers["Content-Type"]}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)

    async def played(self, log: Path) -> dict[str, Any]:
        """What the player saw once it came to the end; fails with what it complained of."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.seen.get("ended"):
                self.news.clear()
                await self.news.wait()
                assert not self.seen["fatal"], (self.seen, log.read_text(errors="replace")[-2000:])
        return self.seen


@asynccontextmanager
async def site(host: Host) -> AsyncIterator[Site]:
    made = Site(host.url, host.session)
    app = web.Application()
    app.router.add_get("/player.html", made.page)
    app.router.add_get("/hls.min.js", made.player)
    app.router.add_post("/report", made.report)
    app.router.add_get("/api/{rest:.*}", made.proxy)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        server = web.TCPSite(runner, "127.0.0.1", 0)
        await server.start()
        port = runner.addresses[0][1]
        made.url = f"http://127.0.0.1:{port}"
        yield made
    finally:
        await runner.cleanup()


async def played(host: Host, token: str = "", **span: Any) -> dict[str, Any]:
    """What hls.js made of the camera's playlist, from its first picture to the end."""
    async with site(host) as made:
        query = {"playlist": f"{API}{path(**span)}", "rate": str(RATE), "token": token}
        async with browsing(f"{made.url}/player.html?{urlencode(query)}") as log:
            return await made.played(log)


def parts(seen: Mapping[str, Any]) -> list[int]:
    """The run of one stream that each segment played belongs to, in the order they were played."""
    return [fragment["cc"] for fragment in seen["fragments"]]


def starts_s(seen: Mapping[str, Any]) -> list[float]:
    """The time each segment played is of, after T0."""
    return [fragment["at"] / 1000 - T0.timestamp() for fragment in seen["fragments"]]


async def test_a_player_goes_across_gaps_resets_and_other_pictures(tmp_path: Path) -> None:
    async with running(tmp_path, {}) as host:
        await recorded(host, "gate", seconds=8, segment_s=2, without=[1], bframes=2, audio=True)
        reset = ("-reset_timestamps", "1")
        await recorded(host, "reset", T0 + 20 * SECOND, seconds=4, segment_s=2, options=reset, audio=True)
        await recorded(host, "large", T0 + 24 * SECOND, seconds=4, segment_s=2, size="640x360", audio=True)
        seen = await played(host, await player_token(host))
    assert starts_s(seen) == [0, 4, 6, 20, 22, 24, 26]
    assert parts(seen) == [0, 1, 1, 2, 3, 4, 4]
    assert (seen["fatal"], seen["width"]) == ([], 640)
    assert abs(seen["duration"] - 14) < 0.3
    assert seen["time"] > seen["duration"] - 0.3
    assert seen["frames"] > 14 * 25 / 2  # the rest a busy machine may pass over


async def test_a_player_plays_what_only_the_bucket_has(tmp_path: Path, seaweed: SeaweedServer) -> None:
    """Through the API, and straight from the store of another origin; the last segment is not there yet."""
    for segments in ("proxied", "presigned"):
        folder = tmp_path / segments
        folder.mkdir()
        bucket = seaweed.create_bucket()
        async with running(folder, {**store(seaweed, bucket), "playback": {"segments": segments}}) as host:
            await kept_in_the_bucket(host)
            await recorded(host, "later", T0 + 4 * SECOND, seconds=2, segment_s=10)
            seen = await played(host)
            urls = [fragment["url"] for fragment in seen["fragments"]]
            sent = f"{seaweed.url}/{bucket.name}/{CAMERA}/"
            assert [url.startswith(sent) for url in urls] == [segments == "presigned"] * 2 + [False]
            assert (starts_s(seen), seen["fatal"]) == ([0, 2, 4], [])
            assert seen["frames"] > 6 * 25 / 2


def store(server: SeaweedServer, bucket: Bucket) -> dict[str, Any]:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket_recordings": bucket.name}
    return {"backend": "MINIO", "minio": {"endpoint": server.endpoint, **keys}, "source": {"grace": "0s"}}


async def kept_in_the_bucket(host: Host) -> None:
    """Two segments that are delivered and whose sources are gone."""
    segments = await recorded(host, "gate", seconds=4, segment_s=2)
    await delivered(host, segments)
    assert await host.parts.pruner.run_once() == len(segments)
