"""T-31: the wall clock jumps by 400 days, while the daemon's parts run and between its starts.

What libfaketime leaves alone is what a wrong wall clock leaves alone: the boot clock (thanks to
DONT_FAKE_MONOTONIC=1, which holds for CLOCK_BOOTTIME too), /proc, the kernel's word on synchronisation, and
the stamps of files. A reboot, and a clock that NTP sets right, are tests/unit/test_clock_trust.py's.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import PROJECT
from tests.footage import cached_ts
from tests.integration.api.harness import SECONDS

pytestmark = pytest.mark.timeout(400)

STEPS = (
    "ahead while running",
    "back",
    "behind while running",
    "back again",
    "started +400 days off",
    "started -400 days off",
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What every step came to."""
    folder = tmp_path_factory.mktemp("clock")
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    assert library is not None, "install the Debian package faketime (scripts/setup test does)"
    clock = folder / "off"
    clock.write_text("+0\n")
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # The film is made by this process: waiting for ffmpeg is what libfaketime breaks in Python.
        "PYTEST_XDIST_TESTRUNUID": os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid())),
    }
    cached_ts(seconds=SECONDS)
    (folder / "host").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.clock_jumps", str(folder / "host"), str(clock)],
        cwd=PROJECT,
        env={**os.environ, **faked},
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    return {step.pop("step"): step for step in steps}


@pytest.mark.parametrize("step", STEPS)
def test_nothing_goes_while_a_clock_is_wrong_nor_when_it_is_right_again(
    told: dict[str, dict[str, Any]], step: str
) -> None:
    facts, before = told[step], told["before"]
    assert (facts["distrust"] is None) == step.startswith("back")
    assert (facts["gone"], facts["tombstones"], facts["removals"], facts["sources"]) == ([], 0, 0, 0)
    assert all(facts["rows"][table] >= before["rows"][table] for table in before["rows"])
    assert facts["delivered"] == "verified", "normal work goes on; what was put off for half a minute too"


def test_the_same_jobs_do_delete_once_somebody_says_that_the_time_has_passed(
    told: dict[str, dict[str, Any]],
) -> None:
    """The export's week is over then; sources have a grace of their own from that moment on."""
    facts = told["confirmed"]
    assert facts["distrust"] is None
    assert [Path(path).suffix for path in facts["gone"]] == [".mp4"]
    assert (facts["removals"], facts["sources"]) == (1, 0)
    assert (told["answers"]["status"], told["answers"]["distrust"]) == (200, None)


def test_every_step_is_written_down_those_between_two_processes_too(told: dict[str, dict[str, Any]]) -> None:
    assert told["answers"]["steps"] == [400, -400, -400, 400, 400, -800, 800]
