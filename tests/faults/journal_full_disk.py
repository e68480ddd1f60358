"""A journal's life on a disk that fills up and is cleared again, told step by step on standard output.

`python -m tests.faults.journal_full_disk FOLDER disk|limit`: `disk` fills the file system that holds FOLDER,
`limit` lowers the size that files of this process may have (what a quota looks like to SQLite).
"""

import asyncio
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from cctv_storaged.errors import JournalError, JournalFull
from cctv_storaged.journal.journal import Journal
from cctv_storaged.model import Segment
from tests.unit.journal.samples import deliver, new, open_journal, record

RESERVE_BYTES = 400_000
LIMIT_BYTES = 300_000
UNLIMITED = resource.RLIM_INFINITY
MANY = 20_000


class Life:
    """Numbers segments and remembers which of them it was told are safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reserve = folder / "journal.reserve"
        self.filler = folder / "filler"
        self.number = 0
        self.safe: list[Segment] = []

    async def one(self, journal: Journal) -> None:
        self.number += 1
        segment = await record(journal, new(self.number))
        self.safe.append(segment)
        await deliver(journal, segment)

    async def until_full(self, journal: Journal) -> tuple[int, int]:
        """Records until there is no room: how many with the reserve still there, how many after it went."""
        with_reserve = without = 0
        while with_reserve + without < MANY:
            try:
                await self.one(journal)
            except JournalFull:
                return with_reserve, without
            if self.reserve.exists():
                with_reserve += 1
            else:
                without += 1
        raise AssertionError("never full")

    def fill(self) -> None:
        with self.filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def clear(self) -> None:
        self.filler.unlink()

    async def all_safe(self, journal: Journal) -> bool:
        known = [await journal.segments.by_id(segment.id) for segment in self.safe]
        return None not in known


async def live(folder: Path, fill: Callable[[], None], clear: Callable[[], None]) -> dict[str, object]:
    """From an empty journal over a full disk and two restarts to a working one."""
    told: dict[str, object] = {}
    life = Life(folder)
    journal = await open_journal(folder, reserve_bytes=RESERVE_BYTES)
    for _ in range(20):
        await life.one(journal)
    told["reserve_laid"] = life.reserve.exists()
    fill()
    told["with_reserve"], told["after_reserve"] = await life.until_full(journal)
    told["full"], told["reserve_given_up"] = journal.full, not life.reserve.exists()
    told["reads_while_full"] = await life.all_safe(journal)
    told["refused_in_a_row"] = await refused(life, journal)
    broken = asyncio.create_task(journal.broken())
    await asyncio.sleep(0)
    told["broken"] = broken.done()
    await journal.close()
    await broken

    journal = await open_journal(folder, reserve_bytes=RESERVE_BYTES)
    told["opens_while_full"] = await life.all_safe(journal)
    told["damage"] = journal.opening.damage
    await life.until_full(journal)
    clear()
    for _ in range(20):
        await life.one(journal)
    told["full_after_clearing"] = journal.full
    told["safe_after_clearing"] = await life.all_safe(journal)
    await journal.close()
    told["reserve_laid_again"] = life.reserve.exists()

    journal = await open_journal(folder)
    told["safe_at_the_end"], told["segments"] = await life.all_safe(journal), len(life.safe)
    told["unclean_at_the_end"] = journal.opening.unclean
    await journal.close()
    return told


async def refused(life: Life, journal: Journal) -> int:
    """Whoever tries again at once is refused again, and the writer does not get stuck."""
    count = 0
    for _ in range(5):
        try:
            await asyncio.wait_for(life.one(journal), 10)
        except JournalFull:
            count += 1
    return count


def limit(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, UNLIMITED))


def main() -> None:
    folder = Path(sys.argv[1])
    disk = Life(folder)
    fill, clear = disk.fill, disk.clear
    if sys.argv[2] == "limit":
        fill, clear = lambda: limit(LIMIT_BYTES), lambda: limit(UNLIMITED)
    code = 1
    try:
        told = asyncio.run(live(folder, fill, clear))
        os.write(1, json.dumps(told).encode())
        code = 0
    except (AssertionError, JournalError, OSError):
        traceback.print_exc()
    finally:
        os._exit(code)  # after a failure the journal's thread is still there, and would be waited for


if __name__ == "__main__":
    main()
