"""A cut to the picture: only the groups of pictures that the edges of the span fall into are encoded anew.

The stream comes on the clock of splice.py and leaves on it. Groups in between pass untouched. An edge's
pictures are decoded, those outside the span are dropped, and the rest is encoded by a child that gets and
gives transport packets; the sounds beside them pass as they are.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from cctv_storaged.errors import MediaBroken, MediaUnusable
from cctv_storaged.media.ffmpeg import GIB, TRANSPORT_STREAM, Limits, run
from cctv_storaged.media.pieces import Blocks
from cctv_storaged.media.splice import BASE_TICKS, Splice, as_ticks
from cctv_storaged.model import TimeSpan
from cctv_storaged.mpegts.packets import PACKET_BYTES, PLAIN, Window
from cctv_storaged.mpegts.psi import Stream
from cctv_storaged.mpegts.retime import TICKS_PER_S, Cut, Retimed
from cctv_storaged.mpegts.seek import StreamMap, is_key
from cctv_storaged.mpegts.track import ticks_between, units_at

MOST_GROUP_BYTES = 64 * 2**20
"""Several copies of a group are in memory while it is encoded; the daemon and its children share 1 GB."""
_LOOK_BYTES = 64 * 1024
"""A picture is judged when so much of what follows it is here."""
_LIMITS = Limits(wall_s=300.0, cpu_s=600, memory_bytes=4 * GIB, output_bytes=MOST_GROUP_BYTES)
_ENCODERS = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-bf", "0"),
    "hevc": (
        "-c:v",
        "libx265",
        "-preset",
        "veryfast",
        "-crf",
        "18",
        "-x265-params",
        "bframes=0:log-level=error",
    ),
}
_ROUNDING_S = 0.0005


@dataclass(slots=True)
class _Group:
    """Packets from a key frame up to the next one."""

    ticks: int  # when the key frame is shown; of what comes before the first, the beginning
    packets: bytearray = field(default_factory=bytearray)


class Edged:
    """A part with precise edges; its facts are whole once its blocks are read to the end."""

    def __init__(self, splice: Splice, span: TimeSpan) -> None:
        video = splice.program.video
        if video is None or video.codec not in _ENCODERS:
            codec = "sound alone" if video is None else video.codec
            raise MediaUnusable(f"precise: {codec} cannot be cut to the picture, only h264 and hevc can")
        self._splice = splice
        self._video: Stream = video
        self.first_ticks = max(BASE_TICKS, BASE_TICKS + as_ticks(span.start - splice.origin))
        """Where the result's time 0 lies."""
        self._until = BASE_TICKS + as_ticks(span.end - splice.origin)
        self.units_less = 0
        """Pictures that were dropped at the edges, as they lie outside the span."""
        self.encoded = False
        """Whether any picture was."""

    @property
    def end_ticks(self) -> int:
        return min(self._splice.end_ticks, self._until)

    async def blocks(self, blocks: Blocks) -> Blocks:
        """The part's packets, edges encoded. Raises MediaBroken, MediaToolMissing."""
        held: _Group | None = None  # the last group is known only when there is no other
        async for group in _groups(blocks, self._video):
            if held is not None:
                async for block in self._passed(held, is_last=False):
                    yield block
            held = group
        if held is not None:
            async for block in self._passed(held, is_last=True):
                yield block

    async def _passed(self, group: _Group, *, is_last: bool) -> Blocks:
        begins_late = ticks_between(group.ticks, self.first_ticks) > 0
        ends_early = is_last and ticks_between(self._until, self._splice.end_ticks) > 0
        if not (begins_late or ends_early):
            yield group.packets
            return
        packets = bytes(group.packets)
        yield await asyncio.to_thread(self._tables, packets)
        encoded = await self._encoded(packets)
        self.encoded = True
        yield await asyncio.to_thread(self._pictures, packets, encoded)
        yield await asyncio.to_thread(self._sounds, packets)

    # In threads: a group may have a hundred thousand packets

    def _tables(self, packets: bytes) -> bytes:
        return b"".join(_with_pid(packets, 0, *self._tables_pids(packets)))

    def _pictures(self, packets: bytes, encoded: bytes) -> bytes:
        shown = [unit.presented for _, unit in units_at(_window(packets), self._video.pid)]
        wanted = sum(
            ticks_between(self.first_ticks, ticks) >= 0 and ticks_between(ticks, self._until) > 0
            for ticks in shown
        )
        self.units_less += len(shown) - wanted
        return b"".join(_with_pid(encoded, self._video.pid))

    def _sounds(self, packets: bytes) -> bytes:
        sounds = Retimed(self._map(), Cut(shift=0, since=self.first_ticks, mends=False))
        return b"".join(_without_pid(bytes(sounds.feed(packets)), self._video.pid))

    async def _encoded(self, packets: bytes) -> bytes:
        async def whole() -> AsyncIterator[bytes]:
            yield packets

        start_s = self.first_ticks / TICKS_PER_S - _ROUNDING_S
        end_s = self._until / TICKS_PER_S - _ROUNDING_S
        arguments = (
            *("-copyts", *TRANSPORT_STREAM, "-i", "pipe:0", "-map", "0:v:0", "-an", "-sn", "-dn"),
            *(
                "-vf",
                f"trim=start={start_s:.4f}:end={end_s:.4f}",
                "-fps_mode",
                "passthrough",
            ),
            *_ENCODERS[self._video.codec],
            *("-muxdelay", "0", "-muxpreload", "0", "-streamid", f"0:{self._video.pid}"),
            *("-f", "mpegts", "pipe:1"),
        )
        return await run(arguments, whole(), _LIMITS)

    def _counted(self, packets: bytes) -> int:
        return sum(1 for _ in units_at(_window(packets), self._video.pid))

    def _map(self) -> StreamMap:
        return StreamMap(
            size_bytes=0, framing=PLAIN, grid=0, program=self._splice.program, tables=b"", start=None
        )

    def _tables_pids(self, packets: bytes) -> tuple[int, ...]:
        """Whatever is neither picture nor sound: the program map lies there."""
        known = {each.pid for each in self._map().streams}
        found = {_pid(packets, at) for at in range(0, min(len(packets), 512 * PACKET_BYTES), PACKET_BYTES)}
        return tuple(found - known - {0})


