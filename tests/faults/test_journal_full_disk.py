"""A full disk (T-15): no crash, nothing acknowledged lost, and work goes on by itself when there is room."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cctv_storaged.journal.ballast import Ballast
from tests.faults.journal_processes import PROJECT, environment

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def life_on(folder: Path, kind: str, *wrapper: str) -> dict[str, Any]:
    """Runs the whole life in a process of its own and returns what it told."""
    argv = [*wrapper, sys.executable, "-m", "tests.faults.journal_full_disk", str(folder), kind]
    child = subprocess.run(
        argv, capture_output=True, text=True, timeout=150, cwd=PROJECT, env=environment(), check=False
    )
    assert child.returncode == 0, child.stderr
    told: dict[str, Any] = json.loads(child.stdout)
    return told


def small_disk(size: str, folder: Path) -> list[str]:
    """A file system of its own in a mount namespace of its own, for which user namespaces are enough."""
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, "sh", size, str(folder)]


@pytest.mark.parametrize("size", ["3m", "4m"])
def test_a_full_disk_stops_nothing_for_good(tmp_path: Path, size: str) -> None:
    told = life_on(tmp_path, "disk", *small_disk(size, tmp_path))
    assert told["reserve_laid"] and told["reserve_given_up"]
    assert told["with_reserve"] + told["after_reserve"] > 60, "log and reserve let work go on for a while"
    assert told["after_reserve"] > 0
    assert told["full"] and told["refused_in_a_row"] == 5 and not told["broken"]
    assert told["reads_while_full"] and told["opens_while_full"] and told["damage"] is None
    assert not told["full_after_clearing"] and told["safe_after_clearing"]
    assert told["reserve_laid_again"]
    assert told["safe_at_the_end"] and not told["unclean_at_the_end"] and told["segments"] > 60


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    told = life_on(tmp_path, "limit")
    assert told["full"] and told["refused_in_a_row"] == 5 and not told["broken"]
    assert told["reads_while_full"] and told["opens_while_full"] and told["damage"] is None
    assert not told["full_after_clearing"] and told["safe_after_clearing"]
    assert told["safe_at_the_end"] and not told["unclean_at_the_end"]


# The reserve


def test_a_reserve_takes_its_room_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    ballast = Ballast(path, 1_000_000)
    assert ballast.wanted and not path.exists()
    ballast.restore()
    assert path.stat().st_blocks * 512 >= 1_000_000 and not ballast.wanted
    assert ballast.release() and not path.exists()
    assert not ballast.release() and ballast.wanted


def test_a_reserve_that_lies_there_is_taken_over_and_another_size_is_not(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    Ballast(path, 1_000_000).restore()
    assert not Ballast(path, 1_000_000).wanted
    assert Ballast(path, 2_000_000).wanted and not path.exists()
    path.write_bytes(b"half laid")
    os.truncate(path, 1_000_000)  # a hole, as a kill in the midst may leave it
    assert Ballast(path, 1_000_000).wanted
    Ballast(path, 1_000_000).restore()
    assert not Ballast(path, 0).wanted and not path.exists()


def test_a_reserve_is_not_what_fills_the_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    ballast = Ballast(tmp_path / "reserve", free // 2)
    ballast.restore()
    assert not ballast.wanted and not (tmp_path / "reserve").exists()


def test_a_file_system_that_cannot_reserve_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    ballast = Ballast(tmp_path / "reserve", 1000)
    ballast.restore()
    ballast.restore()
    assert not ballast.wanted and not (tmp_path / "reserve").exists()
    assert caplog.text.count("no reserve for the journal") == 1
