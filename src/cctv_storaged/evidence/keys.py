"""The host's Ed25519 key (RFC 8032): made once, kept in data_dir for its owner alone, never overwritten.

Who has packages signed by it and its fingerprint from elsewhere can tell that they come from this host. A
lost key makes no package worthless: it only signs no more.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cctv_storaged.errors import ConfigError, Fault, JournalFull, PackageError

log = logging.getLogger(__name__)

KEY_FILE = "signing-key.pem"
SIGNATURE_BYTES = 64
MOST_KEY_BYTES = 16 * 1024
_TEMPORARY = ".signing-key-"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_FINGERPRINT = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half of a key that everybody may have. Raises PackageError where it is none."""

    pem: bytes  # SubjectPublicKeyInfo (RFC 8410), as `openssl pkey -pubout` writes it

    def __post_init__(self) -> None:
        self._key()

    @property
    def fingerprint(self) -> str:
        """`sha256:` and the SHA-256 of the DER form, in hex: two keys never share it."""
        der = self._key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"sha256:{hashlib.sha256(der).hexdigest()}"

    def has_signed(self, signature: bytes, message: bytes) -> bool:
        try:
            self._key().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def _key(self) -> Ed25519PublicKey:
        try:
            key = load_pem_public_key(self.pem)
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise PackageError("it is no public key in PEM") from exc
        if not isinstance(key, Ed25519PublicKey):
            raise PackageError("it is a public key of another kind than Ed25519")
        return key


class SigningKey:
    """The whole key. Its representation says nothing of it."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public = PublicKey(public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes (RFC 8032, 5.1.6)."""
        return self._private.sign(message)


class HostKey:
    """The key in data_dir, read or made when it is first asked for."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / KEY_FILE
        self._key: SigningKey | None = None
        self._making = threading.Lock()

    def current(self) -> SigningKey:
        """The key; blocks for the disk at the first call.

        Raises ConfigError where the file is there and is no key of ours, JournalFull where there is no room
        to make one, OSError for what else the disk says.
        """
        with self._making:
            if self._key is None:
                self._key = _read(self._path) or _made(self._path)
            return self._key


def parsed_fingerprint(text: str) -> str | None:
    """A fingerprint as `PublicKey.fingerprint` writes it, from what people type; None for anything else."""
    found = _FINGERPRINT.fullmatch(re.sub(r"[\s]", "", text).lower())
    return None if found is None else f"sha256:{found[1]}"


def _read(path: Path) -> SigningKey | None:
    """The key in the file, None where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _unusable(path, f"cannot be read: {exc.strerror}") from exc
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(path, "is no regular file")
        _keep_to_owner(descriptor, status, path)
        return SigningKey(_private_key(os.read(descriptor, MOST_KEY_BYTES), path))
    finally:
        os.close(descriptor)


def _private_key(pem: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:  # TypeError: it is encrypted
        raise _unusable(path, "is damaged: no unencrypted private key in PEM") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "holds a key of another kind than Ed25519")
    return key


def _unusable(path: Path, what: str) -> ConfigError:
    hint = (
        "put it back from a backup; or move it away, and the next start makes another key: packages are then"
        " signed by that one, and its fingerprint has to be made known anew"
    )
    return ConfigError([Fault("data_dir", f"the signing key {path} {what}", hint)])


def _keep_to_owner(descriptor: int, status: os.stat_result, path: Path) -> None:
    if not status.st_mode & 0o077:
        return
    log.warning("others than its owner could read the signing key %s: that is ended now", path)
    with contextlib.suppress(PermissionError):  # it belongs to somebody else
        os.fchmod(descriptor, 0o600)


def _made(path: Path) -> SigningKey:
    """A new key, on the disk when this returns; or that of another process that was quicker."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        _write_once(path, pem)
    except OSError as exc:
        if exc.errno not in _NO_ROOM:
            raise
        raise JournalFull(f"there is no room to make the signing key {path}") from exc
    key = _read(path)
    if key is None:
        raise _unusable(path, "went away while it was made")
    return key


def _write_once(path: Path, pem: bytes) -> None:
    """Gives the bytes the name, unless something has it: link(2) never replaces."""
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path, follow_symlinks=False)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