async def _groups(blocks: Blocks, video: Stream) -> AsyncIterator[_Group]:
    """The stream cut at its key frames; what comes before the first goes with it."""
    group = _Group(BASE_TICKS)
    waiting = bytearray()
    begun = False
    async for block in blocks:
        waiting += block
        if len(waiting) < 2 * _LOOK_BYTES:
            continue
        decided = len(waiting) - _LOOK_BYTES
        decided -= decided % PACKET_BYTES
        for ticks, chunk in await asyncio.to_thread(_cut, waiting, decided, video):
            if ticks is not None and begun:
                yield group
                group = _Group(ticks)
            elif ticks is not None:
                group.ticks, begun = ticks, True
            group.packets += chunk
            if len(group.packets) > MOST_GROUP_BYTES:
                raise MediaBroken(f"precise: {MOST_GROUP_BYTES >> 20} MiB without a key frame")
        del waiting[:decided]
    for ticks, chunk in _cut(waiting, len(waiting), video):
        if ticks is not None and begun:
            yield group
            group = _Group(ticks)
        elif ticks is not None:
            group.ticks, begun = ticks, True
        group.packets += chunk
    yield group


def _cut(packets: bytearray, decided: int, video: Stream) -> list[tuple[int | None, bytes]]:
    """The first `decided` bytes, cut in front of each key frame; with each, when the frame is shown."""
    data = bytes(packets)
    window = _window(data)
    keys = [
        (at, unit.presented)
        for at, unit in units_at(window, video.pid)
        if at < decided and is_key(window, video, at)
    ]
    last, ticks = 0, None
    pieces: list[tuple[int | None, bytes]] = []
    for at, presented in keys:
        if at > last or ticks is not None:
            pieces.append((ticks, data[last:at]))
        last, ticks = at, presented
    return [*pieces, (ticks, data[last:decided])]


def _window(packets: bytes) -> Window:
    whole = range(0, len(packets) - PACKET_BYTES + 1, PACKET_BYTES)
    return Window(packets, PLAIN, (whole,) if whole else ())


def _pid(packets: bytes, at: int) -> int:
    return (packets[at + 1] & 0x1F) << 8 | packets[at + 2]


def _with_pid(packets: bytes, *pids: int) -> Iterator[bytes]:
    for at in range(0, len(packets), PACKET_BYTES):
        if _pid(packets, at) in pids:
            yield packets[at : at + PACKET_BYTES]


def _without_pid(packets: bytes, *pids: int) -> Iterator[bytes]:
    for at in range(0, len(packets), PACKET_BYTES):
        if _pid(packets, at) not in pids:
            yield packets[at : at + PACKET_BYTES]
