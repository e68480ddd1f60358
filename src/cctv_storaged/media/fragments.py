"""A span as one fragmented MP4 (ISO/IEC 14496-12, 8.8) that can be watched while it is made."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta

from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import MediaBroken, MediaUnusable
from cctv_storaged.media.ffmpeg import Limits, child
from cctv_storaged.media.join import copied, fits_mp4, tags
from cctv_storaged.media.pieces import Blocks, Piece
from cctv_storaged.media.sounds import heard, to_mp4
from cctv_storaged.media.splice import Splice, Splicer
from cctv_storaged.model import TimeSpan

_FLAGS = "+frag_keyframe+delay_moov+default_base_moof"
_MOST_HEAD_BYTES = 64 * 1024


async def fragments(
    pieces: Sequence[Piece],
    span: TimeSpan,
    limits: Limits,
    begun: Callable[[Splice], None],
    ended: Callable[[Splice, bool], None],
) -> AsyncGenerator[bytes]:
    """The file's bytes, the same for the same pieces and ffmpeg; `begun` hears of it before the first,
    and `ended` behind the last, with whether every piece was good.

    Raises MediaUnusable where no piece can be used, MediaBroken where it fails in the middle, or where the
    stream changes so that one track cannot hold it; BackendUnavailable, MediaToolMissing.
    """
    async with Splicer(pieces, span) as splicer:
        part: Splice | None = None
        async for splice, blocks in splicer.parts():
            if part is not None:
                raise MediaBroken(f"the stream changes at {rfc3339(splice.origin)}: a clip has to end there")
            part = splice
            begun(splice)
            length = min(span.end, max(piece.span.end for piece in pieces)) - splice.origin
            async with (
                aclosing(blocks),
                aclosing(_made(splice, blocks, limits)) as made,
                aclosing(_with_length(made, length)) as stamped,
            ):
                async for block in stamped:
                    yield block
            ended(splice, not splicer.failed)
        if part is None:
            failed = splicer.failed[0].reason if splicer.failed else "there is no picture or sound in it"
            raise MediaUnusable(f"nothing can be shown of {span}: {failed}")


async def _made(splice: Splice, blocks: Blocks, limits: Limits) -> AsyncGenerator[bytes]:
    sounds, blocks = await heard(splice, blocks)
    sounds = tuple(filter(fits_mp4, sounds))  # better seen in silence than not at all
    arguments = (
        *copied(splice, sounds),
        *to_mp4(sounds),
        *tags(splice, precise=False),
        *("-metadata", f"creation_time={rfc3339(splice.origin)}", "-fflags", "+bitexact"),
        *("-movflags", _FLAGS, "-flush_packets", "1", "-f", "mp4", "pipe:1"),
    )
    async with aclosing(blocks), child(arguments, limits) as running:
        feeding = asyncio.create_task(running.feed(blocks))
        try:
            async for block in running.output():
                yield block
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        await running.finish()


async def _with_length(blocks: AsyncIterator[bytes], length: timedelta) -> AsyncGenerator[bytes]:
    """The file says at its beginning how long it is (`mvhd`): players draw a bar of that length."""
    head: bytes | None = b""
    async for block in blocks:
        if head is None:
            yield block
            continue
        head += block
        if b"mvex" in head or len(head) >= _MOST_HEAD_BYTES:
            yield _stamped(head, length)
            head = None
    if head:
        yield _stamped(head, length)


def _stamped(head: bytes, length: timedelta) -> bytes:
    """ISO/IEC 14496-12, 8.2.2: version, flags, two times, timescale, duration."""
    at = head.find(b"mvhd")
    if at < 0 or head[at + 4] != 0 or at + 24 > len(head):
        return head
    scale = int.from_bytes(head[at + 16 : at + 20], "big")
    duration = max(0, min(length * scale // timedelta(seconds=1), 0xFFFFFFFE))
    return head[: at + 20] + duration.to_bytes(4, "big") + head[at + 24 :]
