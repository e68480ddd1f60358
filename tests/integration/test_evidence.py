"""Evidence on a whole host: its key from the first start on, packages checked as anybody would check them."""

import asyncio
import contextlib
import os
import pty
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cctv_storaged.evidence.keys import KEY_FILE, HostKey, PublicKey
from cctv_storaged.evidence.manifest import MANIFEST, Manifest, read
from cctv_storaged.evidence.opened import opened_package
from cctv_storaged.evidence.verify import check
from tests.daemon import PROJECT, Daemon
from tests.footage import cached_ts
from tests.integration.api.harness import running
from tests.unit.evidence.samples import GATE, KEY, OTHER_KEY, Made, make_package, original, unpacked

PAGE = (PROJECT / "docs" / "reference" / "evidence.md").read_text()


@pytest.fixture
async def made(tmp_path: Path) -> Made:
    """A package of real footage."""
    return await make_package(tmp_path, originals=[original(GATE, 0, cached_ts(seconds=2).read_bytes())])


def verify(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The command in a bare environment, without any network."""
    argv = ["unshare", "--net", "--map-root-user"] if _may_unshare() else []
    argv += [sys.executable, "-m", "cctv_storaged", "verify", *map(str, arguments)]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT / "src")}
    return subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=60)


def _may_unshare() -> bool:
    done = subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True, check=False)
    return done.returncode == 0


def test_a_package_is_checked_offline_and_the_key_is_said_to_be_taken_on_trust(made: Made) -> None:
    done = verify(made.path, cwd=made.path.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ALL RIGHT" in done.stdout
    assert f"signed by the key {KEY.public.fingerprint}" in done.stdout
    assert "taken on trust" in done.stdout
    assert "case: 2026-0815; asked for by: j.doe; reason: break-in at the gate" in done.stdout
    assert os.listdir(made.path.parent) == ["package.zip"]


def test_with_the_hosts_key_given_nothing_is_taken_on_trust(made: Made, tmp_path: Path) -> None:
    (tmp_path / "host.pem").write_bytes(KEY.public.pem)
    for key in ("host.pem", KEY.public.fingerprint):
        done = verify(made.path, "--key", key, cwd=tmp_path)
        assert done.returncode == 0
        assert f"signed by the key given, {KEY.public.fingerprint}" in done.stdout
        assert "trust" not in done.stdout


def test_each_thing_that_is_wrong_has_a_line_of_its_own(made: Made, tmp_path: Path) -> None:
    folder = unpacked(made.path, tmp_path / "unpacked")
    (folder / "README.txt").unlink()
    (folder / "more\n\x1b[2J.ts").write_bytes(b"")
    with (folder / made.names[0]).open("r+b") as file:
        file.write(b"\0")
    done = verify(folder, cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "missing: README.txt" in lines
    assert any(line.startswith("added: more\\n\\x1b[2J.ts: no package has such a name") for line in lines)
    assert any(line.startswith(f"changed: {made.names[0]}: its SHA-256 is ") for line in lines)
    assert lines[-1].startswith("WRONG: ")
    assert "3 things" in lines[-1]


def test_another_hosts_package_is_wrong(made: Made, tmp_path: Path) -> None:
    done = verify(made.path, "--key", OTHER_KEY.public.fingerprint, cwd=tmp_path)
    assert done.returncode == 1
    assert f"changed: public-key.pem: it is the key {KEY.public.fingerprint} and not" in done.stdout
    assert "signed by nobody who could be made out" in done.stdout


def test_a_cut_off_package_is_wrong(made: Made, tmp_path: Path) -> None:
    os.truncate(made.path, made.facts.size_bytes - 1)
    done = verify(made.path, cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "is no evidence package: it does not end as a ZIP does: it is none, or it was cut off" in done.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "name the package, or --ledger"),
        (("package.zip", "--key", "no-such-file"), 2, "neither a fingerprint nor a file with a public key"),
        (("package.zip", "--key", "package.zip"), 2, "neither a fingerprint nor a file with a public key"),
        (("no-such-package.zip",), 3, "no-such-package.zip cannot be read: No such file or directory"),
    ],
)
def test_bad_usage_and_what_cannot_be_read_have_codes_of_their_own(
    made: Made, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = verify(*arguments, cwd=made.path.parent)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_a_folder_that_may_not_be_looked_into_is_named(made: Made, tmp_path: Path) -> None:
    folder = unpacked(made.path, tmp_path / "unpacked")
    (folder / "clips").rename(folder / ("x" * 255))
    deep = os.open(folder / ("x" * 255), os.O_RDONLY)
    for _ in range(20):  # beyond PATH_MAX: even root cannot name what lies there
        os.mkdir("x" * 255, dir_fd=deep)
        inner = os.open("x" * 255, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    done = verify(folder, cwd=tmp_path)
    subprocess.run(["rm", "-r", folder], check=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert "xxx cannot be read: File name too long" in done.stderr


def read_to_the_end(terminal: int) -> Iterator[str]:
    """What nobody writes to any more; a single read(2) may give the beginning alone."""
    with contextlib.suppress(OSError):  # EIO is a terminal's end
        while read := os.read(terminal, 100_000):
            yield read.decode()


def test_progress_is_shown_on_a_terminal_and_nowhere_else(made: Made, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "cctv_storaged", "verify", str(made.path)]
    done = subprocess.run(argv, cwd=PROJECT / "src", stderr=theirs, stdout=subprocess.PIPE, check=True)
    os.close(theirs)
    shown = "".join(read_to_the_end(ours))
    os.close(ours)
    assert "checking: " in shown
    assert shown.endswith("\r")
    assert not shown.split("\r")[-2].strip(), "the bar is taken away"
    assert b"checking" not in done.stdout


# By hand, as the page tells it


def commands_of_the_page() -> list[str]:
    return PAGE.split("```sh\n")[1].split("```")[0].splitlines()


def test_the_commands_of_the_page_check_a_package(made: Made, tmp_path: Path) -> None:
    folder = unpacked(made.path, tmp_path / "unpacked")
    signature, fingerprint, sums, count = (
        subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
        for command in commands_of_the_page()
    )
    assert signature.stdout == "Signature Verified Successfully\n"
    assert f"sha256:{fingerprint.stdout.split()[0]}" == KEY.public.fingerprint
    assert (sums.returncode, sums.stdout.count(": OK\n")) == (0, len(made.names))
    assert int(count.stdout) == len(made.names) + 2


def test_the_commands_of_the_page_see_a_change(made: Made, tmp_path: Path) -> None:
    folder = unpacked(made.path, tmp_path / "unpacked")
    for name in ("manifest.json", made.names[0]):
        (folder / name).write_bytes((folder / name).read_bytes().replace(b"0", b"1", 1))
    signature, _, sums, _ = (
        subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
        for command in commands_of_the_page()
    )
    assert signature.returncode != 0
    assert "Signature Verification Failure" in signature.stdout + signature.stderr
    assert sums.returncode != 0


def keys_of(schema: dict[str, object], defined: dict[str, dict[str, object]]) -> set[str]:
    properties = schema.get("properties", {})
    assert isinstance(properties, dict)
    return {*properties}.union(*(keys_of(each, {}) for each in defined.values()))


def test_the_page_explains_every_key_of_the_manifest() -> None:
    schema = Manifest.model_json_schema()
    words = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.S))
    explained = set(re.findall(r"\w+", " ".join(words)))
    wanted = keys_of(schema, schema["$defs"])
    assert len(wanted) > 30
    assert wanted - explained == set()


# The host's key


async def test_the_api_tells_the_key_that_signs(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        reply = await host.get("/signing-key")
        key = await asyncio.to_thread(HostKey(host.settings.data_dir).current)
        assert reply.status == 200
        assert reply.json == {
            "algorithm": "Ed25519",
            "fingerprint": key.public.fingerprint,
            "public_key": key.public.pem.decode(),
        }
        made = await make_package(tmp_path, key=key)
        with opened_package(made.path) as package:
            told = PublicKey(reply.json["public_key"].encode())
            assert check(package, told, lambda done, total: None).trusted


async def test_the_key_is_for_those_who_may_read(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        made = await host.post("/tokens", {"name": "first", "scopes": ["admin"]})
        assert (await host.get("/signing-key")).status == 401
        host.token = made.json["secret"]
        reader = await host.post("/tokens", {"name": "reader", "scopes": ["read"]})
        exporter = await host.post("/tokens", {"name": "exporter", "scopes": ["export"]})
        host.token = reader.json["secret"]
        assert (await host.get("/signing-key")).status == 200
        host.token = exporter.json["secret"]
        assert (await host.get("/signing-key")).status == 403


def test_the_first_start_makes_the_key_and_every_start_says_it_once(daemon: Daemon) -> None:
    daemon.start()
    told = daemon.get("/signing-key")["fingerprint"]
    assert daemon.log.count(told) == 1
    assert f"evidence packages are signed with the key {told}" in daemon.log
    path = daemon.data_dir / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    daemon.stop()
    daemon.start()
    assert daemon.get("/signing-key")["fingerprint"] == told
    daemon.stop()
    assert "PRIVATE" not in daemon.logs
    path.write_bytes(b"not a key any more")
    daemon.start(ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(60) == 2
    assert f"the signing key {path} is damaged" in daemon.log
    assert "put it back from a backup; or move it away" in daemon.log
    assert path.read_bytes() == b"not a key any more"


def test_the_manifest_can_be_read_by_what_knows_only_zip_and_json(made: Made) -> None:
    with zipfile.ZipFile(made.path) as file:
        assert read(file.read(MANIFEST)) == made.facts.manifest
