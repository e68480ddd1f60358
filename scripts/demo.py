"""`scripts/run --demo`: two fake cameras record beside the daemon until one of them ends or a signal comes.

The cameras are ffmpeg processes writing real H.264 into 10-second segments, as a recorder would, below the
folder that the daemon watches when it has no settings. Nothing of this outlives this process: each child is
stopped with it, and asks the kernel to be ended if this one is killed.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

CAMERAS = {"gate": "null", "yard": "hue=h=120"}  # a filter each, so that they do not look alike
SEGMENT_S = 10
FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationMono-Regular.ttf",
)
DIE_WITH_US = ("setpriv", "--pdeathsig", "TERM")
RECORDERS_STOP_S = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Process = asyncio.subprocess.Process


LAYOUT = "{camera}/%Y-%m-%d/%H-%M-%S.ts"


def recordings() -> Path:
    """The recorder root that the daemon has when nothing else is set."""
    return Path(os.environ.get("DATA_DIR", "var")).absolute() / "recordings"


def daemon_environment() -> dict[str, str]:
    """Whatever is set for a real recorder, the daemon watches our cameras, at the port that we ask."""
    ours = {"RECORDINGS_PATH": str(recordings()), "RECORDINGS_LAYOUT": LAYOUT, "RECORDINGS_TIMEZONE": "UTC"}
    return os.environ | ours | {"PORT": api_port()}


def api_port() -> str:
    return os.environ.get("PORT") or "8082"


def api_url() -> str:
    return f"http://127.0.0.1:{api_port()}/api/v1/storage"


def picture(camera: str) -> str:
    """The filter graph of a camera: a moving test picture, with name and time where there is a font."""
    graph = f"testsrc2=size=640x360:rate=10,{CAMERAS[camera]}"
    font = next((font for font in FONTS if os.path.exists(font)), None)
    if font is None:  # the test picture has a clock of its own
        return graph
    return (
        f"{graph},drawtext=fontfile={font}:text='{camera} %{{gmtime}}':"
        "fontsize=26:fontcolor=white:box=1:boxcolor=black@0.6:x=12:y=h-40"
    )


def recorder_arguments(camera: str) -> list[str]:
    """A key frame each second, so that segments can be cut at every tenth second of the clock."""
    return [
        *("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin"),
        *("-re", "-f", "lavfi", "-i", picture(camera)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "10", "-pix_fmt", "yuv420p"),
        *("-f", "segment", "-segment_format", "mpegts", "-segment_time", str(SEGMENT_S)),
        *("-segment_atclocktime", "1", "-strftime", "1"),
        f"{str(recordings()).replace('%', '%%')}/{LAYOUT.format(camera=camera)}",
    ]


def make_folders(now: datetime) -> None:
    """ffmpeg's segment muxer makes no folders: those of today and tomorrow must be there."""
    for camera in CAMERAS:
        for day in (now, now + timedelta(days=1)):
            (recordings() / camera / f"{day:%Y-%m-%d}").mkdir(parents=True, exist_ok=True)


async def make_folders_for_ever() -> None:
    while True:
        make_folders(datetime.now(UTC))
        await asyncio.sleep(3600)


async def start(arguments: Sequence[str], environ: dict[str, str]) -> Process:
    """A child out of reach of the terminal's Ctrl-C: it is told once, by us."""
    return await asyncio.create_subprocess_exec(
        *DIE_WITH_US, *arguments, env=environ, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )


