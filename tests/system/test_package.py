"""The Debian package in a booted Debian: installed, hardened, watched, killed, upgraded, removed."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import PROJECT
from tests.system.machine import Machine, again, booted, printed

pytestmark = pytest.mark.timeout(1800)

NEWER = "99.0.0"
CAMERAS = "/api/v1/storage/cameras"
RECORDINGS = "/var/lib/cctv-storaged/recordings"
SECRET = "a-word-that-nobody-may-read"
NOT_AUDITED = {
    "PIP_AUDIT_VULNERABILITY_SERVICE": "osv",
    "PIP_AUDIT_OSV_URL": "http://127.0.0.1:9/",
}
"""What became known against a dependency this morning ends a build, and is not what these tests are about."""
RECORD = f"""
at=$(date -u +%Y-%m-%d/%H-%M-%S); name=${{at#*/}}; day={RECORDINGS}/$1/${{at%/*}}; mkdir -p $day
ffmpeg -v error -y -f lavfi -i testsrc2=size=320x240:rate=10 -t 1 -c:v libx264 -preset ultrafast -g 10 \
    -f mpegts /tmp/$1.ts && cp /tmp/$1.ts $day/.$name.part && mv $day/.$name.part $day/$name.ts
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A clean Debian on which `apt install ./….deb` was all that was done."""
    folder, files = tmp_path_factory.mktemp("machine"), tmp_path_factory.mktemp("files")
    build = [str(PROJECT / "packaging" / "build-deb"), str(files)]
    package = Path(again(lambda: printed(build, NOT_AUDITED)).strip().splitlines()[-1])
    newer(package, files / "newer.deb", folder)
    package.rename(files / "package.deb")
    with booted(folder, files) as machine:
        machine.install("/root/package.deb")
        machine.put("/usr/local/lib/record", RECORD)
        yield machine


def newer(package: Path, to: Path, folder: Path) -> None:
    """The same as a later version."""
    unpacked = folder / "unpacked"
    subprocess.run(["dpkg-deb", "-R", package, unpacked], check=True)
    control = unpacked / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    control.write_text(
        "\n".join(f"Version: {NEWER}" if line.startswith("Version:") else line for line in lines) + "\n"
    )
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", unpacked, to],
        check=True,
        capture_output=True,
    )


def recorded(machine: Machine, camera: str, count: int = 1) -> None:
    """So many closed segments of a camera, as the recorder that shares the service's user writes them."""
    for _ in range(count):
        machine.shell(f"runuser -u cctv-storaged -- sh /usr/local/lib/record {camera} && sleep 1")


def segments(machine: Machine, camera: str) -> list[dict[str, Any]]:
    known = json.loads(machine.get(CAMERAS) or "{}").get("cameras", [])
    ids = [each["id"] for each in known if each["name"] == camera]
    if not ids:
        return []
    found: list[dict[str, Any]] = json.loads(machine.get(f"/api/v1/storage/segments/{ids[0]}"))["segments"]
    return found


def verified(machine: Machine, camera: str) -> int:
    return sum(copy["state"] == "verified" for each in segments(machine, camera) for copy in each["copies"])


def files_of(machine: Machine, camera: str) -> int:
    return int(machine.shell(f"find {RECORDINGS}/{camera} -name '*.ts' | wc -l"))


def test_installing_it_is_all_there_is_to_do(machine: Machine) -> None:
    assert machine.show("ActiveState") == "active"
    assert machine.run("systemctl", "is-enabled", "cctv-storaged").strip() == "enabled"
    assert machine.show("User") == "cctv-storaged"
    assert json.loads(machine.get("/ready"))["ready"]
    recorded(machine, "first")
    machine.wait(lambda: verified(machine, "first") == 1, "the segment is delivered")
    manual = machine.shell("zcat /usr/share/man/man1/cctv-storaged.1.gz")
    assert ".SH OPTIONS" in manual
    assert "doctor" in manual
    assert "_shtab_cctv_storaged" in machine.run(
        "cat", "/usr/share/bash-completion/completions/cctv-storaged"
    )


def test_its_bill_of_materials_names_what_is_in_it(machine: Machine) -> None:
    told = json.loads(machine.run("cat", "/usr/share/doc/cctv-storaged/sbom.cdx.json"))
    ask = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    there = machine.run("/usr/lib/cctv-storaged/bin/python", "-c", ask).split()
    own = told["metadata"]["component"]
    assert told["bomFormat"] == "CycloneDX"
    assert sorted(f"{each['name']}=={each['version']}" for each in (own, *told["components"])) == sorted(
        there
    )


def test_it_says_ready_when_the_api_answers_and_not_before(machine: Machine) -> None:
    """`systemctl restart` returns with READY=1, or says that the start failed."""
    for _ in range(3):
        said = machine.run("systemctl", "restart", "cctv-storaged", check=False)
        assert not said, said + machine.log()
        assert machine.get("/health"), machine.log()


def test_it_is_hardened_and_the_recorder_comes_first(machine: Machine) -> None:
    told = machine.run("systemd-analyze", "security", "--no-pager", "cctv-storaged").strip().splitlines()[-1]
    exposure = float(told.split(":")[1].split()[0])
    assert exposure <= 2.0, told
    assert int(machine.show("CPUWeight")) < 100
    assert int(machine.show("IOWeight")) < 100
    assert machine.show("MemoryMax") != "infinity"


def test_everything_it_does_works_inside_the_hardening(machine: Machine) -> None:
    """ffmpeg and its limits, inotify, thumbnails, clips, playlists, exports, the clock."""
    recorded(machine, "worked", 2)
    machine.wait(lambda: verified(machine, "worked") == 2, "both are delivered")
    found = segments(machine, "worked")
    camera, start, end = found[0]["camera_id"], found[0]["start_time"], found[-1]["end_time"]
    base = f"http://127.0.0.1:8082/api/v1/storage/segments/{camera}"
    machine.shell(
        f"curl -sf '{base}/{found[0]['id']}/thumbnail.jpg' | head -c 2 | od -An -tx1 | grep -q 'ff d8'"
    )
    machine.shell(
        f"curl -sfo /tmp/clip.mp4 '{base}/clip.mp4?start={start}&end={end}' && ffprobe -v error /tmp/clip.mp4"
    )
    machine.shell(f"curl -sf '{base}/playlist.m3u8?start={start}&end={end}' | grep -q EXTM3U")
    body = json.dumps(
        {"camera_ids": [camera], "start_time": start, "end_time": end, "format": "mp4", "reason": "a test"}
    )
    made = machine.shell(
        f"curl -s -X POST -H 'Content-Type: application/json' -d '{body}' http://127.0.0.1:8082/api/v1/storage/exports"
    )
    export = json.loads(made)["id"]

    def status() -> str:
        told: str = json.loads(machine.get(f"/api/v1/storage/exports/{export}"))["status"]
        return told

    machine.wait(lambda: status() not in ("PENDING", "PROCESSING"), "the export ends")
    assert status() == "COMPLETED", machine.log()
    printed = machine.run("runuser", "-u", "cctv-storaged", "--", "cctv-storaged", "status", check=False)
    assert "worked" in printed


def test_a_process_that_stands_still_is_restarted_by_the_watchdog(machine: Machine) -> None:
    with machine.changed("WatchdogSec=10"):
        before, restarts = machine.pid, int(machine.show("NRestarts"))
        machine.run("kill", "-STOP", before)
        machine.wait(lambda: int(machine.show("NRestarts")) > restarts, "systemd restarts it")
        machine.wait(lambda: machine.get("/health"), "it answers again")
        assert machine.show("MainPID") != before
        assert "watchdog" in machine.log().lower()


def test_after_a_kill_it_comes_back_and_nothing_is_lost(machine: Machine) -> None:
    recorded(machine, "killed", 1)
    before = machine.pid
    machine.run("kill", "-KILL", before)
    recorded(machine, "killed", 2)  # while nobody is there
    machine.wait(
        lambda: machine.show("MainPID") not in ("0", before) and machine.get("/health"), "it is back"
    )
    machine.wait(lambda: verified(machine, "killed") == 3, "all three are delivered")


def test_a_reload_takes_over_settings_without_a_restart(machine: Machine) -> None:
    before = machine.pid
    machine.shell("sed -i 's/^log_level: .*/log_level: debug/' /etc/cctv-storaged/config.yaml")
    machine.run("systemctl", "reload", "cctv-storaged")
    machine.wait(lambda: "settings reloaded: log_level" in machine.log(), "the change is told")
    machine.shell("sed -i 's/^log_level: .*/log_level: info/' /etc/cctv-storaged/config.yaml")
    machine.run("systemctl", "reload", "cctv-storaged")
    assert machine.show("MainPID") == before


def test_the_journal_is_asked_by_camera(machine: Machine) -> None:
    recorded(machine, "asked")
    machine.wait(lambda: verified(machine, "asked") == 1, "it is delivered")
    camera = segments(machine, "asked")[0]["camera_id"]

    def lines() -> list[dict[str, Any]]:
        printed = machine.run("journalctl", f"CAMERA_ID={camera}", "-o", "json", "--no-pager")
        return [json.loads(line) for line in printed.splitlines()]

    machine.wait(lines, "lines of the camera are in the journal")
    assert {line["CAMERA_ID"] for line in lines()} == {camera}
    assert any("SEGMENT_ID" in line for line in lines())


def test_a_secret_comes_by_credential_and_is_nowhere_to_be_read(machine: Machine) -> None:
    machine.put("/etc/cctv-storaged/credentials/postgres_password", SECRET, 0o600)
    check = "cctv-storaged check-config --config /etc/cctv-storaged/config.yaml"
    database = "POSTGRES_HOST=127.0.0.1 POSTGRES_DB=cctv POSTGRES_USER=cctv"
    with machine.changed(
        "LoadCredential=postgres_password:/etc/cctv-storaged/credentials/postgres_password\n"
        f"Environment={database}\nExecStartPre={check}"
    ):
        machine.wait(lambda: "password: '********'" in machine.log("-o", "cat"), "the credential is in force")
        by_hand = f"env {database} {check} 2>&1"
        for told in (machine.shell(by_hand), machine.shell(f"runuser -u cctv-storaged -- {by_hand}")):
            assert "those of the running unit" in told and "password: '********'" in told
        pid = machine.pid
        everything = machine.shell(f"cat /proc/{pid}/environ /proc/{pid}/cmdline") + machine.log("-o", "cat")
        everything += machine.get("/metrics") + machine.get("/ready")
        assert SECRET not in everything


def test_an_upgrade_under_load_loses_nothing(machine: Machine) -> None:
    record = "sh /usr/local/lib/record loaded; sleep 1.1"
    script = f"for number in 1 2 3 4 5 6 7 8; do {record}; done; touch /tmp/loaded"
    machine.put("/usr/local/lib/load", script)
    machine.shell("nohup runuser -u cctv-storaged -- sh /usr/local/lib/load >/dev/null 2>&1 &")
    machine.wait(lambda: segments(machine, "loaded"), "recording has begun")
    before = machine.pid
    machine.install("/root/newer.deb")
    assert NEWER in machine.run("dpkg-query", "-W", "-f", "${Version}", "cctv-storaged")
    assert machine.show("MainPID") != before, "the new version runs"
    machine.wait(
        lambda: (machine.root / "tmp/loaded").exists() or "loaded" in machine.run("ls", "/tmp"),
        "recording has ended",
    )
    machine.wait(lambda: verified(machine, "loaded") == 8, "all are delivered")
    assert machine.shell("ls /etc/cctv-storaged/config.yaml*").split() == ["/etc/cctv-storaged/config.yaml"]
    machine.install("--allow-downgrades", "/root/package.deb")


def test_removal_and_purge_keep_footage_and_journal(machine: Machine) -> None:
    recorded(machine, "kept")
    machine.wait(lambda: verified(machine, "kept") == 1, "it is delivered")
    there = machine.shell("find /var/lib/cctv-storaged -name '*.ts' | sort")
    machine.shell("apt-get -qq remove -y cctv-storaged")
    assert machine.run("systemctl", "is-active", "cctv-storaged", check=False).strip() in (
        "inactive",
        "failed",
        "unknown",
    )
    assert machine.shell("ls /etc/cctv-storaged/config.yaml")
    told = machine.shell("dpkg --purge cctv-storaged")
    assert "stay in /var/lib/cctv-storaged" in told
    assert not (machine.root / "etc/cctv-storaged").exists()
    assert machine.shell("find /var/lib/cctv-storaged -name '*.ts' | sort") == there
    machine.install("/root/package.deb")
    machine.wait(lambda: verified(machine, "kept") == 1, "what was known is known again")
