"""Coded pictures as a media database holds them, and how they are taken from a transport stream.

By ffmpeg and ffprobe, and not with the project's own reader of transport streams: this is the check on it.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

Codec = Literal["h264", "h265"]
_RAW: dict[str, tuple[Codec, str]] = {"h264": ("h264", "h264"), "hevc": ("h265", "hevc")}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Coded:
    """One coded picture: Annex B, with its exact presentation time in ms since 1970."""

    time_ms: int
    key: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Group:
    """A key picture and those that depend on it, in decoding order."""

    codec: Codec
    pictures: tuple[Coded, ...]

    @property
    def start_ms(self) -> int:
        """The key picture's time; leading pictures of an open group are earlier."""
        return self.pictures[0].time_ms

    @property
    def last_ms(self) -> int:
        """The time of the picture that is shown last: a database knows no durations."""
        return max(picture.time_ms for picture in self.pictures)

    @property
    def interval_ms(self) -> int:
        """From a picture to the next, on average; 0 for one alone."""
        return (self.last_ms - self.start_ms) // max(len(self.pictures) - 1, 1)

    @property
    def size(self) -> int:
        return sum(len(picture.data) for picture in self.pictures)

    def arrivals_ms(self) -> tuple[int, ...]:
        """When each picture came, in decoding order: those of a mini-group at once, after its anchor.

        A camera can send a B picture only after the one that follows it in time. Without B pictures these
        are the presentation times.
        """
        times = [self.start_ms]
        for picture in self.pictures[1:]:
            times.append(max(times[-1] + 1, picture.time_ms))
        return tuple(times)


def ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, rounded."""
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def moment(time_ms: int) -> datetime:
    """The inverse of `ms`, aware UTC."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def grouped(codec: Codec, pictures: Iterable[Coded]) -> Iterator[Group]:
    """Pictures in decoding order, by key pictures. What comes before the first one is left out."""
    group: list[Coded] = []
    for picture in pictures:
        if picture.key and group:
            yield Group(codec, tuple(group))
            group = []
        if picture.key or group:
            group.append(picture)
    if group:
        yield Group(codec, tuple(group))


def pictures_of_ts(path: Path, start: datetime) -> tuple[Codec, tuple[Coded, ...]]:
    """The video of a file, in decoding order; the picture that is shown first gets the time `start`.

    ValueError where it has no H.264 or H.265 that both tools agree on.
    """
    now = path.stat()
    codec, pictures = _read(path, now.st_mtime_ns, now.st_size)
    at = ms(start)
    return codec, tuple(replace(picture, time_ms=at + picture.time_ms) for picture in pictures)


@lru_cache(maxsize=32)
def _read(path: Path, _mtime_ns: int, _size: int) -> tuple[Codec, tuple[Coded, ...]]:
    """With times from 0 on. A file that stays as it is is read once."""
    name, packets = _probed(path)
    if name not in _RAW or not packets:
        raise ValueError(f"{path} has no H.264 or H.265 video (ffprobe says {name or 'none'})")
    codec, muxer = _RAW[name]
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-f", "mpegts", "-i", str(path), "-map", "0:v:0"]
    argv += ["-c", "copy", "-copyinkf", "-bsf:v", f"{muxer}_mp4toannexb", "-f", muxer, "-"]
    data = subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout
    if sum(int(packet["size"]) for packet in packets) != len(data):
        raise ValueError(f"{path}: ffmpeg gives {len(data)} bytes of video, ffprobe tells other sizes")
    return codec, tuple(_cut(data, packets))


def _probed(path: Path) -> tuple[str, Sequence[dict[str, str]]]:
    argv = ["ffprobe", "-v", "fatal", "-f", "mpegts", "-select_streams", "v:0", "-show_entries"]
    argv += ["stream=codec_name:packet=pts,size,flags", "-of", "json", str(path)]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=60)
    told = json.loads(done.stdout)
    streams: list[dict[str, str]] = told.get("streams", [])
    packets: list[dict[str, str]] = told.get("packets", [])
    return (streams[0].get("codec_name", "") if streams else ""), packets


def _cut(data: bytes, packets: Sequence[dict[str, str]]) -> Iterator[Coded]:
    """One picture a packet; the stream's clock counts 90 kHz."""
    at, first = 0, min(int(packet["pts"]) for packet in packets)
    for packet in packets:
        size = int(packet["size"])
        time_ms = round((int(packet["pts"]) - first) / 90)
        yield Coded(time_ms, packet["flags"].startswith("K"), data[at : at + size])
        at += size
