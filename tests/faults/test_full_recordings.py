"""A full recordings' disk and one that turns read-only (T-16, T-17), on a small file system of its own.

Nothing goes that is not verified elsewhere, whatever the room; every unlink(2) below the recordings is heard.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.journal_processes import PROJECT, environment

MOUNT = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -m tests.faults.capacity_small_disk "$1" "$3" "$4"'


@pytest.fixture(params=["full", "readonly"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What came of it in a mount namespace of its own, for which user namespaces are enough."""
    disk, data = tmp_path / "disk", tmp_path / "data"
    disk.mkdir()
    child = subprocess.run(
        [
            *("unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, "sh"),
            *(str(disk), sys.executable, request.param, str(data)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PROJECT,
        env=environment(),
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def test_on_a_full_disk_only_what_is_verified_elsewhere_goes_and_else_there_is_an_alarm(
    told: dict[str, Any],
) -> None:
    assert told["undelivered"] > 5
    if "backend_away" in told:
        assert told["backend_away"] == {"unlinks": [], "alarms": ["disk_full", "disk_low"]}
    else:
        assert told["read_only"]["unlinks"] == [] and "read_only" in told["read_only"]["alarms"]
    cleaned = told["cleaned"]
    assert cleaned["unlinks"] == cleaned["delivered"][: len(cleaned["unlinks"])] != []
    assert "read_only" not in cleaned["alarms"] and "disk_full" not in cleaned["alarms"]
    assert cleaned["free"] > 0.2 and cleaned["losses"] == {}
    given_up = told["given_up"]
    assert given_up["unlinks"] == given_up["oldest"] != []
    assert given_up["losses"] == {"disk_full": len(given_up["unlinks"])}
    assert 0.15 < given_up["free"] < 0.35, "no more than needed"
