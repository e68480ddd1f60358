"""The host's key: made once, for its owner alone, and never replaced by a start that does not like it."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from cctv_storaged.errors import ConfigError, JournalFull, PackageError
from cctv_storaged.evidence.keys import KEY_FILE, HostKey, PublicKey, parsed_fingerprint
from tests.unit.evidence.samples import KEY, OTHER_KEY

RACERS = 4


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_key_that_only_its_owner_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    previous = os.umask(0)
    try:
        key = HostKey(tmp_path).current()
    finally:
        os.umask(previous)
    assert os.listdir(tmp_path) == [KEY_FILE]
    assert rights(tmp_path / KEY_FILE) == 0o600
    assert caplog.text == ""  # it was never anything else
    assert key.public.has_signed(key.sign(b"said"), b"said")
    assert not key.public.has_signed(key.sign(b"said"), b"never said")


def test_every_later_start_has_the_same_key_and_leaves_the_file_alone(tmp_path: Path) -> None:
    first = HostKey(tmp_path).current()
    before = (tmp_path / KEY_FILE).stat()
    again = HostKey(tmp_path)
    assert again.current().public == again.current().public == first.public
    after = (tmp_path / KEY_FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


RACE = """
import sys
from pathlib import Path
from cctv_storaged.evidence.keys import HostKey

print("ready", flush=True)
sys.stdin.read()
print(HostKey(Path(sys.argv[1])).current().public.fingerprint)
"""


def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    """Processes of their own: this one has threads, whose locks a fork would take along."""
    waiting, start = os.pipe()
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    racers = [
        subprocess.Popen(command, env=environ, stdin=waiting, stdout=subprocess.PIPE, text=True)
        for _ in range(RACERS)
    ]
    os.close(waiting)
    try:
        ready = [racer.stdout.readline() for racer in racers if racer.stdout]
    finally:
        os.close(start)  # for all of them at once
    fingerprints = {racer.communicate(timeout=120)[0].strip() for racer in racers}
    assert ready == ["ready\n"] * RACERS
    assert fingerprints == {HostKey(tmp_path).current().public.fingerprint}
    assert os.listdir(tmp_path) == [KEY_FILE]


def ec_key() -> bytes:
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def locked_key() -> bytes:
    locked = BestAvailableEncryption(b"password")
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(b"\0" * 119), "is damaged"),
        (lambda path: path.write_bytes(KEY.public.pem), "is damaged"),
        (lambda path: path.write_bytes(locked_key()), "is damaged"),
        (lambda path: path.write_bytes(ec_key()), "another kind than Ed25519"),
        (lambda path: path.mkdir(), "is no regular file"),
        (os.mkfifo, "is no regular file"),
        (lambda path: path.symlink_to("elsewhere"), "cannot be read"),
    ],
    ids=["empty", "zeros", "public", "encrypted", "elliptic", "folder", "fifo", "link"],
)
def test_a_damaged_key_is_refused_with_the_remedy_and_stays(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    path = tmp_path / KEY_FILE
    make(path)
    before = path.lstat()
    with pytest.raises(ConfigError) as refused:
        HostKey(tmp_path).current()
    message = str(refused.value)
    assert str(path) in message
    assert told in message
    assert "put it back from a backup; or move it away" in message
    assert path.lstat().st_ino == before.st_ino
    assert os.listdir(tmp_path) == [KEY_FILE]


def test_a_cut_off_key_is_refused(tmp_path: Path) -> None:
    HostKey(tmp_path).current()
    path = tmp_path / KEY_FILE
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ConfigError, match="is damaged"):
        HostKey(tmp_path).current()


def test_a_key_that_others_could_read_is_theirs_no_longer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = HostKey(tmp_path).current()
    (tmp_path / KEY_FILE).chmod(0o644)
    assert HostKey(tmp_path).current().public == first.public
    assert rights(tmp_path / KEY_FILE) == 0o600
    assert "others than its owner could read the signing key" in caplog.text


def test_without_room_there_is_no_half_key_and_a_later_try_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    key = HostKey(tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(JournalFull, match="no room to make the signing key"):
            key.current()
        assert os.listdir(tmp_path) == []
    assert key.current().public.fingerprint.startswith("sha256:")


def test_the_fingerprint_is_the_one_that_openssl_gives(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(KEY.public.pem)
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", "key.pem", "-outform", "DER"],
        cwd=tmp_path, check=True, capture_output=True,
    ).stdout  # fmt: skip
    summed = subprocess.run(["sha256sum"], input=der, check=True, capture_output=True).stdout.decode()
    assert KEY.public.fingerprint == f"sha256:{summed.split()[0]}" != OTHER_KEY.public.fingerprint


def test_nothing_shows_the_private_key() -> None:
    private = KEY._private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    assert private.hex() not in f"{KEY!r} {KEY} {vars(KEY)}"


def test_a_fingerprint_is_taken_as_people_type_it() -> None:
    written = KEY.public.fingerprint
    digits = written.removeprefix("sha256:")
    spaced = " ".join(digits[at : at + 4] for at in range(0, 64, 4))
    for typed in (written, digits, digits.upper(), f"SHA256:{digits}", f" {spaced}\n"):
        assert parsed_fingerprint(typed) == written
    for other in ("", "sha256:", digits[:-1], digits + "0", "g" * 64, "key.pem", f"sha512:{digits}"):
        assert parsed_fingerprint(other) is None


@pytest.mark.parametrize("pem", [b"", b"nothing", KEY.public.pem[:-40], b"-----BEGIN PUBLIC KEY-----\n" * 9])
def test_what_is_no_public_key_is_refused(pem: bytes) -> None:
    with pytest.raises(PackageError, match="no public key"):
        PublicKey(pem)


def test_another_kind_of_public_key_is_refused() -> None:
    public = generate_private_key(SECP256R1()).public_key()
    with pytest.raises(PackageError, match="another kind"):
        PublicKey(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
