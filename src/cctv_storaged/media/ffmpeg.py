"""ffmpeg as a child that gets bytes through a pipe and never a name to open.

A `.ts` file may hold a playlist, and ffmpeg's libraries would follow it: the input is `-f mpegts` from
standard input with `-protocol_whitelist pipe`, whatever it is. Only a result that has to be seekable is
written to a file, `./NAME` in a work folder that holds nothing else.

The child is nice (which by ioprio_set(2) makes its I/O yield as well), limited in memory, CPU time and what
it may write, has none of our environment, and is gone when the call returns, however it returns. Its exit
code is not believed: callers look at what came out.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

from cctv_storaged.errors import MediaBroken, MediaToolMissing

log = logging.getLogger(__name__)

PROGRAM = "ffmpeg"
NICENESS = 10  # the recorder comes first
GIB = 2**30
BLOCK_BYTES = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_STDERR_BYTES = 4096
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05

PROBE_PROGRAM = "ffprobe"
TRANSPORT_STREAM = ("-protocol_whitelist", "pipe", "-f", "mpegts")
"""What stands in front of `-i pipe:0` for footage."""
_FIRST = {PROGRAM: ("-hide_banner", "-nostdin", "-nostats", "-v", "warning"), PROBE_PROGRAM: ("-v", "error")}
_VERSION = ("-version",)

Feed = AsyncIterator[bytes] | AsyncIterator[bytes | bytearray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may take; more ends it."""

    wall_s: float = 60.0
    cpu_s: int = 60
    memory_bytes: int = 2 * GIB  # address space: libraries, threads and frames
    output_bytes: int = 64 * 2**20  # of the largest file, or of what comes out of its standard output


class Child:
    """A running ffmpeg: `feed` what it reads, `output` what it writes, `finish` to hear how it ended."""

    def __init__(self, process: Process, stdin: int, limits: Limits) -> None:
        self._process = process
        self._stdin: int | None = stdin
        self._limits = limits
        self._complaint = asyncio.create_task(_last_bytes(process))

    async def feed(self, blocks: Feed) -> None:
        """Hands over everything, then end of file; a child that wants no more ends it early, unblamed."""
        try:
            async for block in blocks:
                if not await self._write(block):
                    return
        finally:
            self.end_of_input()

    def end_of_input(self) -> None:
        descriptor, self._stdin = self._stdin, None
        if descriptor is not None:
            os.close(descriptor)

    async def output(self) -> AsyncIterator[bytes]:
        """What comes out of its standard output, block by block. Raises MediaBroken above the limit."""
        assert self._process.stdout is not None
        room = self._limits.output_bytes
        while block := await self._process.stdout.read(BLOCK_BYTES):
            room -= len(block)
            if room < 0:
                raise MediaBroken(f"more than {self._limits.output_bytes} bytes came out")
            yield block

    async def finish(self) -> str:
        """Waits for its end; what it said last. Raises MediaBroken unless it ended well."""
        code = await self._process.wait()
        complaint = await self._complaint
        if code:
            how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with {code}"
            raise MediaBroken(f"ffmpeg {how}: {complaint or 'it said nothing'}")
        return complaint

    async def end(self) -> None:
        """Kills it if it still runs, with all it may have started, and waits until it is gone."""
        self.end_of_input()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdout is not None:
            self._process.stdout._transport.close()  # type: ignore[attr-defined] # else what is left is kept
        try:
            await self._process.wait()
        finally:  # also where the loop's end cancels this, in which the transport's own turn never comes
            self._process._transport.close()  # type: ignore[attr-defined]
            self._complaint.cancel()
        await asyncio.gather(self._complaint, return_exceptions=True)

    async def _write(self, block: bytes | bytearray) -> bool:
        """False: it reads no more.

        No thread waits in write(2), as a client that takes its time would keep it for ever; nor does the loop
        wake for each page that gets free in the pipe.
        """
        view, waited_s = memoryview(block), 0.0
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view) :]
                waited_s = 0.0
            except BlockingIOError:
                pause_s = pause_after(waited_s)
                await asyncio.sleep(pause_s)
                waited_s += pause_s
            except BrokenPipeError:
                return False
        return not view


