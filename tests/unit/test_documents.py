"""What the pages and the unit say is so."""

import re
from pathlib import Path

import pytest

from cctv_storaged.config import load_settings
from cctv_storaged.config.sources import VARIABLES
from cctv_storaged.daemon import STOP_DEADLINE_S

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROMISES = ROOT / "docs" / "design" / "promises.md"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_promise_names_tests_that_are_there() -> None:
    words = re.findall(r"`([^`]+)`", PROMISES.read_text())
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    defined = {name for text in files.values() for name in re.findall(r"def (test_\w+)", text)}
    paths = {word for word in words if word.startswith("tests/")}
    names = {word for word in words if word.startswith("test_")} - files.keys()
    assert len(names) > 5 < len(paths)
    assert [path for path in paths if not list(ROOT.glob(path.rstrip("/")))] == []
    assert [name for name in names if not any(each.startswith(name.rstrip("…")) for each in defined)] == []


def test_the_settings_in_the_readme_are_accepted(tmp_path: Path) -> None:
    example = (ROOT / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    file = tmp_path / "config.yaml"
    file.write_text(example.replace("/var/lib/cctv-storaged", str(tmp_path)))
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


def test_the_unit_waits_longer_than_a_stop_may_take() -> None:
    limits = dict(unit_settings())
    assert float(limits["TimeoutStopSec"]) > STOP_DEADLINE_S * 2


def test_the_unit_lets_ffprobe_stand_behind_everything_else() -> None:
    """setpriority(2) is one of @resources: refused, ffprobe would fail (recorder/ffprobe.py)."""
    filters = [value for name, value in unit_settings() if name == "SystemCallFilter"]
    assert filters.index("setpriority") > filters.index("~@privileged @resources")
