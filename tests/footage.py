"""Real footage for tests: `.ts` files encoded by ffmpeg, and recorders that cut streams into segments.

Encoding is slow and its outcome depends on the arguments alone, so each file is encoded once per test session
and copied from then on. Processes of one session (pytest-xdist) share what they encoded; whoever leaves last
removes it.
"""

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict, Unpack

_ENCODERS = {
    "h264": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"],
    "hevc": ["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p"],
    "mpeg2video": ["-c:v", "mpeg2video", "-pix_fmt", "yuv420p"],
    "mpeg4": ["-c:v", "mpeg4", "-pix_fmt", "yuv420p"],
}
Codec = Literal["h264", "hevc", "mpeg2video", "mpeg4"]


class Recipe(TypedDict, total=False):
    """What `cached_ts` takes."""

    seconds: float
    codec: Codec | None
    audio: bool
    audio_codec: str
    bframes: int
    rate: float
    size: str
    gop: int | None
    open_gop: bool
    ts_offset_s: float
    bitrate: str | None
    muxer_options: Sequence[str]


class Recorder(Recipe, total=False):
    """What `recorder_command` takes."""

    pattern: str
    segment_s: float
    muxer: Literal["segment", "hls"]
    options: Sequence[str]
    realtime: bool
    loop: bool


def make_ts(folder: Path, *, name: str = "a.ts", **recipe: Unpack[Recipe]) -> Path:
    """A `.ts` file of its own, free to be changed; `recipe` as for `cached_ts`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cached_ts(**recipe), path)
    return path


def cached_ts(
    *,
    seconds: float = 2,
    codec: Codec | None = "h264",
    audio: bool = False,
    audio_codec: str = "aac",
    bframes: int = 0,
    rate: float = 25,
    size: str = "320x180",
    gop: int | None = None,
    open_gop: bool = False,
    ts_offset_s: float = 0,
    bitrate: str | None = None,
    muxer_options: Sequence[str] = (),
) -> Path:
    """The session's one copy of such a file: only to be read.

    A moving test picture (`codec`, or none) with a tone (`audio`). `gop`: frames from one key frame to
    the next, one second by default. `ts_offset_s`: where the stream's clock starts.
    """
    argv = [*_source(seconds, codec, rate, size, audio=audio)]
    argv += _encoding(codec, bframes, gop or max(1, round(rate)), bitrate, open_gop=open_gop)
    argv += ["-c:a", audio_codec, "-b:a", "64k"] if audio else []
    argv += ["-output_ts_offset", str(ts_offset_s)] if ts_offset_s else []
    return _encoded([*argv, *muxer_options, "-f", "mpegts"])


def segment_stream(folder: Path, *, zone: str = "UTC", **recorder: Unpack[Recorder]) -> list[Path]:
    """Run a recorder to its end; the segments it left, by name. Their names' times are those of `zone`."""
    _run(recorder_command(folder, **recorder), zone)
    return sorted(folder.rglob("*.ts"))


def recorder_command(
    folder: Path,
    *,
    pattern: str = "%03d.ts",
    segment_s: float = 2,
    muxer: Literal["segment", "hls"] = "segment",
    options: Sequence[str] = (),
    realtime: bool = False,
    loop: bool = False,
    **recipe: Unpack[Recipe],
) -> list[str]:
    """The command line of a recorder, for tests that start and stop it themselves.

    `segment` writes under the final name; `hls` with `-hls_flags temp_file` writes `x.ts.tmp` and renames.
    Names by `-strftime 1` come from the wall clock, which only `realtime` lets advance. `loop`: without end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    argv += ["-re"] if realtime else []
    argv += ["-stream_loop", "-1"] if loop else []
    argv += ["-f", "mpegts", "-i", str(cached_ts(**recipe)), "-map", "0", "-c", "copy", "-f", muxer]
    if muxer == "segment":
        target = str(folder / pattern)
        return [*argv, "-segment_format", "mpegts", "-segment_time", str(segment_s), *options, target]
    argv += ["-hls_time", str(segment_s), "-hls_list_size", "0"]
    return [*argv, *options, "-hls_segment_filename", str(folder / pattern), str(folder / "live.m3u8")]


def ffprobe_duration(path: Path) -> timedelta:
    """What ffprobe makes of a file: from the first to the end of the last frame, by every packet's time."""
    packets = probe_packets(path)
    kinds = {packet["codec_type"] for packet in packets}
    kind = "video" if "video" in kinds else "audio"
    times = [
        (float(packet["pts_time"]), float(packet.get("duration_time", 0)))
        for packet in packets
        if packet["codec_type"] == kind and "pts_time" in packet
    ]
    start, (last, frame) = min(times)[0], max(times)
    return timedelta(seconds=last - start + frame)


def probe_packets(path: Path) -> list[dict[str, str]]:
    """Every packet of a file as ffprobe reads it."""
    argv = ["ffprobe", "-v", "fatal", "-f", "mpegts", "-show_packets", "-of", "json", str(path)]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=60)
    packets: list[dict[str, str]] = json.loads(done.stdout)["packets"]
    return packets


def _source(seconds: float, codec: str | None, rate: float, size: str, *, audio: bool) -> list[str]:
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    if codec:
        argv += ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}"]
    if audio:
        argv += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
    return [*argv, "-t", str(seconds), "-threads", "1", "-map_metadata", "-1"]


def _encoding(codec: str | None, bframes: int, gop: int, bitrate: str | None, *, open_gop: bool) -> list[str]:
    if codec is None:
        return []
    argv = [*_ENCODERS[codec], "-g", str(gop), "-bf", str(bframes)]
    private = f"scenecut=0:keyint={gop}:open-gop={int(open_gop)}"
    if bitrate:
        # Filled up, as a quiet test picture would not reach the rate by itself.
        argv += ["-b:v", bitrate, "-minrate", bitrate, "-maxrate", bitrate, "-bufsize", bitrate]
        private += ":nal-hrd=cbr:filler=1" if codec == "h264" else ""
    if codec == "h264":
        argv += ["-x264-params", private]
    if codec == "hevc":
        argv += ["-x265-params", f"{private}:log-level=error:bframes={bframes}:pools=1"]
    return argv


def _encoded(argv: list[str]) -> Path:
    """The output of an ffmpeg command, from the cache or made now; never seen half-made."""
    folder = _session_folder()
    path = folder / (hashlib.sha256("\0".join(argv).encode()).hexdigest()[:24] + ".ts")
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        _run([*argv, str(part)])
        part.rename(path)
    return path


def _run(argv: list[str], zone: str = "UTC") -> None:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "TZ": zone}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}\n{done.stderr}")


@cache
def _session_folder() -> Path:
    """Shared by the session's processes, each of which holds a lock on it until it ends."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}"
    name = f"cctv-footage-{os.getuid()}-"
    folder = Path(tempfile.gettempdir()) / (name + session)
    lock = _joined(folder)
    atexit.register(_leave, folder, lock)
    for other in folder.parent.glob(name + "*"):
        if other != folder:
            _swept(other)  # a session that was killed could not tidy up
    return folder


def _joined(folder: Path) -> int:
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another session took it for remains before it was locked
        fcntl.flock(lock, fcntl.LOCK_SH)
        if folder.exists() and os.path.samestat(os.fstat(lock), folder.stat()):
            return lock
        os.close(lock)  # the last of the others removed it in the meantime


def _swept(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return  # its own session was quicker
    _leave(folder, lock)
    os.close(lock)


def _leave(folder: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # somebody still reads
    shutil.rmtree(folder, ignore_errors=True)  # two sessions may sweep the same remains
