"""`cctv-storaged doctor`: what is wrong with a host is named, with what mends it."""

import asyncio
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from cctv_storaged.config import load_settings
from cctv_storaged.doctoring import host
from cctv_storaged.doctoring.finding import Verdict
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.schema import damage_in
from tests.daemon import ANY_ROOM, PROJECT, Daemon
from tests.services.ports import free_port
from tests.services.postgres import PostgresDatabase
from tests.services.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer
from tests.services.xprotect import PASSWORD, simulator

WRONG = "a-secret-nobody-may-see"


def settings_file(tmp_path: Path, more: Mapping[str, object]) -> Path:
    (tmp_path / "recordings" / "gate").mkdir(parents=True, exist_ok=True)
    settings = {
        "data_dir": str(tmp_path / "data"),
        "recorders": [{"path": str(tmp_path / "recordings")}],
        "capacity": ANY_ROOM,
        **more,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def doctor(tmp_path: Path, more: Mapping[str, object] = {}, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cctv_storaged", "doctor", "--config", settings_file(tmp_path, more)],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src"), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def failures(printed: str) -> dict[str, str]:
    """What fails, and the remedy on the line below."""
    lines = printed.splitlines()
    return {line: below for line, below in pairwise(lines) if line.startswith("FAIL")}


def test_a_host_on_the_embedded_default_is_found_well(tmp_path: Path) -> None:
    code, printed, complaints = doctor(tmp_path)
    assert (code, complaints) == (0, "")
    assert not failures(printed)
    assert "recorder root" in printed
    assert "PostgreSQL: is not configured" in printed
    assert not (tmp_path / "data").exists(), "a look makes nothing"


def test_a_store_folder_that_the_daemon_will_make_is_only_warned_of(tmp_path: Path) -> None:
    """It may be where a disk is to be mounted."""
    (tmp_path / "file").touch()
    for where, code in (("store", 0), ("file/store", 1)):
        found = doctor(tmp_path, {"backend": "FILESYSTEM", "filesystem": {"path": str(tmp_path / where)}})
        assert found[0] == code, found[1]
        assert ("WARN" in found[1] and "mount it first" in found[1]) == (code == 0)
        assert not (tmp_path / "store").exists()


def test_each_thing_that_is_wrong_is_named_with_what_mends_it(tmp_path: Path, seaweed: SeaweedServer) -> None:
    more = {
        "recorders": [{"path": str(tmp_path / "not-mounted")}],
        "backend": "S3",
        "s3": {
            "endpoint_url": seaweed.url,
            "access_key": "nobody",
            "secret_key": WRONG,
            "bucket_recordings": seaweed.create_bucket().name,
        },
        "postgres": {"host": "127.0.0.1", "port": free_port(), "db": "d", "user": "u", "password": WRONG},
    }
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "journal.db").write_bytes(b"no journal at all" * 1000)
    code, printed, _ = doctor(tmp_path, more, PATH="/nowhere")
    assert code == 1
    found = failures(printed)
    for part in ("not-mounted", "S3 at", "PostgreSQL at", "journal", "ffmpeg", "ffprobe"):
        assert any(part in line for line in found), (part, printed)
    assert all(below.strip().startswith("→") for below in found.values())
    assert WRONG not in printed


def test_a_store_and_a_database_that_work_are_found_well(
    tmp_path: Path, seaweed: SeaweedServer, postgres_database: PostgresDatabase
) -> None:
    database = postgres_database
    more = {
        "backend": "MINIO",
        "minio": {
            "endpoint": seaweed.endpoint,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "bucket_recordings": seaweed.create_bucket().name,
        },
        "postgres": {
            "host": database.host,
            "port": database.port,
            "db": database.name,
            "user": database.user,
            "password": database.password,
            "ssl": "disable",
        },
    }
    code, printed, _ = doctor(tmp_path, more)
    assert code == 0, printed
    assert "answers; it can: " in printed
    assert "its schema is this version's" in printed


def test_milestone_is_looked_at_camera_by_camera(tmp_path: Path) -> None:
    with simulator(["gate", "yard"]) as site:
        more: dict[str, Any] = {"mode": "BOTH", "milestone": site.settings({"gate": "gate"})}
        code, printed, _ = doctor(tmp_path, more)
        assert code == 0, printed
        assert f"Milestone camera gate: is gate ({site.cameras['gate']})" in printed
        more["milestone"]["camera_map"]["door"] = "name:Nowhere"
        code, printed, _ = doctor(tmp_path, more)
        assert code == 1
        assert any("Milestone camera door" in line for line in failures(printed)), printed
        site.faults(management="refused")
        code, printed, _ = doctor(tmp_path, more)
        assert code == 1
        assert any("Milestone at" in line for line in failures(printed)), printed
        assert PASSWORD not in printed


def test_beside_a_running_daemon_the_journal_is_left_to_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "journal.db").touch()
    with (data_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, printed, _ = doctor(tmp_path)
    assert code == 0, printed
    assert "in use by a running daemon" in printed


async def closed_journal(folder: Path) -> None:
    async with await Journal.open(folder, "test-host", datetime.now(UTC)):
        pass


def test_a_daemon_starts_while_its_journal_is_read(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(closed_journal(daemon.data_dir))
    settings = load_settings(settings_file(daemon.folder, {"data_dir": str(daemon.data_dir)}), {})
    assert "is sound" in host.journal(settings).text
    assert sorted(each.name for each in daemon.data_dir.iterdir()) == ["journal.db", "lock"], (
        "nothing is made"
    )

    def interrupted(connection: sqlite3.Connection, *, whole: bool) -> str | None:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        daemon.start()
        return damage_in(connection, whole=whole)

    monkeypatch.setattr(host, "damage_in", interrupted)
    found = host.journal(settings)
    assert (found.verdict, found.text) == (Verdict.OK, host.IN_USE)


def test_a_journal_that_was_not_closed_is_left_to_the_next_daemon(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        (data_dir / name).touch()
    code, printed, _ = doctor(tmp_path)
    assert code == 0, printed
    assert "was not closed by its last daemon" in printed


def test_a_script_reads_the_findings_as_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cctv_storaged", "doctor", "--json", "--config", settings_file(tmp_path, {})],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        timeout=120,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert {"part", "verdict", "text", "remedy"} == set(found[0])
