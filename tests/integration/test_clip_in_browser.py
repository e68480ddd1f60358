"""A browser plays `clip.mp4` as it is and seeks in it: what it shows at a position was recorded then."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web

from tests.integration.api.harness import API, running
from tests.integration.api.test_clips import clip_path, record, segments_of
from tests.services.chromium import browsing

PAGE = Path(__file__).parents[1] / "browser" / "clip.html"
PATIENCE_S = 150.0
PASSED_ON = ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "ETag")


@dataclass(slots=True)
class Site:
    """The page, and the API behind it: of one origin, as a reverse proxy makes it."""

    api: str
    session: aiohttp.ClientSession
    seen: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    async def page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE)

    async def report(self, request: web.Request) -> web.StreamResponse:
        self.seen.set_result(json.loads(await request.read()))
        return web.Response()

    async def proxy(self, request: web.Request) -> web.StreamResponse:
        wanted = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        async with self.session.get(self.api + request.raw_path, headers=wanted) as answer:
            headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for block in answer.content.iter_any():
                await response.write(block)
            return response


@asynccontextmanager
async def site(made: Site) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/clip.html", made.page)
    app.router.add_post("/report", made.report)
    app.router.add_get("/api/{rest:.*}", made.proxy)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("gap", [False, True], ids=["without a gap", "across a gap"])
async def test_a_browser_shows_at_a_position_what_was_recorded_then(tmp_path: Path, gap: bool) -> None:
    async with running(tmp_path) as host:
        first, middle, last = segments_of(tmp_path, bframes=2)
        if gap:
            await record(host, first, last, starts=(0, 8))
        else:
            await record(host, first, middle, last)
        made = Site(host.url, host.session)
        async with site(made) as url:
            query = urlencode({"clip": API + clip_path(1.5, 12), "at": "0.05,2.55,9.05,7.25"})
            async with browsing(f"{url}/clip.html?{query}") as log, asyncio.timeout(PATIENCE_S):
                seen = await made.seen
        assert seen["error"] is None, (seen, log.read_text(errors="replace")[-2000:])
        assert seen["duration"] == pytest.approx(11, abs=0.1)
        assert seen["numbers"] == {"0.05": 10, "2.55": 35, "9.05": 100, "7.25": 82}
        assert seen["played"]
