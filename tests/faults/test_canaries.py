"""One secret of each kind, the daemon made to fail and to succeed, and none of them told anywhere (T-39)."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon import PROJECT, Daemon, wait_until
from tests.footage import cached_ts
from tests.services.echo import Heard, echoing
from tests.services.ports import free_port

SECRETS = {
    "minio": "canary-minio-Kx7/+=w9",
    "s3": "canary-s3-Qm2/+=r4",
    "s3 session": "canary-session-Zt5/+=p1",
    "postgres": "canary-postgres-Hn8@:v3",
    "milestone": "canary-milestone-Bd6&=s2",
    "onvif": "canary-onvif-Lf9!j7",
}
SHIM = """#!/bin/sh
tr '\\0' '\\n' < /proc/self/environ >> "{seen}"
echo "$0 $*" >> "{seen}"
exec {real} "$@"
"""


@pytest.fixture
def peers() -> Iterator[tuple[int, int, Heard]]:
    with echoing() as found:
        yield found


def settings(http: int, postgres: int, backend: str) -> dict[str, Any]:
    """All that has a secret, at peers that say back what they are sent; the rest comes by the environment."""
    return {
        "backend": backend,
        "mode": "BOTH",
        "log_level": "debug",
        "minio": {"endpoint": f"127.0.0.1:{http}", "access_key": "ak", "secret_key": SECRETS["minio"]},
        "s3": {
            "endpoint_url": f"http://127.0.0.1:{http}",
            "access_key": "ak",
            "session_token": SECRETS["s3 session"],
            "bucket_recordings": "cctv",
        },
        "postgres": {"host": "127.0.0.1", "port": postgres, "ssl": "prefer"},
        "milestone": {
            "url": f"http://127.0.0.1:{http}",
            "allow_plain_http": True,
            "username": "svc",
            "retry": {"initial_s": 0.2, "max_s": 0.5},
            "settle_s": 1,
            "onvif": {
                "enabled": True,
                "bind": "127.0.0.1",
                "http_port": free_port(),
                "rtsp_port": free_port(),
                "username": "xprotect",
                "password": SECRETS["onvif"],
            },
        },
        "exports": {"download": "presigned"},
    }


ENVIRON = {
    "S3_SECRET_KEY": SECRETS["s3"],
    "POSTGRES_PASSWORD": SECRETS["postgres"],
    "MILESTONE_PASSWORD": SECRETS["milestone"],
}


class Told:
    """Everything that somebody else than the daemon's owner gets to see."""

    def __init__(self) -> None:
        self.by_place: dict[str, str] = {}

    def add(self, place: str, text: str) -> None:
        self.by_place[place] = self.by_place.get(place, "") + text

    def leaks(self, secrets: Mapping[str, str]) -> list[tuple[str, str]]:
        """Which secret is told where, in any of the ways it may be written."""
        found = []
        for kind, secret in secrets.items():
            spellings = {secret, json.dumps(secret)[1:-1], quote(secret, safe="")}
            found += [
                (kind, place)
                for place, text in self.by_place.items()
                if any(spelling in text for spelling in spellings)
            ]
        return found


def shimmed(folder: Path, seen: Path) -> str:
    """A PATH on which ffmpeg and ffprobe tell what they were started with."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("ffmpeg", "ffprobe"):
        real = shutil.which(name)
        assert real is not None
        (tools / name).write_text(SHIM.format(seen=seen, real=real))
        (tools / name).chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


def asked(daemon: Daemon, told: Told, method: str, path: str, **more: Any) -> Any:
    status, answer = daemon.request(method, path, expect=range(200, 600), **more)
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else json.dumps(answer)
    told.add(f"{method} {path.partition('?')[0]}", text)
    return status, answer


def processes(daemon: Daemon, told: Told) -> None:
    """What the process list shows of the daemon; its environment is its owner's alone (0400)."""
    assert daemon.process is not None
    told.add("cmdline", Path(f"/proc/{daemon.process.pid}/cmdline").read_text())


def commands(daemon: Daemon, told: Told, *lines: str) -> None:
    for line in lines:
        done = subprocess.run(
            [sys.executable, "-m", "cctv_storaged", *line.split(), "--config", str(daemon.config)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT / "src"), **daemon.environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout, done.stderr
        told.add(line, done.stdout + done.stderr)


def journal_text(daemon: Daemon) -> str:
    with daemon.journal() as db:
        return "\n".join(db.iterdump())


def add_footage(daemon: Daemon) -> None:
    target = daemon.recordings / "gate" / "2026-01-01" / "10-00-00.ts"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cached_ts(), target.with_suffix(".part"))
    target.with_suffix(".part").rename(target)


WRONG = (
    ("GET", "/segments/0/clip.mp4"),
    ("GET", "/tokens"),
    ("POST", "/exports"),
    ("POST", "/queue/retry"),
    ("DELETE", "/reconcile"),
)


