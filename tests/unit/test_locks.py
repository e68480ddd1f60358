"""The lock files agree with pyproject.toml: what is added there and not locked would be missing elsewhere."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HASHED = re.compile(
    r"^([\w.-]+)==([\w.]+)(?: ;[^\\\n]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", re.M
)


def wanted(*groups: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = list(project["build-system"]["requires"]) if "run" in groups else []
    names += project["project"]["dependencies"] if "run" in groups else []
    for group in groups:
        names += project["project"]["optional-dependencies"].get(group, [])
    return [Requirement(name) for name in names]


def locked(name: str) -> dict[str, str]:
    return {canonicalize_name(match[1]): match[2] for match in HASHED.finditer((ROOT / name).read_text())}


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("requirements.lock", ("run",)),
        ("requirements-test.lock", ("run", "test", "lint")),
        ("requirements-systemd.lock", ("systemd",)),
    ],
)
def test_every_dependency_is_locked_at_a_version_that_fits(lock: str, groups: tuple[str, ...]) -> None:
    versions = locked(lock)
    unfit = [
        f"{need} is locked at {versions.get(canonicalize_name(need.name))}"
        for need in wanted(*groups)
        if not need.specifier.contains(versions.get(canonicalize_name(need.name), "0"))
    ]
    assert not unfit, f"run scripts/lock: {unfit}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock", "requirements-systemd.lock"])
def test_a_lock_holds_nothing_but_versions_and_hashes(lock: str) -> None:
    """No place to fetch from: that is for the host to say."""
    rest = HASHED.sub("", (ROOT / lock).read_text())
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []


def test_what_is_tested_is_what_runs() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-test.lock").items()
