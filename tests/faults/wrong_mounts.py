"""A host whose disks are covered, taken away and swapped by real mounts, told as one JSON line a step.

`unshare --mount python -m tests.faults.wrong_mounts FOLDER`. Disks are folders of FOLDER/disks, bind mounted:
all of them have one device number, so that nothing but the marks tells them apart.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration.api.harness import Host, path_of, running, until
from tests.oracle import digests_below

OLD = ("gate/2026-03-05/12-00-05.ts", "gate/2026-03-05/12-00-15.ts")
"""Below a; those below b are of today, which `source.keep` protects: they may go at the end only. All
have names of their own, at noon as well.
"""
PLACES = ("a", "b", "store")


class Story:
    """The disks, and the host that uses them."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder = folder
        self.host = host
        self.before = self.disks()

    def disks(self) -> dict[str, dict[str, str]]:
        return {name: digests_below(self.folder / "disks" / name) for name in PLACES}

    async def told(self, step: str) -> None:
        """Everything that acts has its turn; then what became of it."""
        parts, begun = self.host.parts, time.time()
        await parts.foundation.places.check()
        sounding = sorted(Path(alarm.subject).name for alarm in parts.foundation.alarms.standing)
        for _ in range(2):  # the first may have begun before
            scans = [watch.scans for watch in parts.watches]
            for watch in parts.watches:
                watch.rescan()
            await until(partial(_scanned, self.host, scans))
        pruned = await parts.pruner.run_once()
        await parts.remover.run_once()
        say(
            step=step,
            span=(begun, time.time()),
            sounding=sounding,
            trouble=parts.foundation.places.trouble() is not None,
            pruned=pruned,
            untouched=self.disks() == self.before,
            sources=await states(self.host, "SELECT source_state, count(*) FROM segment GROUP BY 1"),
            copies=await states(self.host, "SELECT state, count(*) FROM copy GROUP BY 1"),
            lost=await states(self.host, "SELECT kind, count(*) FROM ledger WHERE kind = 'lost' GROUP BY 1"),
        )


async def main(folder: Path) -> None:
    for name in PLACES:
        (folder / "disks" / name).mkdir(parents=True)
        (folder / name).mkdir()
        mount("--bind", str(folder / "disks" / name), str(folder / name))
    more = {
        "recorders": [{"path": str(folder / name)} for name in ("a", "b")],
        "filesystem": {"path": str(folder / "store"), "link": False},
        "source": {"grace": "0s", "keep": "7d"},
        "thumbnails": {"on_ingest": False},
    }
    async with running(folder, more) as host:
        host.watch()
        host.deliver()
        today = datetime.now(UTC) - timedelta(minutes=2)
        names = {"a": OLD, "b": tuple(f"{today:gate/%Y-%m-%d/%H-%M}-{second}.ts" for second in ("00", "20"))}
        for root, seconds in (("a", 2.0), ("b", 4.0)):
            for name in names[root]:
                host.file(name, below=folder / root, seconds=seconds)
        segments = await until(lambda: _delivered(host, 4))
        story = Story(folder, host)
        a, b, store = (str(folder / name) for name in PLACES)
        for place in (a, store):
            mount("-t", "tmpfs", "none", place)
            await story.told(f"an empty disk over {Path(place).name}")
            umount(place)
            await story_back(story)
        umount(a)
        await story.told("nothing at a")
        mount("--bind", str(folder / "disks" / "a"), a)
        await story_back(story)
        umount(store)
        assert (await host.delete(path_of(segments[0]))).status == 204
        await story.told("a deletion without the store")
        mount("--bind", str(folder / "disks" / "store"), store)
        await story_back(story)
        await until(lambda: _deleted(host))
        story.before = story.disks()
        for place, other in ((a, "b"), (b, "a")):
            umount(place)
            mount("--bind", str(folder / "disks" / other), place)
        await story.told("a and b swapped")
        for place, own in ((a, "a"), (b, "b")):
            umount(place)
            mount("--bind", str(folder / "disks" / own), place)
        await story_back(story)
        pruner = host.parts.pruner
        pruner.rules = replace(pruner.rules, keep=timedelta(0))
        await story.told("afterwards")
        say(step="disks", **{name: len(files) for name, files in story.disks().items()})


async def story_back(story: Story) -> None:
    """The right disk is there again: nothing may sound any more. Nothing is pruned before the end."""
    await story.host.parts.foundation.places.check()
    say(step="back", sounding=[alarm.subject for alarm in story.host.parts.foundation.alarms.standing])


async def states(host: Host, query: str) -> dict[str, int]:
    return await host.journal._store.read(lambda db: dict(db.execute(query).fetchall()))


async def _scanned(host: Host, before: list[int]) -> bool:
    return all(watch.scans > scans for watch, scans in zip(host.parts.watches, before, strict=True))


async def _delivered(host: Host, count: int) -> list[dict[str, Any]] | None:
    segments: list[dict[str, Any]] = []
    for camera in (await host.get("/cameras")).json["cameras"]:
        page = await host.get(
            f"/segments/{camera['id']}", start="2026-03-01T00:00:00Z", end="2036-04-01T00:00:00Z"
        )
        segments += page.json["segments"]
    done = [each for each in segments if all(copy["state"] == "verified" for copy in each["copies"])]
    return done if len(done) == count else None


async def _deleted(host: Host) -> bool:
    await host.journal._store.write(
        lambda db: db.execute("UPDATE segment SET deletion_due_us = 0 WHERE deletion_due_us IS NOT NULL")
    )
    await host.parts.remover.run_once()
    return not await states(host, "SELECT 'left', 1 FROM segment WHERE deletion_due_us IS NOT NULL")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def umount(place: str) -> None:
    subprocess.run(["umount", "--lazy", place], check=True)


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
