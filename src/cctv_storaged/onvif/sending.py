"""One PLAY under way: pictures become packets at the client's pace, or at that of the recording.

The client takes what it wants: nothing more is read while it does not. After each picture others get their
turn, also where the budgets let everything pass: drain alone gives them none while there is room.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from cctv_storaged.clock import Clock
from cctv_storaged.onvif.rtp import Marks, Packetiser, extension, goodbye, interleaved
from cctv_storaged.onvif.rtsp import Refusal, Request
from cctv_storaged.onvif.streaming import Replay
from cctv_storaged.onvif.timeline import Placed
from cctv_storaged.pacing import ByteBudget

log = logging.getLogger(__name__)

STALLED_S = 60.0
"""A client that takes nothing for so long is given up."""
WRITE_AHEAD_BYTES = 256 * 1024
_FRAMES = re.compile(r"(all|predicted|intra)(?:/([0-9]{1,9}))?")


@dataclass(slots=True, kw_only=True)
class Track:
    """A session's one track: where its packets go, and the RTP stream they are of."""

    channels: tuple[int, int]  # of RTP and RTCP
    packetiser: Packetiser
    timestamp_base: int = field(default_factory=lambda: secrets.randbits(32))
    begun: bool = False  # something was sent
    last_us: int | None = None  # when the picture sent last was recorded

    def timestamp(self, time_us: int) -> int:
        """90 kHz, modulo 2**32."""
        return self.timestamp_base + time_us * 9 // 100 & 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a PLAY wants its pictures."""

    cseq: int
    rated: bool = False  # at the pace of the recording
    intra: bool = False  # key pictures alone
    interval_us: int = 0  # and at most one in so long


def manner_of(request: Request, cseq: int) -> Manner:
    """Raises Refusal for what is not offered: playing backwards, or at another speed without losing pace."""
    headers = request.headers
    try:
        scale = float(headers.get("scale", "1"))
    except ValueError as exc:
        raise Refusal(456) from exc
    frames = _FRAMES.fullmatch(headers.get("frames", "all").strip().lower())
    if scale <= 0 or frames is None or (frames[2] and frames[1] != "intra"):
        raise Refusal(456)
    return Manner(
        cseq=cseq,
        rated=headers.get("rate-control", "yes").strip().lower() != "no",
        intra=frames[1] == "intra",
        interval_us=int(frames[2] or 0) * 1000,
    )


class Sending:
    """Sends one replay over one connection."""

    def __init__(
        self,
        track: Track,
        manner: Manner,
        writer: asyncio.StreamWriter,
        budgets: Sequence[ByteBudget],
        clock: Clock,
    ) -> None:
        """`budgets`: at least one, of bytes sent."""
        self._track = track
        self._manner = manner
        self._writer = writer
        self._budgets = budgets
        self._clock = clock
        self._skipped_us = 0  # gaps that are not waited through
        self._started: tuple[float, int] | None = None  # by our clock, and by the recording's
        self._previous: Placed | None = None

    async def run(self, first: Placed, pictures: AsyncGenerator[Placed], replay: Replay) -> None:
        """To the end of what is asked for. Raises what reading raises, and OSError or TimeoutError for a
        client that has left or takes nothing.
        """
        async with aclosing(self._wanted(first, pictures)) as wanted, aclosing(_with_next(wanted)) as pairs:
            async for picture, following in pairs:
                ended = following is None and not replay.cut
                marks = Marks(
                    clean_point=picture.unit.key,
                    end=ended or (following is not None and following.after_gap),
                    discontinuity=self._is_discontinuous(picture),
                    terminal=following is None,
                )
                await self._send(picture, marks)
        if self._manner.rated:
            self._writer.write(interleaved(self._track.channels[1], goodbye(self._track.packetiser.ssrc)))
            await self._taken()

    async def _wanted(self, first: Placed, pictures: AsyncIterator[Placed]) -> AsyncGenerator[Placed]:
        """What is sent at all: of a kind that was described, and of those the ones that are asked for."""
        manner = self._manner
        shown_us: int | None = None
        async with aclosing(self._described(first, pictures)) as described:
            async for picture in described:
                if manner.intra:
                    early = shown_us is not None and picture.time_us - shown_us < manner.interval_us
                    if not picture.unit.key or early:
                        continue
                    shown_us = picture.time_us
                yield picture

    async def _described(self, first: Placed, pictures: AsyncIterator[Placed]) -> AsyncGenerator[Placed]:
        """What has a payload type; the rest is a gap, and told of."""
        left_out, missing = 0, False
        async for picture in _with_first(first, pictures):
            if picture.unit.codec not in self._track.packetiser.payload_types:
                if not left_out:
                    log.warning("a replay leaves out %s: its client was not told of it", picture.unit.codec)
                left_out, missing = left_out + 1, True
                continue
            yield replace(picture, after_gap=True) if missing else picture
            missing = False

    def _is_discontinuous(self, picture: Placed) -> bool:
        return picture.after_gap if self._previous is not None else self._track.begun

    async def _send(self, picture: Placed, marks: Marks) -> None:
        time_us = await self._due(picture) if self._manner.rated else picture.time_us
        track = self._track
        packets = track.packetiser.packets(
            picture.unit.codec,
            picture.unit.data,
            track.timestamp(time_us),
            extension(picture.time_us, marks, self._manner.cseq),
        )
        data = b"".join(interleaved(track.channels[0], packet) for packet in packets)
        await asyncio.sleep(max(budget.debit(len(data)) for budget in self._budgets))
        self._writer.write(data)
        await self._taken()
        self._previous = picture
        track.begun, track.last_us = True, picture.time_us

    async def _taken(self) -> None:
        """Waits until there is room for more."""
        async with asyncio.timeout(STALLED_S):
            await self._writer.drain()

    async def _due(self, picture: Placed) -> int:
        """Waits until the picture is due; its time on a clock that has no gaps."""
        if picture.after_gap and self._previous is not None:
            self._skipped_us += max(0, picture.decode_us - self._previous.decode_us)
        now_s = self._clock.monotonic()
        if self._started is None:
            self._started = (now_s, picture.decode_us)
        begun_s, begun_us = self._started
        ahead_s = (picture.decode_us - self._skipped_us - begun_us) / 1_000_000 - (now_s - begun_s)
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        return picture.time_us - self._skipped_us


async def _with_first(first: Placed, pictures: AsyncIterator[Placed]) -> AsyncGenerator[Placed]:
    yield first
    async for picture in pictures:
        yield picture


async def _with_next(pictures: AsyncIterator[Placed]) -> AsyncGenerator[tuple[Placed, Placed | None]]:
    """Each with the one that follows it."""
    picture: Placed | None = None
    async for following in pictures:
        if picture is not None:
            yield picture, following
        picture = following
    if picture is not None:
        yield picture, None
