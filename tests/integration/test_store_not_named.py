"""What lies at a former store whose settings are gone spoils nothing that lies elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cctv_storaged.clock import SystemClock, rfc3339
from cctv_storaged.model import SourceState
from tests.integration.api.exported import GATE, NAMED, asked, ended, moment, recorded, work
from tests.integration.api.harness import Host, running


@asynccontextmanager
async def one_elsewhere(folder: Path) -> AsyncIterator[Host]:
    """A host with three segments delivered, the second at a store that its settings do not name."""
    async with running(folder, NAMED) as host:
        segments = await recorded(host)
        host.deliver()
        for segment in segments:
            await host.delivered(segment)
        second = await host.stored(segments[1]["id"])
        (Path(second.source.root) / second.source.path).unlink()
        now = SystemClock().now()
        await host.journal.copies.source_gone(second.id, SourceState.MISSING, "source_vanished", now)
        change = "UPDATE copy SET backend = 'MINIO' WHERE segment_no = (SELECT no FROM segment WHERE id = ?)"
        await host.journal._store.write(lambda db: db.execute(change, (second.id.bytes,)))
        yield host


async def test_an_export_is_made_of_the_rest_and_tells_what_is_missing(tmp_path: Path) -> None:
    async with one_elsewhere(tmp_path) as host:
        work(host)
        export = await ended(host, await asked(host))
        assert [(gap["start"], gap["cause"]) for gap in export["gaps"]] == [
            ("2026-01-01T10:00:02Z", "unreadable")
        ]
        assert "minio:" in export["gaps"][0]["detail"], "what would help"


async def test_a_clip_is_made_of_the_rest(tmp_path: Path) -> None:
    async with one_elsewhere(tmp_path) as host:
        span = f"start={rfc3339(moment(0))}&end={rfc3339(moment(6))}"
        assert (await host.get(f"/segments/{GATE}/clip.mp4?{span}")).status == 200