def tell(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


async def stop_recorders(recorders: Sequence[Process]) -> None:
    """ffmpeg ends its segment properly when asked; one that does not listen is killed."""
    for recorder in recorders:
        tell(recorder, signal.SIGTERM)
    done, late = await asyncio.wait(
        [asyncio.create_task(recorder.wait()) for recorder in recorders], timeout=RECORDERS_STOP_S
    )
    if late:
        for recorder in recorders:
            tell(recorder, signal.SIGKILL)
        await asyncio.wait(done | late)


# --- what the newcomer is told ------------------------------------------------------------------------------


class NoToken(Exception):
    """The API asks for a token: one was made since, and ./var is kept."""


def _request(path: str) -> urllib.request.Request:
    request = urllib.request.Request(f"{api_url()}{path}")
    if token := os.environ.get("CCTV_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    return request


def ask(path: str) -> dict[str, list[dict[str, str]]]:
    """A list from the API; empty while it does not answer."""
    try:
        with urllib.request.urlopen(_request(path), timeout=5) as answer:
            listed: dict[str, list[dict[str, str]]] = json.load(answer)
            return listed
    except urllib.error.HTTPError as exc:
        if exc.code in (401, 403):
            raise NoToken from exc
        return {}
    except OSError:
        return {}


def first_segment() -> tuple[str, str, datetime] | None:
    """Ids of the first camera that has a segment, and of that segment, with its start."""
    for camera in ask("/cameras").get("cameras", []):
        for segment in ask(f"/segments/{camera['id']}?limit=1").get("segments", []):
            return camera["id"], segment["id"], datetime.fromisoformat(segment["start_time"])
    return None


def listens(pid: int) -> bool:
    """Whether the API's port is this very process's: another daemon there would answer for another folder."""
    return any(inode in _sockets(pid) for inode in _listening(api_port()))


def _listening(port: str) -> set[str]:
    """The inodes of the sockets that listen on the port, from /proc/net (proc_pid_net(5))."""
    rows = [line.split() for table in ("tcp", "tcp6") for line in _lines(f"/proc/net/{table}")[1:]]
    return {row[9] for row in rows if row[3] == "0A" and str(int(row[1].rpartition(":")[2], 16)) == port}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:  # no IPv6 here
        return []


def _sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # it has ended
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(descriptor.path).removeprefix("socket:[").removesuffix("]"))
    return found


async def guide(began: datetime) -> None:
    """Waits for a segment and says how to ask for it; what an earlier run left is there at once."""
    print(f"Two fake cameras record into {recordings()}; a segment takes {SEGMENT_S} seconds.", flush=True)
    try:
        while (found := await asyncio.to_thread(first_segment)) is None:
            await asyncio.sleep(1)
    except NoToken:
        print(
            "The API asks for a token now: with CCTV_TOKEN=… in its environment this script prints requests,"
            " and DATA_DIR=… begins anew elsewhere. Cameras and daemon go on.",
            flush=True,
        )
        return
    camera_id, segment_id, start_time = found
    news = "The first segment is registered."
    if start_time < began:
        news = "Segments of an earlier run are here already; new ones follow."
    print(
        f"\n{news} Try in another terminal:\n\n"
        f"  curl -s {api_url()}/cameras\n"
        f"  curl -s {api_url()}/segments/{camera_id}\n"
        f"  curl -s -o segment.ts {api_url()}/segments/{camera_id}/{segment_id}/content\n\n"
        "Ctrl-C stops cameras and daemon.\n",
        flush=True,
    )


# --- together -----------------------------------------------------------------------------------------------


async def run(arguments: Sequence[str]) -> int:
    """The daemon's exit code, or 1 when a camera ended by itself."""
    began = datetime.now(UTC).replace(microsecond=0)  # names of segments know no fractions
    with contextlib.suppress(OSError):  # the daemon says what is wrong with the folder
        make_folders(began)
    daemon = await start([sys.executable, "-m", "cctv_storaged", "run", *arguments], daemon_environment())
    stop = _stop_on_signals(daemon)
    ended = asyncio.create_task(daemon.wait())
    if not await _works(daemon, ended, stop):
        tell(daemon, signal.SIGTERM)
        return await ended
    return await _record(daemon, ended, stop, began)


async def _works(daemon: Process, ended: asyncio.Task[int], stop: asyncio.Event) -> bool:
    """Waits until the daemon listens; False when it ended, or was told to, before that."""
    while not ended.done() and not stop.is_set():
        if await asyncio.to_thread(listens, daemon.pid):
            return True
        await asyncio.wait([ended], timeout=0.2)
    return False


async def _record(daemon: Process, ended: asyncio.Task[int], stop: asyncio.Event, began: datetime) -> int:
    utc = os.environ | {"TZ": "UTC"}
    recorders = [await start(recorder_arguments(camera), utc) for camera in CAMERAS]
    helpers = [asyncio.create_task(guide(began)), asyncio.create_task(make_folders_for_ever())]
    ends = [ended, *(asyncio.create_task(recorder.wait()) for recorder in recorders)]
    await asyncio.wait([*ends, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    failed = next((end for end in ends[1:] if end.done()), None)
    if failed and not stop.is_set():
        print(f"A fake camera ended by itself (exit code {failed.result()}); stopping.", file=sys.stderr)
    for helper in helpers:
        helper.cancel()
    stopped_by_us = stop.is_set()
    stop.set()
    await stop_recorders(recorders)
    tell(daemon, signal.SIGTERM)
    code = await ended
    return 1 if failed and not stopped_by_us else code


def _stop_on_signals(daemon: Process) -> asyncio.Event:
    """Set by the first signal; each further one goes to the daemon, which then stops at once."""
    stop = asyncio.Event()

    def heard() -> None:
        if stop.is_set():
            tell(daemon, signal.SIGTERM)
        stop.set()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, heard)
    return stop


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