@asynccontextmanager
async def child(
    arguments: Sequence[str], limits: Limits, *, folder: str | None = None, program: str = PROGRAM
) -> AsyncIterator[Child]:
    """An ffmpeg with these arguments, working in `folder`; gone when the block is left.

    Raises MediaToolMissing where it cannot be started, MediaBroken after `limits.wall_s`.
    """
    reading, writing = os.pipe()
    try:
        process = await _started(program, arguments, reading, folder)
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    running = Child(process, writing, limits)
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        _restrain(process.pid, limits)
        async with asyncio.timeout(limits.wall_s) as clock:
            yield running
    except TimeoutError as exc:
        if not clock.expired():
            raise
        raise MediaBroken(f"ffmpeg took longer than {limits.wall_s:g} s") from exc
    finally:
        await asyncio.shield(running.end())


async def run(
    arguments: Sequence[str],
    blocks: Feed,
    limits: Limits,
    *,
    folder: str | None = None,
    program: str = PROGRAM,
) -> bytes:
    """Feeds an ffmpeg to its end; what came out of its standard output.

    Raises MediaBroken (it failed, or a limit was met), MediaToolMissing, and what `blocks` raises.
    """
    async with child(arguments, limits, folder=folder, program=program) as running:
        feeding = asyncio.create_task(running.feed(blocks))
        try:
            output = b"".join([block async for block in running.output()])
            await feeding
        except BaseException:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            raise
        await running.finish()
        return output


async def version(program: str = PROGRAM) -> str:
    """What `ffmpeg -version` calls itself, e.g. `5.1.9-0+deb12u1`. Raises MediaToolMissing, MediaBroken."""

    async def nothing() -> AsyncIterator[bytes]:
        return
        yield b""

    said = await run(_VERSION, nothing(), Limits(wall_s=10.0, cpu_s=10), program=program)
    words = said.decode(errors="replace").split()
    return words[2] if words[1:2] == ["version"] and len(words) > 2 else "unknown"


async def _started(program: str, arguments: Sequence[str], stdin: int, folder: str | None) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *(program, *_first(program, arguments), *arguments),
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            cwd=folder,
            start_new_session=True,  # a process group of its own, to be killed as a whole
            env={"PATH": os.pathsep.join(os.get_exec_path()), "LC_ALL": "C"},  # no secrets, no FFREPORT
            limit=2 * BLOCK_BYTES,
        )
    except (FileNotFoundError, PermissionError) as exc:
        if exc.filename == folder is not None:
            raise MediaBroken(f"the work folder {folder} cannot be used: {exc.strerror}") from exc
        _tell_missing(program)
        raise MediaToolMissing(f"{program} cannot be started: install ffmpeg, or put it on PATH") from exc


def _first(program: str, arguments: Sequence[str]) -> tuple[str, ...]:
    return () if tuple(arguments) == _VERSION else _FIRST.get(os.path.basename(program), ())


def _restrain(pid: int, limits: Limits) -> None:
    """Niceness and limits of a child that has just begun; one that is gone already needs none."""
    most = {
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_FSIZE: limits.output_bytes,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    with contextlib.suppress(ProcessLookupError, PermissionError):  # a sandbox may refuse it
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
    for what, value in most.items():
        with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
            resource.prlimit(pid, what, (value, value))


def pause_after(waited_s: float) -> float:
    """How long to leave a full pipe alone that took nothing for so long, seconds.

    Little beside what was waited already: ffmpeg takes 50 ms until it reads, and what it then waits for us is
    a viewer's time. Whatever stands still for long is seldom looked at.
    """
    return min(max(_SHORTEST_PAUSE_S, waited_s / 8), _LONGEST_PAUSE_S)


async def _last_bytes(process: Process) -> str:
    """The end of what it says, read to its end so that it never waits for us."""
    assert process.stderr is not None
    kept = b""
    while block := await process.stderr.read(65536):
        kept = (kept + block)[-_STDERR_BYTES:]
    lines = kept.decode(errors="replace").strip().splitlines()
    return "; ".join(lines[-3:])[-500:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@cache
def _tell_missing(program: str) -> None:
    """Once per process: every picture and clip would say it again."""
    log.error("%s cannot be started: no thumbnails, clips and exports until it is installed", program)
