"""Footage whose picture tells its time: the brightness of all of it steps every second.

Encoded once a session, as in footage.py. Brightness survives any encoder and any scaling, so a thumbnail or a
tile can be asked which second it shows.
"""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict

from cctv_storaged.media.picture import size_of
from tests.footage import _ENCODERS, Codec, _encoded

DARKEST, STEP = 24, 8
MOST_SECONDS = 26


class Clock(TypedDict, total=False):
    """What `clock_ts` takes."""

    first: int
    seconds: float
    codec: Codec
    gop: int
    bframes: int
    size: str
    rate: int
    ts_offset_s: float
    options: Sequence[str]


def clock_ts(
    *,
    first: int = 0,
    seconds: float = 10,
    codec: Codec = "h264",
    gop: int = 10,
    bframes: int = 0,
    size: str = "160x90",
    rate: int = 10,
    ts_offset_s: float = 0,
    options: Sequence[str] = (),
) -> Path:
    """A `.ts` that shows the seconds from `first` on; only to be read. `gop`: frames between key frames."""
    assert first + seconds <= MOST_SECONDS
    luma = f"{DARKEST}+{STEP}*floor(T+0.001+{first})"
    picture = f"nullsrc=size={size}:rate={rate},geq=lum='{luma}':cb=128:cr=128"
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", picture, "-t", str(seconds)]
    argv += ["-threads", "1", *_ENCODERS[codec], "-g", str(gop), "-bf", str(bframes)]
    if codec == "h264":
        argv += ["-x264-params", f"scenecut=0:keyint={gop}"]
    if codec == "hevc":
        argv += ["-x265-params", f"scenecut=0:keyint={gop}:bframes={bframes}:log-level=error:pools=1"]
    argv += ["-output_ts_offset", str(ts_offset_s)] if ts_offset_s else []
    return _encoded([*argv, *options, "-f", "mpegts"])


@cache
def samples_of(jpeg: bytes) -> bytes:
    """The brightness of every pixel, row by row."""
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-f", "mjpeg", "-i", "pipe:0"]
    argv += ["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
    return subprocess.run(argv, input=jpeg, capture_output=True, check=True, timeout=60).stdout


def part_of(jpeg: bytes, box: tuple[int, int, int, int]) -> bytes:
    """The brightness of the pixels in a box: x, y, width, height."""
    (across, _), samples = size_of(jpeg), samples_of(jpeg)
    x, y, width, height = box
    rows = (samples[across * row + x : across * row + x + width] for row in range(y, y + height))
    return b"".join(rows)


def second_in(samples: bytes) -> int:
    """Which second these samples of a whole picture show. Samples are of full range, footage is not."""
    mean = sum(samples) / len(samples)
    return round((mean * 219 / 255 + 16 - DARKEST) / STEP)


def second_shown(jpeg: bytes) -> int:
    """Which second a thumbnail shows."""
    return second_in(samples_of(jpeg))
