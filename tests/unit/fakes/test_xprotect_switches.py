"""The simulator's switches: each is read somewhere, and what is set is what it may be."""

import asyncio
import os
import re
import time
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from cctv_storaged.config.milestone import Milestone
from tests.fakes import xprotect
from tests.fakes.xprotect.__main__ import parsed, run
from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.faults import Faults
from tests.fakes.xprotect.recording import Folder, Layout
from tests.fakes.xprotect.site import make_site
from tests.services.xprotect import camera

PACKAGE = Path(xprotect.__file__).parent


@pytest.mark.parametrize("kind", [Assumptions, Faults])
def test_no_switch_is_without_a_reader(kind: type[Assumptions | Faults]) -> None:
    own = f"{kind.__name__.lower()}.py"
    code = "".join(file.read_text() for file in PACKAGE.glob("*.py") if file.name != own)
    unread = [each.name for each in fields(kind) if not re.search(rf'\.{each.name}\b|"{each.name}"\)', code)]
    assert not unread


@pytest.mark.parametrize(
    "change",
    [{"edition": "Home"}, {"slow_s": "soon"}, {"teapot": 1}, {"slow_s": 1.0, "management": "gone"}],
)
def test_what_cannot_be_set_changes_nothing(change: dict[str, object]) -> None:
    faults = Faults()
    with pytest.raises(ValueError, match=r"has no|cannot be"):
        faults.set(change)
    assert faults == Faults()


def test_a_layout_reads_camera_and_time_from_a_name() -> None:
    layout = Layout("{camera}/%Y-%m-%d/%H-%M-%S.ts")
    assert layout.read("gate/2026-11-22/09-05-30.ts") == (
        "gate",
        datetime(2026, 11, 22, 9, 5, 30, tzinfo=UTC),
    )
    assert layout.read("gate/2026-11-22/09-05-30.ts.tmp") is None
    assert Layout("{camera}_%Y%m%d%H%M%S.ts").read("yard_20261122090530.ts") is not None


def test_only_files_that_nobody_writes_to_any_more_are_recorded(tmp_path: Path) -> None:
    site = make_site([camera("gate")])
    folder = Folder(site, tmp_path, Layout("{camera}/%Y-%m-%d/%H-%M-%S.ts"))
    names = ("gate/2026-11-22/09-00-00.ts", "gate/2026-11-22/09-00-10.ts", "other/2026-11-22/09-00-00.ts")
    for name in names:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"G")
        os.utime(file, (time.time() - 60,) * 2)
    os.utime(tmp_path / names[1], (time.time() + 60,) * 2)  # not quiet yet, however slow the machine is
    assert [file.relative_to(tmp_path).as_posix() for file, _, _ in folder.closed()] == [names[0]]


async def test_the_settings_it_prints_are_settings_of_the_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--port=0", "--recorder-port=0", "--control-port=0", "--rule-minutes=60", "--tls")
    task = asyncio.create_task(run(parsed(arguments), tmp_path, stopping := asyncio.Event()))
    printed = ""
    while "retrieval_event_id" not in printed:
        await asyncio.sleep(0.01)
        printed += capsys.readouterr().out
    stopping.set()
    await task
    settings = yaml.safe_load(printed)
    block = Milestone.model_validate(settings["milestone"])
    assert block.camera_map.keys() == {"gate", "yard"} and block.retrieval_event_id is not None
