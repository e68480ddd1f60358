"""The coded pictures of a transport stream while it passes: access units of H.264 and H.265 with their times.

Bytes in, in blocks of any size; access units out, in decoding order. Held at any moment is what has passed of
one picture and of those without a time behind it, and before the first one at most MAX_HEAD_BYTES in which
the tables are looked for.
ISO/IEC 13818-1, 2.4.3.6 (PES), 2.14 (H.264) and 2.17 (H.265).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cctv_storaged.errors import NotASegment
from cctv_storaged.mpegts import nal, psi
from cctv_storaged.mpegts.packets import Framing, Window, closing_window, opening_window
from cctv_storaged.mpegts.track import WRAP, Unit, ticks_between, unit_of

MAX_HEAD_BYTES = 4 * 1024 * 1024
MAX_UNIT_BYTES = 16 * 1024 * 1024
"""A picture that claims more is no picture: it is left out."""
CODECS = ("h264", "hevc")
NO_VIDEO, OTHER_CODEC = "no_video", "codec"
"""Reasons of NotASegment, which no file is set aside for: footage it is all the same."""
_MOST_UNTIMED = 64
"""Pictures in a row without a time: 13818-1, 2.7.4 permits 0.7 s."""
_LONGEST_STEP_TICKS = 90_000
_RESYNC_BYTES = 8 * 204  # what may be the beginning of packets among garbage
_LONGEST_HEADER = 9 + 255


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessUnit:
    """One coded picture with the parameter sets before it, in Annex B."""

    codec: str  # "h264" or "hevc", as ffmpeg names them
    pts: int  # when it is shown: ticks of 90 kHz modulo 2**33
    dts: int  # when it is decoded
    key: bool  # can be decoded by itself
    data: bytes


class Units:
    """One stream on its way; `feed` it in order."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0  # trailing bytes of the last packet that are still to come
        self._look_at_bytes = 1  # where tables are looked for again: twice as far each time
        self._framing: Framing | None = None
        self._pid = -1
        self._pieces: list[bytes] = []  # of the PES packet that is not whole yet
        self._piece_bytes = 0
        self._last_packet: tuple[int, bytes] | None = None  # counter and payload: a packet may be sent twice
        self._pending: tuple[Unit, list[bytes]] | None = None  # a picture that more may belong to
        self._pending_bytes = 0  # with those that follow it
        self._untimed: list[
            list[bytes]
        ] = []  # pictures behind it whose times lie between its and the next one's
        self._step: int | None = None  # ticks from one picture to the next, as last seen
        self.codec: str | None = None
        """Of the video, once the tables were seen."""
        self.left_out = 0
        """Pictures whose time nothing tells, or larger than MAX_UNIT_BYTES."""

    def feed(self, block: bytes) -> list[AccessUnit]:
        """The pictures that are whole by now.

        Raises NotASegment: `not_mpegts`, `no_program`, `NO_VIDEO`, `OTHER_CODEC`.
        """
        return list(self._fed(block, last=False))

    def finish(self) -> list[AccessUnit]:
        """What is left when the stream ends. Raises as `feed`."""
        done = list(self._fed(b"", last=True))
        return [*done, *self._completed(), *self._released(None)]

    def _fed(self, block: bytes, *, last: bool) -> Iterator[AccessUnit]:
        data = self._rest + block[self._skip :]
        self._skip = max(0, self._skip - len(block))
        if self._framing is None:
            self._rest = data
            if not self._opened(data, last=last):
                return
        assert self._framing is not None
        window = closing_window(data, self._framing, self._framing.lead)
        behind = _behind(window)
        self._rest, self._skip = data[behind:], max(self._skip, behind - len(data))
        for at in window.packets(self._pid):
            yield from self._packet(window, at)

    def _opened(self, data: bytes, *, last: bool) -> bool:
        """Whether the tables were found; what lies before the first packet is passed over by `_fed`."""
        if not data or (len(data) < self._look_at_bytes and not last):
            return False
        self._look_at_bytes = min(2 * len(data), MAX_HEAD_BYTES)
        opening = opening_window(data)
        program = None if opening is None else psi.read_program(opening, psi.map_pids(opening))
        if opening is None or program is None:
            if last or len(data) >= MAX_HEAD_BYTES:
                reason = "not_mpegts" if opening is None else "no_program"
                raise NotASegment(reason, f"no {_WANTED[reason]} in the first {len(data)} bytes")
            return False
        video = program.video
        if video is None:
            raise NotASegment(NO_VIDEO, "the stream has no video")
        if video.codec not in CODECS:
            raise NotASegment(OTHER_CODEC, f"its video is {video.codec}; only H.264 and H.265 are read")
        self._framing, self._pid, self.codec = opening.framing, video.pid, video.codec
        return True

    def _packet(self, window: Window, at: int) -> Iterator[AccessUnit]:
        payload = window.payload(at)
        control = window.data[at + 3]
        if not payload or control & 0xC0:  # scrambled
            return
        this = (control & 0x0F, payload)
        if this == self._last_packet:
            return
        self._last_packet = this
        if window.data[at + 1] & 0x40:
            yield from self._completed()
        elif not self._pieces:
            return  # the end of a picture whose beginning was not seen
        self._pieces.append(payload)
        self._piece_bytes += len(payload)
        if self._piece_bytes > MAX_UNIT_BYTES:
            self._dropped()

    def _dropped(self) -> None:
        self._pieces, self._piece_bytes = [], 0
        self.left_out += 1

    def _completed(self) -> Iterable[AccessUnit]:
        """A PES packet is whole: gives the picture before, unless this one is a part of it."""
        if not self._pieces:
            return
        pes = b"".join(self._pieces)
        self._pieces, self._piece_bytes = [], 0
        if pes[:3] != b"\0\0\1" or len(pes) < 9 or pes[6] & 0xC0 != 0x80:
            self.left_out += 1
            return
        body = pes[9 + pes[8] :]
        unit = unit_of(pes[: min(9 + pes[8], _LONGEST_HEADER)])
        if self._pending is not None and self._is_taken(unit, body):
            return
        yield from self._released(unit)
        if unit is None:
            self.left_out += 1
            return
        self._pending, self._pending_bytes = (unit, [body]), len(body)

    def _is_taken(self, unit: Unit | None, body: bytes) -> bool:
        """Whether it goes with the pending picture: large ones, and fields, come in several packets, and
        pictures without a time wait for the next that has one.
        """
        assert self._pending is not None and self.codec is not None
        first, bodies = self._pending
        if self._pending_bytes + len(body) > MAX_UNIT_BYTES:
            return False
        if unit is None and nal.begins_picture(self.codec, body):
            if len(self._untimed) >= _MOST_UNTIMED:
                return False
            self._untimed.append([body])
        elif unit is None:
            (self._untimed[-1] if self._untimed else bodies).append(body)
        elif (unit.presented, unit.decoded) == (first.presented, first.decoded) and not self._untimed:
            bodies.append(body)
        else:
            return False
        self._pending_bytes += len(body)
        return True

    def _released(self, following: Unit | None) -> Iterator[AccessUnit]:
        """The pending picture, and those without a time behind it, now that it is known what follows."""
        if self._pending is None:
            return
        (unit, bodies), untimed = self._pending, self._untimed
        self._pending, self._untimed = None, []
        yield self._access_unit(unit, bodies)
        step = self._step_between(unit, following, len(untimed) + 1)
        if step is None:
            self.left_out += len(untimed)
            return
        for number, each in enumerate(untimed, 1):
            ticks = number * step
            at = Unit((unit.presented + ticks) % WRAP, (unit.decoded + ticks) % WRAP, 0)
            yield self._access_unit(at, each)

    def _step_between(self, unit: Unit, following: Unit | None, pictures: int) -> int | None:
        """Ticks from one to the next of so many; None where they may be shown in another order, or time
        jumps.
        """
        if following is None:
            return self._step
        self._step = None
        ticks = ticks_between(unit.decoded, following.decoded)
        if ticks_between(unit.presented, following.presented) == ticks and 0 < ticks <= (
            pictures * _LONGEST_STEP_TICKS
        ):
            self._step = ticks // pictures
        return self._step

    def _access_unit(self, unit: Unit, bodies: list[bytes]) -> AccessUnit:
        assert self.codec is not None
        data = b"".join(bodies)
        key = nal.begins_with_key_picture(self.codec, data) is True
        return AccessUnit(codec=self.codec, pts=unit.presented, dts=unit.decoded, key=key, data=data)


_WANTED = {"not_mpegts": "transport packets", "no_program": "program map"}


def _behind(window: Window) -> int:
    """Where the bytes after the last packet begin: another packet, or what may become one among garbage."""
    if not window.runs:
        return max(0, len(window.data) - _RESYNC_BYTES)
    return window.runs[-1][-1] - window.framing.lead + window.framing.stride
