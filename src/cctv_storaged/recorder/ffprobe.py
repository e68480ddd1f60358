"""How long a transport stream is by ffprobe, for the few files whose own clock cannot tell.

An open descriptor goes in as the child's standard input; its packets' times come back. The child is never
given a name to open: a `.ts` file may hold a playlist, and ffmpeg's libraries would follow it.
"""

import asyncio
import logging
import os
import signal
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

log = logging.getLogger(__name__)

_ARGUMENTS = (
    *("-v", "error", "-protocol_whitelist", "pipe", "-f", "mpegts", "-i", "pipe:0"),
    *(
        "-show_entries",
        "packet=codec_type,stream_index,pts_time,dts_time,duration_time",
        "-of",
        "compact=p=0",
    ),
)
_STDERR_BYTES = 2048
_NICENESS = 10  # the recorder comes first
_LONGEST_STEP_S = 60.0  # from one packet to the next: more is a clock that jumped, not time that passed


async def ffprobe_duration(
    descriptor: int, *, timeout_s: float = 10.0, program: str = "ffprobe"
) -> timedelta | None:
    """The duration of the transport stream in an open file; None where ffprobe cannot tell, or is not there.

    Adds up the steps from packet to packet of the first video stream, or else of the first audio stream, so
    that a clock which jumps or starts anew costs one step and not the result. Reads the file from its start
    by the descriptor's shared position, and leaves that at the end. The child is gone when this returns,
    however it returns.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        async with asyncio.timeout(timeout_s), _child(program, descriptor) as process:
            return await _answer(process)
    except (FileNotFoundError, PermissionError):
        _tell_missing(program)
    except TimeoutError:
        log.warning("ffprobe took too long", extra={"timeout_s": timeout_s})
    return None


@cache
def _tell_missing(program: str) -> None:
    """Once per process: whoever runs without ffprobe needs no reminder for each file."""
    log.warning("ffprobe cannot be started: such durations are estimated", extra={"program": program})


@asynccontextmanager
async def _child(program: str, descriptor: int) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(program, *_ARGUMENTS),
        stdin=descriptor,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,  # a process group of its own, to be killed as a whole
        env={"PATH": os.pathsep.join(os.get_exec_path()), "LC_ALL": "C"},  # no secrets, no FFREPORT
    )
    try:
        with suppress(ProcessLookupError, PermissionError):  # a sandbox may refuse it
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        yield process
        await process.wait()
    except BaseException:  # also cancellation: it must not leave the child behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
        raise
    finally:
        process._transport.close()  # type: ignore[attr-defined] # its own turn may come after the loop's end


async def _answer(process: Process) -> timedelta | None:
    assert process.stdout
    assert process.stderr
    async with asyncio.TaskGroup() as readers:
        complaint = readers.create_task(_last_bytes(process.stderr))
        times = readers.create_task(_read_times(process.stdout))
    duration = times.result().duration
    if duration is None:
        log.warning("ffprobe found no duration", extra={"stderr": complaint.result()})
    return duration


async def _last_bytes(stream: StreamReader) -> str:
    """The end of what a stream says, read to its end so that the writer never waits."""
    kept = b""
    while block := await stream.read(65536):
        kept = (kept + block)[-_STDERR_BYTES:]
    return kept.decode(errors="replace").strip()


async def _read_times(stream: StreamReader) -> "_Times":
    times = _Times()
    async for line in stream:
        packet = dict(item.partition("=")[::2] for item in line.decode(errors="replace").strip().split("|"))
        if {"codec_type", "stream_index"} <= packet.keys():
            times.add(packet)
    return times


@dataclass(slots=True)
class _Elapsed:
    """Time passed in one stream, added up from step to step. Seconds."""

    stream: str
    total_s: float = 0.0
    step_s: float = 0.0  # the latest believable one
    at_s: float | None = None

    def add(self, at_s: float, frame_s: float) -> None:
        if self.at_s is None:
            self.step_s = frame_s
        else:
            step_s = at_s - self.at_s
            self.step_s = step_s if 0 <= step_s <= _LONGEST_STEP_S else self.step_s
            self.total_s += self.step_s
        self.at_s = at_s


@dataclass(slots=True)
class _Times:
    """Elapsed time of the first stream of each kind."""

    by_kind: dict[str, _Elapsed] = field(default_factory=dict)

    def add(self, packet: dict[str, str]) -> None:
        kind, stream = packet["codec_type"], packet["stream_index"]
        at_s = _seconds(packet, "dts_time")
        at_s = _seconds(packet, "pts_time") if at_s is None else at_s
        elapsed = self.by_kind.setdefault(kind, _Elapsed(stream))
        if elapsed.stream == stream and at_s is not None:
            elapsed.add(at_s, _seconds(packet, "duration_time") or 0.0)

    @property
    def duration(self) -> timedelta | None:
        """From the first packet to the end of the last one."""
        for kind in ("video", "audio"):
            if (elapsed := self.by_kind.get(kind)) and elapsed.total_s + elapsed.step_s > 0:
                return timedelta(seconds=elapsed.total_s + elapsed.step_s)
        return None


def _seconds(packet: dict[str, str], key: str) -> float | None:
    try:
        return float(packet[key])
    except (KeyError, ValueError):  # left out, or N/A
        return None
