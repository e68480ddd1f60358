"""A process that journals segments and says on standard output which of them it was told are safe.

`python -m tests.faults.journal_child FOLDER FIRST COUNT [--hold] [--limit BYTES]`. Lines: `open`, `ack ID`,
`full`, `done`. It ends with 0, or with 3 when the journal says that the process must end. With --hold it
stays open at the end until its standard input is closed.
"""

import argparse
import asyncio
import os
import resource
import sys
from pathlib import Path

from cctv_storaged.errors import JournalBroken, JournalFull
from cctv_storaged.journal.journal import Journal
from tests.unit.journal.samples import deliver, new, open_journal, record

AT_ONCE = 4
BROKEN = 3


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def journal_one(journal: Journal, number: int) -> None:
    try:
        segment = await record(journal, new(number))
        say("ack", segment.id)
        await deliver(journal, segment)
    except JournalFull:
        say("full")


async def work(arguments: argparse.Namespace) -> int:
    try:
        async with await open_journal(arguments.folder) as journal:
            say("open")
            for first in range(arguments.first, arguments.first + arguments.count, AT_ONCE):
                batch = range(first, min(first + AT_ONCE, arguments.first + arguments.count))
                await asyncio.gather(*(journal_one(journal, number) for number in batch))
            say("done")
            if arguments.hold:
                await asyncio.to_thread(sys.stdin.read)
    except JournalBroken as exc:
        print(exc, file=sys.stderr)
        return BROKEN
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    if arguments.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.limit, resource.RLIM_INFINITY))
    return asyncio.run(work(arguments))


if __name__ == "__main__":
    sys.exit(main())
