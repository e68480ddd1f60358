"""T-10: disks covered, taken away and swapped by real mounts. Nothing is deleted or missed, and it is told.

The oracle is independent: the disks' bytes, and every unlink(2) that the kernel was asked for.
"""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.daemon import PROJECT

pytestmark = pytest.mark.timeout(400)

UNLINKED = re.compile(
    r'^(?:\d+ +)?(\d+\.\d+) unlink(?:at)?\(.*"([^"]*\.ts)".*(?:= 0|<unfinished \.\.\.>)$', re.M
)
"""One that another thread cuts into is told in two lines; it counts from the first."""


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, dict[str, Any]], list[tuple[float, str]]]:
    """What every step came to, and each file of footage that was unlinked, with the moment."""
    folder = tmp_path_factory.mktemp("disks")
    trace = folder / "trace"
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-ttt", "-o", str(trace), "-e", "trace=unlink,unlinkat"]
    story = ["unshare", "--mount", sys.executable, "-m", "tests.faults.wrong_mounts", str(folder)]
    done = subprocess.run(
        [*strace, *story], cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    unlinked = [(float(at), name) for at, name in UNLINKED.findall(trace.read_text())]
    return {step.pop("step"): step for step in steps}, unlinked


@pytest.mark.parametrize(
    ("step", "sounding"),
    [
        ("an empty disk over a", ["a"]),
        ("an empty disk over store", ["store"]),
        ("nothing at a", ["a"]),
        ("a and b swapped", ["a", "b"]),
        ("a deletion without the store", ["store"]),
    ],
)
def test_on_a_wrong_disk_nothing_goes_and_nothing_is_missed(
    told: tuple[dict[str, dict[str, Any]], list[tuple[float, str]]], step: str, sounding: list[str]
) -> None:
    facts, unlinked = told[0][step], told[1]
    assert (facts["sounding"], facts["trouble"]) == (sounding, True)
    assert (facts["pruned"], facts["untouched"], facts["lost"]) == (0, True, {})
    assert facts["sources"].keys() <= {"present", "pruning"}
    assert facts["copies"].keys() <= {"verified", "deleting"}
    assert [name for at, name in unlinked if facts["span"][0] <= at <= facts["span"][1]] == []


def test_with_the_right_disks_back_all_goes_on(
    told: tuple[dict[str, dict[str, Any]], list[tuple[float, str]]],
) -> None:
    steps, unlinked = told
    assert steps["back"]["sounding"] == []
    assert (steps["afterwards"]["sounding"], steps["afterwards"]["trouble"]) == ([], False)
    assert (steps["afterwards"]["pruned"], steps["afterwards"]["lost"]) == (3, {})
    assert steps["disks"] == {"a": 0, "b": 0, "store": 3}, "one segment was deleted, three sources pruned"
    begun, ended = steps["afterwards"]["span"]
    assert len({name for at, name in unlinked if begun <= at <= ended}) == 3, "the oracle sees them"
