"""The layouts of docs/guide/recorders.md read the names that stand below them as the page says."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from cctv_storaged.recorder.layout import Layout, resolve_start
from tests.unit.config.given import load

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "recorders.md"
EXAMPLE = re.compile(r"^- `(?P<path>[^`]+)` is `(?P<camera>[^`]+)` at `(?P<start>[^`]+)`$", re.M)
BLOCK = re.compile(r"```yaml\n(recorders:.*?)```\n(.*?)(?=```|\Z)", re.S)
SEGMENT = timedelta(seconds=10)


def layouts(block: str) -> list[Layout]:
    return [
        Layout.parse(each["layout"], ZoneInfo(each.get("timezone", "UTC")))
        for each in yaml.safe_load(block)["recorders"]
    ]


EXAMPLES = [
    (block, example["path"], example["camera"], datetime.fromisoformat(example["start"]))
    for block, below in BLOCK.findall(PAGE.read_text())
    for example in EXAMPLE.finditer(below)
]


@pytest.mark.parametrize(("block", "path", "camera", "start"), EXAMPLES, ids=[each[1] for each in EXAMPLES])
def test_a_name_is_read_as_the_page_says(block: str, path: str, camera: str, start: datetime) -> None:
    matches = [match for match in (layout.match(path) for layout in layouts(block)) if match is not None]
    assert [match.camera_folder for match in matches] == [camera]
    assert resolve_start(matches[0], closed_at=start + SEGMENT, duration=SEGMENT).start == start


def test_every_layout_of_the_page_has_an_example() -> None:
    text = PAGE.read_text()
    assert len(EXAMPLES) == len(EXAMPLE.findall(text)) > 8
    for block, below in BLOCK.findall(text):
        paths = [example["path"] for example in EXAMPLE.finditer(below)]
        assert [each.pattern for each in layouts(block) if not any(map(each.match, paths))] == []


def test_the_settings_of_the_page_are_accepted(tmp_path: Path) -> None:
    for block, _ in BLOCK.findall(PAGE.read_text()):
        assert load(tmp_path, block).recorders