def test_no_secret_is_told_where_everything_fails(
    make_daemon: Callable[..., Daemon], peers: tuple[int, int, Heard], tmp_path: Path
) -> None:
    http, postgres, heard = peers
    seen, told = tmp_path / "children", Told()
    daemon = make_daemon("host", **settings(http, postgres, "MINIO"))
    daemon.environ = {**ENVIRON, "PATH": shimmed(tmp_path, seen)}
    daemon.start()
    events = urllib.request.urlopen(f"{daemon.url}/api/v1/storage/events", timeout=60)
    add_footage(daemon)
    daemon.wait_segments(1)
    wait_until(
        lambda: all(SECRETS[kind] in heard.text for kind in ("milestone", "postgres")),
        "the passwords were sent, and said back",
        details=lambda: daemon.log[-3000:],
    )
    wait_until(
        lambda: all(f"{name} is away" in daemon.log for name in ("MINIO", "catalog")),
        "store and catalog have failed; of XProtect doctor tells, by the same client",
        details=lambda: daemon.log[-3000:],
    )
    for method, path in WRONG:
        asked(daemon, told, method, path, headers={"Authorization": "Bearer cctv_" + "x" * 43})
    for path in (
        "/ready",
        "/metrics",
        "/queue",
        "/places",
        "/ledger?limit=1000",
        "/audit",
        "/retention/report",
    ):
        asked(daemon, told, "GET", path)
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in daemon.log, "reloaded", details=lambda: daemon.log[-2000:])
    processes(daemon, told)
    commands(daemon, told, "check-config", "doctor --json")
    daemon.settings["backend"] = "S3"
    daemon._write_settings()
    commands(daemon, told, "doctor")
    assert SECRETS["s3 session"] in heard.text
    assert daemon.stop() == 0
    told.add("events", events.read().decode())
    events.close()
    told.add("log", daemon.logs)
    told.add("journal", journal_text(daemon))
    told.add("children", seen.read_text() if seen.exists() else "")
    assert told.leaks(SECRETS) == [], told.leaks(SECRETS)


def test_no_secret_is_told_where_all_goes_well(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Tokens and the signing key: used, and in no log, answer, package, process or journal."""
    seen, told = tmp_path / "children", Told()
    daemon = make_daemon("host", log_level="debug")
    daemon.environ = {"PATH": shimmed(tmp_path, seen)}
    daemon.start()
    _, first = daemon.request("POST", "/tokens", body={"name": "admin", "scopes": ["admin"]})
    token = first["secret"]
    secrets = {"token": token, **signing_key(daemon)}
    headers = {"Authorization": f"Bearer {token}"}
    add_footage(daemon)

    def segment() -> list[Any]:
        _, answer = daemon.request("GET", "/cameras", headers=headers)
        return [each for each in answer["cameras"] if each["segments"]]

    wait_until(lambda: bool(segment()), "the segment", details=lambda: daemon.log[-2000:])
    camera = segment()[0]["id"]
    span = {"start": "2026-01-01T09:59:00Z", "end": "2026-01-01T10:01:00Z"}
    for path in ("playlist.m3u8", "clip.mp4", "storyboard.vtt"):
        assert asked(daemon, told, "GET", f"/segments/{camera}/{path}", query=span, headers=headers)[0] == 200
    body = {"camera_ids": [camera], "format": "mp4", "package": "evidence", "reason": "theft"}
    body |= {"start_time": span["start"], "end_time": span["end"]}
    _, export = asked(daemon, told, "POST", "/exports", body=body, headers=headers)
    where = f"/exports/{export['id']}"

    def made() -> bool:
        return bool(daemon.request("GET", where, headers=headers)[1]["status"] == "COMPLETED")

    wait_until(made, "the export", details=lambda: daemon.log[-2000:])
    for path in (
        f"{where}/manifest",
        f"{where}/download",
        "/tokens",
        "/ledger?limit=1000",
        "/audit",
        "/signing-key",
    ):
        assert asked(daemon, told, "GET", path, headers=headers)[0] == 200
    for path in ("/ready", "/metrics", f"/{token}", f"/cameras?token={token}"):
        asked(daemon, told, "GET", path)
    asked(daemon, told, "POST", f"/queue/{token}", headers=headers, body={})
    processes(daemon, told)
    assert daemon.stop() == 0
    told.add("log", daemon.logs)
    told.add("journal", journal_text(daemon))
    told.add("children", seen.read_text())
    assert told.leaks(secrets) == []
    assert re.search(r"clip|ffmpeg", told.by_place["children"]), "ffmpeg was run"


def signing_key(daemon: Daemon) -> dict[str, str]:
    """The secret half's base64, line by line."""
    lines = (daemon.data_dir / "signing-key.pem").read_text().splitlines()
    return {f"signing key {number}": line for number, line in enumerate(lines) if "-----" not in line}
