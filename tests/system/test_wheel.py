"""The wheel, installed as its recipe says into an environment that has nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.daemon import PROJECT
from tests.system.machine import again, printed

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel is made of, which nobody changes meanwhile."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "requirements.lock", "packaging/build-wheel"):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy2(PROJECT / name, tree / name)
    shutil.copytree(PROJECT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return tree


def built(tree: Path, folder: Path) -> Path:
    build = [str(tree / "packaging" / "build-wheel"), str(folder)]
    return Path(again(lambda: printed(build)).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tree, tmp_path_factory.mktemp("dist"))


def test_installed_into_a_fresh_environment_it_works(wheel: Path, tree: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
    pip = [str(environment / "bin" / "pip"), "--quiet", "install"]
    requirements = wheel.parent / "requirements.txt"
    again(lambda: printed([*pip, "--no-compile", "--require-hashes", "-r", str(requirements)]))
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, timeout=120)
    program = str(environment / "bin" / "cctv-storaged")
    settings = tmp_path / "config.yaml"
    settings.write_text((PROJECT / "config.example.yaml").read_text())
    checked = subprocess.run(
        [program, "check-config", "--config", str(settings)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr
    assert "backend: FILESYSTEM" in checked.stdout
    # What is no Python came along, too: the journal and the catalog are made of it.
    listed = zipfile.ZipFile(wheel).namelist()
    for folder in ("journal", "catalog/migrations"):
        wanted = {path.name for path in (tree / "src" / "cctv_storaged" / folder).glob("*.sql")}
        assert wanted
        assert wanted <= {Path(name).name for name in listed if name.startswith(f"cctv_storaged/{folder}/")}
    metadata = next(name for name in listed if name.endswith("METADATA"))
    assert b"Provides-Extra: systemd" in zipfile.ZipFile(wheel).read(metadata)


def test_the_same_tree_gives_the_same_wheel(wheel: Path, tree: Path, tmp_path: Path) -> None:
    again = built(tree, tmp_path)
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())
