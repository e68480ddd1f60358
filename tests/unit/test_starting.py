"""A start may take long, and the service manager hears that it goes on; one that cannot be says why."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from cctv_storaged import daemon
from cctv_storaged.systemd import ServiceManager
from tests.daemon import PROJECT


async def test_a_long_start_asks_for_time_again_and_again_and_stops_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A journal of gigabytes that was not closed is read whole; one grant would run out before the end."""
    monkeypatch.setattr(daemon, "START_SIGN_S", 0.01)
    heard: list[str] = []
    manager = ServiceManager({"NOTIFY_SOCKET": "there"}, notify=heard.append)
    async with asyncio.timeout(30), daemon._time_to_start(manager):
        while len(heard) < 3:
            await asyncio.sleep(0.01)
    assert set(heard) == {f"EXTEND_TIMEOUT_USEC={daemon.START_GRANT_S * 1e6:.0f}"}
    asked = len(heard)
    await asyncio.sleep(0.05)
    assert len(heard) == asked


def start_with(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "config.yaml"
    config.write_text(f"{text}\napi: {{port: 0}}\nlog_format: plain\n")
    return subprocess.run(
        [sys.executable, "-m", "cctv_storaged", "run", "--config", str(config)],
        env={"PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("folder", ["/proc/cctv", "/sys/cctv"])  # neither can be made, by root neither
def test_a_data_dir_that_cannot_be_made_is_told_with_setting_reason_and_remedy(
    tmp_path: Path, folder: str
) -> None:
    """Exit code 3: another time it may be there, and the unit tries again."""
    ended = start_with(tmp_path, f"data_dir: {folder}")
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert f"data_dir: the folder {folder} cannot be made: " in line
    assert line.endswith("or name another folder)")
    assert "Errno" not in line


def test_a_file_where_a_folder_of_ours_belongs_is_told_as_a_fault_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").touch()
    ended = start_with(tmp_path, f"data_dir: {tmp_path}/data")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert (
        f"filesystem.path: the folder {tmp_path}/data/store cannot be made: File exists (a file has" in line
    )
