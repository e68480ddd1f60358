"""`python -m scripts.benchmarks.joining OUTCOME FOLDER FILE…`: the daemon's own joining, and nothing else.

The files are of ten seconds each, one after the other. OUTCOME gets the seconds that it took, without the
interpreter's start, which a daemon has behind it.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cctv_storaged.media.join import Container, JoinPlan, join
from cctv_storaged.media.pieces import Piece
from cctv_storaged.model import TimeSpan
from cctv_storaged.reading import BLOCK_BYTES
from scripts.benchmarks.footage import FIRST
from scripts.benchmarks.hour import SEGMENT


def main(arguments: Sequence[str]) -> None:
    """Joins, and writes down how long it took."""
    outcome, folder, *files = map(Path, arguments)
    pieces = [_piece(number, file) for number, file in enumerate(files)]
    plan = JoinPlan(container=Container.MP4, folder=folder, stem="joined")
    begun = time.perf_counter()
    made = asyncio.run(join(pieces, TimeSpan(FIRST, FIRST + SEGMENT * len(files)), plan))
    took_s = time.perf_counter() - begun
    if len(made.parts) != 1 or made.failed:
        raise RuntimeError(f"{len(made.parts)} files came out, {len(made.failed)} pieces were not used")
    outcome.write_text(f"{took_s}\n")


def _piece(number: int, file: Path) -> Piece:
    size_bytes = file.stat().st_size

    @asynccontextmanager
    async def opened(start: int, length: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """As the daemon reads a source: in a thread, block by block."""
        with file.open("rb", buffering=0) as source:
            source.seek(start)
            left = size_bytes - start if length is None else length

            async def blocks() -> AsyncIterator[bytes]:
                for done in range(0, left, BLOCK_BYTES):
                    yield await asyncio.to_thread(source.read, min(BLOCK_BYTES, left - done))

            yield blocks()

    span = TimeSpan(FIRST + SEGMENT * number, FIRST + SEGMENT * (number + 1))
    return Piece(name=file.name, span=span, size_bytes=size_bytes, open=opened)


if __name__ == "__main__":
    main(sys.argv[1:])
