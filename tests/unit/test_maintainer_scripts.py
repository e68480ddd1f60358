"""The package's maintainer scripts, on a folder and programs that only write down what they are told.

What they do in a whole Debian, tests/system shows.
"""

import os
import subprocess
from pathlib import Path

import pytest

DEB = Path(__file__).parents[2] / "packaging" / "deb"
TOLD = ("adduser", "chown", "deb-systemd-helper", "deb-systemd-invoke", "getent", "systemctl")


def run(tmp_path: Path, *words: str, overridden: bool = False) -> str:
    """What the postinst told other programs; its /etc is a folder of the test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOLD:
        _program(programs / name, f'echo "{name} $*" >>"$TOLD"')
    _program(programs / "dpkg-statoverride", f"exit {0 if overridden else 1}")
    script = tmp_path / "postinst"
    script.write_text((DEB / "postinst").read_text().replace("/etc/", f"{tmp_path}/etc/"))
    told = tmp_path / "told"
    environ = {"PATH": f"{programs}:{os.environ['PATH']}", "TOLD": str(told)}
    subprocess.run(["sh", str(script), *words], env=environ, check=True, timeout=60)
    return told.read_text()


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "cctv-storaged" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o755)  # whatever the umask is
    path.write_text("{}\n")
    path.chmod(0o600)
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_the_shell_takes_each_script(name: str) -> None:
    subprocess.run(["sh", "-n", str(DEB / name)], check=True, timeout=60)


def test_the_first_install_gives_the_settings_to_the_service(tmp_path: Path, settings: Path) -> None:
    told = run(tmp_path, "configure", "")
    assert f"chown root:cctv-storaged {settings}\n" in told
    assert (mode(settings), mode(settings.parent)) == (0o640, 0o750)


def test_an_upgrade_leaves_owner_and_mode_as_they_are(tmp_path: Path, settings: Path) -> None:
    told = run(tmp_path, "configure", "0.1.0")
    assert "chown" not in told
    assert (mode(settings), mode(settings.parent)) == (0o600, 0o755)
    assert "deb-systemd-invoke restart" in told or not Path("/run/systemd/system").is_dir()


@pytest.mark.parametrize("version", ["", "0.1.0"])
def test_without_a_settings_file_it_is_installed_all_the_same(
    tmp_path: Path, settings: Path, version: str
) -> None:
    settings.unlink()
    assert "deb-systemd-helper" in run(tmp_path, "configure", version)


def test_what_an_administrator_overrode_stays(tmp_path: Path, settings: Path) -> None:
    assert "chown" not in run(tmp_path, "configure", "", overridden=True)
    assert mode(settings) == 0o600
