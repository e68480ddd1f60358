"""`cctv-storaged doctor` and XProtect: each camera of this host once, with a remedy that can be followed."""

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from cctv_storaged.cli_doctor import doctor
from cctv_storaged.clock import SystemClock
from cctv_storaged.config import load_settings
from cctv_storaged.doctoring import folders, milestone
from cctv_storaged.doctoring.finding import Finding, Verdict
from cctv_storaged.journal.cameras import footage_in
from cctv_storaged.wiring import configured_cameras, open_vms
from tests.services.ports import kept_port
from tests.services.rig import opened
from tests.services.xprotect import PROJECT, SimulatedSite, simulator

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def site() -> Iterator[SimulatedSite]:
    with simulator(["gate", "yard"]) as running:
        yield running


@pytest.fixture(scope="module")
def secure_site() -> Iterator[SimulatedSite]:
    with simulator(["gate"], tls=True) as running:
        yield running


def record(tmp_path: Path, *cameras: str) -> None:
    for camera in cameras:
        day = tmp_path / "recordings" / camera / "2026-03-14"
        day.mkdir(parents=True)
        (day / "11-00-00.ts").touch()


async def looked_at(tmp_path: Path, block: Mapping[str, Any]) -> list[Finding]:
    """What doctor finds of XProtect."""
    path = tmp_path / "config.yaml"
    settings = {
        "data_dir": str(tmp_path / "data"),
        "recorders": [{"path": str(tmp_path / "recordings"), "layout": "{camera}/%Y-%m-%d/%H-%M-%S.ts"}],
        "mode": "BOTH",
        "milestone": dict(block),
    }
    path.write_text(yaml.safe_dump(settings))
    loaded = load_settings(path, {})
    vms = open_vms(loaded, SystemClock())
    assert vms is not None and loaded.milestone is not None
    try:
        return await milestone.site(vms, loaded, loaded.milestone, configured_cameras(loaded), NOW)
    finally:
        await vms.close()


def about(found: list[Finding], camera: str) -> list[Verdict]:
    return [each.verdict for each in found if each.part == f"Milestone camera {camera}"]


async def test_a_camera_that_records_here_and_is_not_in_the_map_is_found(
    tmp_path: Path, site: SimulatedSite
) -> None:
    record(tmp_path, "gate", "forgotten")
    (tmp_path / "recordings" / "lost+found").mkdir()
    (tmp_path / "recordings" / "new").mkdir()
    names = {"gate": "gate", "new": "yard", "gaet": "yard"}
    found = await looked_at(tmp_path, site.settings(names))
    assert about(found, "gate") == [Verdict.OK]
    assert about(found, "forgotten") == [Verdict.FAIL], "the daemon would prove nothing of it"
    assert about(found, "gaet") == [Verdict.WARN], "a slip in the map"
    assert about(found, "new") == [Verdict.OK], "its first footage is to come"
    assert about(found, "lost+found") == [], "no camera"
    coverage = next(each for each in found if each.part == "Milestone coverage")
    assert "keep up" not in coverage.text, "none was compared"


async def test_a_camera_known_from_its_footage_alone_is_read_of_a_closed_journal(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        segment = await rig.recorded(0)
        file = next(tmp_path.rglob("journal.db"))
    assert [each.id for each in footage_in(file)] == [segment.camera_id]
    assert footage_in(tmp_path / "none.db") == []


async def test_a_name_that_xprotect_does_not_know_is_told_once(tmp_path: Path, site: SimulatedSite) -> None:
    record(tmp_path, "gate", "yard")
    block = site.settings({"gate": "gate"})
    block["camera_map"]["yard"] = "name:Nowhere"
    assert about(await looked_at(tmp_path, block), "yard") == [Verdict.FAIL]


async def test_an_authority_that_is_not_known_is_answered_by_the_ca_file(
    tmp_path: Path, secure_site: SimulatedSite
) -> None:
    block = secure_site.settings()
    del block["ca_file"]
    (found,) = await looked_at(tmp_path, block)
    assert "certificate is refused" in found.text
    assert "milestone.ca_file" in found.remedy


async def test_another_http_server_has_the_url_doubted(tmp_path: Path, site: SimulatedSite) -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        block = site.settings() | {"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        (found,) = await looked_at(tmp_path, block)
    finally:
        await runner.cleanup()
    assert "milestone.url" in found.remedy


async def test_where_there_is_no_tls_none_is_talked_of(tmp_path: Path, site: SimulatedSite) -> None:
    with kept_port() as port:
        block = site.settings() | {"url": f"http://127.0.0.1:{port}"}
        (found,) = await looked_at(tmp_path, block)
    assert "ssl" not in found.text.lower()
    assert "127.0.0.1" in found.text


def test_every_chapter_that_a_message_refers_to_is_there() -> None:
    named = set()
    for source in (PROJECT / "src").rglob("*.py"):
        text = re.sub(r'"\s*\n\s*f?"', "", source.read_text())
        named |= set(re.findall(r"(docs/[\w/-]+\.md), ([A-Z][^)\"]+)", text))
    assert named
    for page, chapter in named:
        assert f"\n## {chapter}\n" in (PROJECT / page).read_text(), (page, chapter)


def test_a_disk_is_as_full_as_the_daemon_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data")}))
    block = {"f_frsize": 10**6, "f_blocks": 100_000, "f_bfree": 10_000, "f_bavail": 5_000, "f_flag": 0}
    more = {"f_files": 100, "f_favail": 100}
    disk = type("disk", (), block | more)
    monkeypatch.setattr("os.statvfs", lambda of: disk)
    (room,) = (each for each in folders._rooms(load_settings(path, {})))
    assert "5.3%" in room.text, "of what users may have, as in /capacity"
    assert room.verdict is not Verdict.OK


def test_the_last_line_counts_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data")}))
    doctor(Namespace(json=False), load_settings(path, {}))
    lines = capsys.readouterr().out.splitlines()
    warned, failed = (sum(line.startswith(word) for line in lines) for word in ("WARN", "FAIL"))
    looked = sum(line.startswith(("OK ", "WARN", "FAIL")) for line in lines)
    assert lines[-1] == f"{looked} looked at, {failed} wrong, {warned} warning{'' if warned == 1 else 's'}"
