"""What the pages and the unit say is so."""

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.config import load_settings
from cctv_storaged.config.sources import VARIABLES
from cctv_storaged.daemon import STOP_DEADLINE_S
from cctv_storaged.losses import CAUSES
from cctv_storaged.metrics import Metrics
from cctv_storaged.model import CopyState, GapCause, SegmentFlag

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
SETUP = ROOT / "scripts" / "setup"
ALARMS = ROOT / "docs" / "reference" / "alarms.md"
SEGMENTS = ROOT / "docs" / "reference" / "segments.md"
PROMISES = [
    ROOT / "docs" / "design" / f"{name}.md"
    for name in ("promises", "playback", "retention", "milestone", "operations")
]
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PROMISES, ids=lambda page: page.name)
def test_every_promise_names_tests_that_are_there(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    words = re.findall(r"`([^`]+)`", prose)
    files = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    defined = {name for text in files.values() for name in re.findall(r"def (test_\w+)", text)}
    paths = {word for word in words if word.startswith("tests/")}
    names = {word for word in words if word.startswith("test_")} - {path.name for path in files}
    assert len(names) > 5 <= len(paths)
    assert [path for path in paths if not list(ROOT.glob(path.rstrip("/")))] == []
    assert [name for name in names if not any(each.startswith(name.rstrip("…")) for each in defined)] == []


def words_under(page: Path, heading: str) -> list[str]:
    """The first column of the table below a heading."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


def test_every_alarm_is_explained() -> None:
    assert words_under(ALARMS, "Names") == list(AlarmName)
    rows = [line.split(" | ") for line in ALARMS.read_text().splitlines() if line.startswith("| `")]
    told = ["name", "subject", "when it sounds", "what to do", "what ends it"]
    assert [row for row in rows if len(row) != len(told) or not all(map(str.strip, row))] == []


def reasons_in_the_source() -> set[str]:
    """Every word that a file is set aside with."""
    sources = (ROOT / "src").rglob("*.py")
    return {word for path in sources for word in re.findall(r'NotASegment\(\s*"(\w+)"', path.read_text())}


def test_every_word_said_of_a_segment_is_explained_and_no_other() -> None:
    assert len(reasons_in_the_source()) > 5
    explained: dict[str, set[str]] = {
        "Flags": set(SegmentFlag),
        "States of a copy": set(CopyState),
        "Why footage was lost": set(CAUSES),
        "Why a file was set aside": reasons_in_the_source(),
    }
    for heading, known in explained.items():
        words = words_under(SEGMENTS, heading)
        assert (heading, set(words), len(words)) == (heading, known, len(known))


def test_every_cause_of_a_gap_is_explained_in_the_order_in_which_it_is_told() -> None:
    page = ROOT / "docs" / "reference" / "coverage.md"
    assert words_under(page, "Causes of a gap") == list(GapCause)


def test_the_alarms_in_the_readme_are_metrics() -> None:
    named = set(re.findall(r"`(storage_\w+)`", (ROOT / "README.md").read_text()))
    exposed = generate_latest(Metrics().registry).decode()
    assert len(named) > 5
    assert [name for name in named if f"# TYPE {name} " not in exposed] == []


def test_the_settings_in_the_readme_are_accepted(tmp_path: Path) -> None:
    examples = [part.split("```")[0] for part in (ROOT / "README.md").read_text().split("```yaml\n")[1:]]
    file = tmp_path / "config.yaml"
    file.write_text("".join(examples).replace("/var/lib/cctv-storaged", str(tmp_path)))
    settings = load_settings(file, {"MINIO_SECRET_KEY": "canary", "POSTGRES_PASSWORD": "canary"})
    assert settings.minio.endpoint == "minio:9000"
    assert settings.postgres is not None


def unit_settings() -> list[tuple[str, str]]:
    """Assignments of the unit, those that are commented out included."""
    lines = re.findall(r"^#?([A-Z]\w+)=(.*)$", (ROOT / "cctv-storaged.service").read_text(), re.M)
    return [(name, value) for name, value in lines]


def test_the_unit_offers_only_credentials_that_are_read() -> None:
    offered = {value.split(":")[0] for name, value in unit_settings() if name == "LoadCredential"}
    assert offered <= {variable.credential for variable in VARIABLES}
    assert "minio_secret_key" in offered


@pytest.mark.parametrize(
    ("python", "told"),
    [("/root/.pyenv/bin/python3", 1), ("/home/me/py/bin/python3", 1), ("/usr/bin/python3", 0)],
)
def test_the_set_up_says_where_the_unit_cannot_see_its_python(tmp_path: Path, python: str, told: int) -> None:
    """ProtectHome=yes: the service would end with a bare 203/EXEC."""
    assert dict(unit_settings())["ProtectHome"] == "yes"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(python)
    text = SETUP.read_text()
    functions = re.findall(r"^say\(\) .*$", text, re.M) + re.findall(
        r"^say_if_hidden.*?^\}$", text, re.M | re.S
    )
    assert len(functions) == 2
    script = "\n".join(["set -euo pipefail", f"venv={tmp_path} role=run", *functions, "say_if_hidden"])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert len(done.stderr.splitlines()) == told, done.stderr


def test_the_unit_waits_longer_than_a_stop_may_take() -> None:
    limits = dict(unit_settings())
    assert float(limits["TimeoutStopSec"]) > STOP_DEADLINE_S * 2


def test_the_unit_lets_ffprobe_stand_behind_everything_else() -> None:
    """setpriority(2) is one of @resources: refused, ffprobe would fail (recorder/ffprobe.py)."""
    filters = [value for name, value in unit_settings() if name == "SystemCallFilter"]
    assert filters.index("setpriority") > filters.index("~@privileged @resources")
