"""A file with a fault on every line, or a thousand recorders: the work grows with its length, not its square.

A reload reads such a file beside everything else that the daemon does.
"""

import sys
from pathlib import Path
from types import FrameType

import pytest

from cctv_storaged.config import folder_faults, load_settings
from cctv_storaged.config.places import KeyPath, KeySet
from cctv_storaged.errors import ConfigError

KEYS: list[KeyPath] = [(), ("a",), ("a", "b"), ("a", 0), ("a", 0, "b"), ("b",), ("a", "b", "c")]


@pytest.mark.parametrize(
    "line",
    ["unknown{}: 1\n", "x: 1\n", "  - {{path: /r/{}, watch: never}}\n", "  - {{path: /r/{}}}\n"],
    ids=["unknown", "twice", "wrong", "recorders"],
)
def test_four_times_the_lines_are_four_times_the_work(tmp_path: Path, line: str) -> None:
    begin = "recorders:\n" if line.startswith("  -") else ""
    few, many = (begin + "".join(map(line.format, range(count))) for count in (250, 1000))
    assert calls_to_load(tmp_path, many) < 6 * calls_to_load(tmp_path, few)


def calls_to_load(folder: Path, text: str) -> int:
    """How many functions are called to read settings or to refuse them."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    file = folder / "config.yaml"
    file.write_text(text)
    sys.setprofile(count)
    try:
        load_settings(file, {}, (folder_faults,))
    except ConfigError:
        pass
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("one", KEYS)
@pytest.mark.parametrize("other", KEYS)
def test_a_key_touches_what_lies_at_below_and_above_it(one: KeyPath, other: KeyPath) -> None:
    keys = KeySet()
    keys.add(one)
    shorter = min(len(one), len(other))
    assert keys.touches(other) == (one != () and one[:shorter] == other[:shorter])
    assert (other in keys) == (one == other)
