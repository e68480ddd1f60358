"""Footage in which every picture carries its number, as stripes that survive an encoder, and their reading.

A frame shown `t` seconds into a recording of `RATE` pictures a second has the number `t * RATE`: whatever a
clip or export shows can be asked when it was recorded.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.footage import _ENCODERS, _encoded

RATE = 10
BITS, STRIPE = 10, 16
_WIDTH, _HEIGHT = BITS * STRIPE, 32


def numbered_ts(
    *,
    seconds: float,
    first: int = 0,
    codec: str = "h264",
    gop: int = RATE,
    bframes: int = 0,
    audio: bool = False,
    height: int = _HEIGHT,
    ts_offset_s: float = 0,
    noise: bool = False,
) -> Path:
    """A `.ts` whose pictures are numbered from `first` on, with `noise` below that makes them large.

    Only to be read.
    """
    bit = f"mod(floor((N+{first})/pow(2,floor(X/{STRIPE}))),2)"
    lum = f"if(lt(Y,{_HEIGHT}),16+219*{bit},random(1)*255)" if noise else f"16+219*{bit}"
    picture = f"nullsrc=size={_WIDTH}x{height}:rate={RATE},geq=lum='{lum}':cb=128:cr=128"
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", picture]
    argv += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"] if audio else []
    argv += ["-t", str(seconds), "-threads", "1", *_ENCODERS[codec], "-g", str(gop), "-bf", str(bframes)]
    if codec == "h264":
        argv += ["-x264-params", f"scenecut=0:keyint={gop}:qp=20"]
    if codec == "hevc":
        argv += ["-x265-params", f"scenecut=0:keyint={gop}:bframes={bframes}:log-level=error:pools=1"]
    argv += ["-c:a", "aac", "-b:a", "64k"] if audio else []
    argv += ["-output_ts_offset", str(ts_offset_s)] if ts_offset_s else []
    return _encoded([*argv, "-f", "mpegts"])


def cut_up(source: Path, folder: Path, *, seconds: int, reset: bool = False) -> list[Path]:
    """The recording as a recorder cuts it: segments of so many seconds, each from a key frame on."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "mpegts", "-i", str(source), "-map", "0"]
    argv += ["-c", "copy", "-f", "segment", "-segment_format", "mpegts", "-segment_time", str(seconds)]
    argv += ["-reset_timestamps", "1"] if reset else ["-copyts"]
    subprocess.run([*argv, str(folder / "%03d.ts")], check=True, capture_output=True, timeout=60)
    return sorted(folder.glob("*.ts"))


@dataclass(frozen=True, slots=True)
class Shown:
    """One decoded picture: when it is shown, in seconds from the beginning, and its number."""

    at_s: float
    number: int


def pictures_in(path: Path) -> list[Shown]:
    """Every picture of a file as a player shows it. Fails where ffmpeg finds anything wrong with it."""
    times = _times(path)
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    argv += ["-vf", f"crop={_WIDTH}:2:0:8", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=120)
    assert not done.stderr, done.stderr.decode()
    size = _WIDTH * 2
    rows = [done.stdout[at : at + size] for at in range(0, len(done.stdout), size)]
    return [Shown(at_s, _number(row)) for at_s, row in zip(times, rows, strict=True)]


def _times(path: Path) -> list[float]:
    argv = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=pts_time"]
    done = subprocess.run([*argv, "-of", "csv=p=0", str(path)], capture_output=True, text=True, check=True)
    return [float(line.strip(",")) for line in done.stdout.split()]


def _number(row: bytes) -> int:
    return sum((row[bit * STRIPE + STRIPE // 2] > 125) << bit for bit in range(BITS))
