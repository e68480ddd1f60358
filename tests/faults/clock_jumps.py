"""A host whose wall clock jumps by 400 days, told as one JSON line a step.

`python -m tests.faults.clock_jumps FOLDER CLOCK` under libfaketime, which reads from the file CLOCK how far
off the wall clock is. CLOCK_BOOTTIME, /proc/uptime, the kernel's synchronisation and the stamps of files stay
true, as they do on a host whose wall clock alone is wrong (DONT_FAKE_MONOTONIC=1).
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.integration.api.harness import Host, running, until
from tests.oracle import digests_below

SETTINGS: dict[str, Any] = {
    "source": {"grace": "1h"},
    "retention": {"default": {"at_most": "30d"}},
    "exports": {"expire": "7d"},
    "thumbnails": {"on_ingest": False},
}
SLOW = ("the retention report",)
"""It deletes nothing, and reads every day of 800."""
CAMERA = UUID(int=1, version=4)
TABLES = ("segment", "copy", "export")


class Story:
    """The clock, and what is there that must not go."""

    def __init__(self, folder: Path, clock: Path) -> None:
        self.folder = folder
        self.clock = clock
        self.kept: dict[str, str] = {}
        self.made = 0
        self.began = datetime.now(UTC)

    async def set(self, days: int) -> None:
        """Returns once the clock shows it: libfaketime looks at its file once a second."""
        after = self.clock.with_suffix(".new")
        after.write_text(f"{days:+d}d\n")
        after.replace(self.clock)  # at once: libfaketime would take a file that is empty yet for no jump

        async def shows() -> bool:
            off = datetime.now(UTC) - self.began - timedelta(days=days)
            return abs(off) < timedelta(days=1)

        await until(shows)

    def files(self) -> dict[str, str]:
        """Footage, copies, exports: all but the ledger's heads and other papers."""
        found = digests_below(self.folder)
        return {path: digest for path, digest in found.items() if path.endswith((".ts", ".mp4"))}

    async def told(self, host: Host, step: str) -> None:
        """Every job has its turn; then what is there. Footage made meanwhile is delivered as ever."""
        parts = host.parts
        delivered = await self.delivered(host)
        jobs = [parts.pruner.run_once, parts.remover.run_once, parts.exporting.run_once]
        scheduled = [each.run for each in parts.upkeep.jobs() if each.name not in SLOW]
        for job in (*jobs, *scheduled):
            await job()
        say(
            step=step,
            now=f"{datetime.now(UTC):%Y-%m-%d}",
            distrust=parts.foundation.clock_guard.distrust(),
            gone=sorted(self.kept.keys() - self.files().keys()),
            delivered=delivered["copies"][0]["state"],
            rows={table: await count(host, f"SELECT count(*) FROM {table}") for table in TABLES},
            tombstones=await count(host, "SELECT count(*) FROM segment WHERE deletion_due_us IS NOT NULL"),
            removals=await count(host, "SELECT count(*) FROM export WHERE removal IS NOT NULL"),
            sources=await count(host, "SELECT count(*) FROM segment WHERE source_state <> 'present'"),
        )
        self.kept = self.files()

    async def delivered(self, host: Host) -> dict[str, Any]:
        self.made += 1
        return await host.delivered(await host.registered(f"gate/{self.made}.ts", camera=CAMERA))


async def main(folder: Path, clock: Path) -> None:
    story = Story(folder, clock)
    async with running(folder, SETTINGS) as host:
        host.deliver()
        await _with_an_export(story, host)
        await story.told(host, "before")
        await story.set(400)
        await story.told(host, "ahead while running")
        await _parked(story, host)
        await story.told(host, "back")
        await story.set(-400)
        await story.told(host, "behind while running")
        await story.set(0)
        await story.told(host, "back again")
    for days in (400, -400):
        await story.set(days)
        async with running(folder, SETTINGS) as host:
            host.deliver()
            await story.told(host, f"started {days:+d} days off")
            if days < 0:
                await story.set(400)
                reply = await host.post("/clock/confirm", {})
                await story.told(host, "confirmed")
                steps = (await host.get("/clock")).json["steps"]
                by = [round(each["by_seconds"] / 86400) for each in reversed(steps)]
                say(step="answers", status=reply.status, distrust=reply.json["distrust"], steps=by)


async def _with_an_export(story: Story, host: Host) -> None:
    segment = await story.delivered(host)
    body = {
        "camera_ids": [segment["camera_id"]],
        "start_time": segment["start_time"],
        "end_time": segment["end_time"],
        "format": "mp4",
        "reason": "what must not expire before its day",
    }
    export = (await host.post("/exports", body)).json
    worker = asyncio.create_task(host.parts.exporting.run())

    async def completed() -> bool:
        return bool((await host.get(f"/exports/{export['id']}")).json["status"] == "COMPLETED")

    await until(completed)
    worker.cancel()


async def _parked(story: Story, host: Host) -> None:
    """A try that the wrong clock put off by half a minute must not wait 400 days once it is right."""
    segment = await story.delivered(host)
    due_us = int(datetime.now(UTC).timestamp() * 1e6) + 30_000_000
    put_off = """UPDATE copy SET state = 'pending', due_us = ?
                  WHERE segment_no = (SELECT no FROM segment WHERE id = ?)"""
    await host.journal._store.write(lambda db: db.execute(put_off, (due_us, UUID(segment["id"]).bytes)))
    await story.set(0)
    for delivery in host.parts.deliveries:
        delivery.reopen()
    await host.delivered(segment)


async def count(host: Host, query: str) -> int:
    return await host.journal._store.read(lambda db: int(db.execute(query).fetchone()[0]))


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
