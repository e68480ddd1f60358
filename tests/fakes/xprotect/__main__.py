"""`python -m tests.fakes.xprotect`: the simulator as a process, until SIGINT or SIGTERM."""

import argparse
import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from aiohttp import web

from tests.fakes.xprotect.control import Control
from tests.fakes.xprotect.faults import Faults
from tests.fakes.xprotect.recording import Folder, Layout
from tests.fakes.xprotect.signals import RETRIEVAL_EVENT
from tests.fakes.xprotect.simulator import Simulator, running
from tests.fakes.xprotect.site import Camera, Site, guid, make_site

LAYOUT = "{camera}/%Y-%m-%d/%H-%M-%S.ts"
_ABOUT = (
    "A simulator of Milestone XProtect, to try the modes MILESTONE and BOTH without one. "
    "It was built from published material, not from a recorded real server: what it shows is no proof "
    "for a real system."
)


def main(argv: Sequence[str] | None = None) -> None:
    options = parsed(argv)
    with tempfile.TemporaryDirectory(prefix="xprotect-") as folder:
        asyncio.run(_run_until_signal(options, Path(folder)))


async def _run_until_signal(options: argparse.Namespace, folder: Path) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await run(options, folder, stopping)


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.xprotect", description=_ABOUT)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, and to be told to clients")
    parser.add_argument("--port", type=int, default=8443, help="of the management server; 0: any free one")
    parser.add_argument("--recorder-port", type=int, default=7563, help="of the recorder; 0: any free one")
    parser.add_argument(
        "--control-port", type=int, default=8444, help="of the control port (always loopback)"
    )
    parser.add_argument("--tls", action="store_true", help="https, with an authority of its own")
    parser.add_argument("--certificates", type=Path, metavar="FOLDER", help="keeps them for the next run")
    parser.add_argument("--user", default="storaged", help="name of the basic user")
    parser.add_argument("--password-file", type=Path, help="its password; left out: 'simulated password'")
    parser.add_argument(
        "--camera",
        action="append",
        metavar="NAME[=GUID][@CHANNEL]",
        help="may be repeated; left out: gate and yard, as of scripts/run --demo. The channel is what the "
        "ONVIF device of --onvif calls it (video source or profile): this daemon's camera id",
    )
    _footage_options(parser.add_argument_group("footage"))
    parser.add_argument("--announce", type=Path, metavar="FILE", help="written as JSON once it answers")
    return parser.parse_args(argv)


def _footage_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--record-from", type=Path, metavar="FOLDER", help="a recorder's folder: XProtect records it")
    add("--edge-from", type=Path, metavar="FOLDER", help="what the cameras keep themselves, for retrievals")
    layout = LAYOUT.replace("%", "%%")
    add("--layout", default=LAYOUT, help=f"names of the files in there, in UTC; left out: {layout}")
    add(
        "--retrieval",
        choices=("instant", "pull"),
        default="instant",
        help="from the folder of --edge-from, or over ONVIF from --onvif",
    )
    add("--onvif", default="http://127.0.0.1:8083/", metavar="URL", help="the device of all cameras")
    add("--onvif-user", default="", help="its user")
    add("--onvif-password-file", type=Path, help="that user's password")
    add("--rule-minutes", type=float, help="a rule retrieves so many minutes on the event for it")
    add("--retention-minutes", type=float, help="purges what is older; left out: nothing")
    add("--database-delay", type=float, default=1.0, help="seconds until footage can be read")


def _site(options: argparse.Namespace) -> Site:
    password = _secret(options.password_file) or "simulated password"
    rule = timedelta(minutes=options.rule_minutes) if options.rule_minutes else None
    return make_site(
        [_camera(each, options) for each in options.camera or ("gate", "yard")],
        faults=Faults(database_delay_s=options.database_delay),
        host=options.host,
        gateway_port=options.port,
        recorder_port=options.recorder_port,
        user=options.user,
        password=password,
        retrieval=options.retrieval,
        rule_retrieves=rule,
    )


def _camera(spec: str, options: argparse.Namespace) -> Camera:
    spec, _, channel = spec.partition("@")
    name, _, given = spec.partition("=")
    return Camera(
        id=UUID(given) if given else guid(f"camera {name}"),
        name=name,
        address=options.onvif,
        device_channel=channel,
        device_user=options.onvif_user,
        device_password=_secret(options.onvif_password_file),
    )


def _secret(path: Path | None) -> str:
    return path.read_text().strip() if path else ""


async def run(options: argparse.Namespace, folder: Path, stopping: asyncio.Event) -> None:
    """Everything that was asked for; `folder` is for certificates that are not kept."""
    site = _site(options)
    certificates = options.certificates or folder
    certificates.mkdir(parents=True, exist_ok=True)
    async with running(site, tls_folder=certificates if options.tls else None) as simulator:
        control = web.AppRunner(Control(simulator).application(), access_log=None, shutdown_timeout=0.5)
        await control.setup()
        listener = web.TCPSite(control, "127.0.0.1", options.control_port)
        await listener.start()
        port: int = control.addresses[0][1]
        beside = [asyncio.create_task(each) for each in _beside(site, options)]
        _announce(simulator, port, options)
        try:
            await stopping.wait()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await control.cleanup()


def _beside(site: Site, options: argparse.Namespace) -> Iterator[Coroutine[None, None, None]]:
    """What goes on by itself, where it was asked for."""
    layout = Layout(options.layout)
    if options.record_from:
        yield Folder(site, options.record_from, layout).follow()
    if options.edge_from:
        edge = Folder(site, options.edge_from, layout, to_edge=True)
        site.edge_look = edge.look
        yield edge.follow()
    if options.retention_minutes:
        yield _retain(site, timedelta(minutes=options.retention_minutes))


async def _retain(site: Site, kept: timedelta) -> None:
    site.retention.storage_minutes = site.retention.archive_minutes = round(kept / timedelta(minutes=1))
    while True:
        site.media.purge(site.now(), kept)
        await asyncio.sleep(10)


def _announce(simulator: Simulator, control_port: int, options: argparse.Namespace) -> None:
    site = simulator.site
    told = {
        "url": site.url,
        "recorder": site.web_server_uri,
        "control": f"http://127.0.0.1:{control_port}",
        "ca_file": str(simulator.certificates.ca_file) if simulator.certificates else None,
        "user": site.user,
        "cameras": {camera.name: str(camera.id) for camera in site.cameras},
        "retrieval_event": str(RETRIEVAL_EVENT),
    }
    if options.announce is None:
        print(_settings(told, options), flush=True)
        return
    draft = options.announce.with_suffix(".draft")
    draft.write_text(json.dumps(told))
    os.replace(draft, options.announce)


def _settings(told: Mapping[str, Any], options: argparse.Namespace) -> str:
    """What to paste into the daemon's settings."""
    password = (
        f"  password_file: {options.password_file}"
        if options.password_file
        else ("  password: simulated password")
    )
    lines = [
        f"# {_ABOUT}",
        f"# management server {told['url']}, recorder {told['recorder']}, control port {told['control']}",
        "mode: BOTH   # or MILESTONE",
        "milestone:",
        f"  url: {told['url']}",
        f"  ca_file: {told['ca_file']}" if told["ca_file"] else "  allow_plain_http: true",
        f"  username: {told['user']}",
        password,
        "  camera_map:",
        *(f"    {name}: {camera}" for name, camera in told["cameras"].items()),
    ]
    if options.rule_minutes:
        lines.append(f"  retrieval_event_id: {told['retrieval_event']}   # with ingest: event_retrieval")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
