"""The check of a package, ZIP or unpacked folder: whose it is, and what was changed, is missing or was added.

Reads what may be anything and unpacks nothing. No byte of a ZIP goes unlooked at: what is not a file's
contents must be what container.py would write.
"""

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cctv_storaged.errors import PackageError
from cctv_storaged.evidence.container import Entry
from cctv_storaged.evidence.keys import MOST_KEY_BYTES, SIGNATURE_BYTES, PublicKey
from cctv_storaged.evidence.manifest import (
    MANIFEST,
    MOST_MANIFEST_BYTES,
    PUBLIC_KEY,
    SIGNATURE,
    FileRole,
    Manifest,
    ManifestFile,
    read,
)
from cctv_storaged.evidence.names import is_safe
from cctv_storaged.evidence.opened import Found, Opened

Progress = Callable[[int, int], None]
"""Told how many bytes of how many have been read."""


class Wrong(StrEnum):
    """What can be wrong with a file."""

    CHANGED = "changed"
    MISSING = "missing"
    ADDED = "added"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing wrong. `name`: the file in the package, None for the package as a whole."""

    wrong: Wrong
    name: str | None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found; all is right without any finding."""

    findings: tuple[Finding, ...]
    manifest: Manifest | None  # None: there is none that could be read
    signer: str | None  # fingerprint of the key that the signature is of; None: no valid signature
    trusted: bool  # that key is the one the caller named
    files: int
    bytes: int


class Checker:
    """One check of one package."""

    def __init__(self, package: Opened, wanted: PublicKey | str | None, progress: Progress) -> None:
        """`wanted`: the key that must have signed it, or its fingerprint; None: the one that is there."""
        self._package = package
        self._wanted = wanted
        self._progress = progress
        self._findings: list[Finding] = []
        self._by_name: Mapping[str, Found] = {}
        self._signer: str | None = None
        self._done_bytes = 0

    def run(self) -> Report:
        """Raises OSError for what the disk says, and nothing else."""
        for oddity in self._package.oddities:
            self._find(Wrong.CHANGED, None, oddity)
        self._by_name = self._plain_files()
        raw = self._contents(MANIFEST, MOST_MANIFEST_BYTES)
        manifest = None
        if raw is not None:
            key = self._key()
            if key is not None:
                self._check_signature(key, raw)
            manifest = self._read(raw)
        if manifest is not None:
            self._check_files(manifest)
        else:
            self._find(Wrong.CHANGED, None, "without its manifest nothing else could be checked")
        return Report(
            findings=tuple(self._findings),
            manifest=manifest,
            signer=self._signer,
            trusted=self._signer is not None and self._wanted is not None,
            files=len(self._package.found),
            bytes=sum(file.size_bytes for file in self._package.found),
        )

    def _find(self, wrong: Wrong, name: str | None, why: str = "") -> None:
        self._findings.append(Finding(wrong=wrong, name=name, why=why))

    def _plain_files(self) -> dict[str, Found]:
        """The files whose contents may be looked at; the others are told."""
        spelled = Counter(file.name.casefold() for file in self._package.found)
        names = Counter(file.name for file in self._package.found)
        plain: dict[str, Found] = {}
        for file in self._package.found:
            if not is_safe(file.name):
                self._find(Wrong.ADDED, file.name, "no package has such a name: do not unpack it")
            elif names[file.name] > 1:
                self._find(Wrong.ADDED, file.name, "several files have this name")
            elif spelled[file.name.casefold()] > 1:
                self._find(Wrong.ADDED, file.name, "another file has this name but for capitals")
            elif file.oddity is not None:
                self._find(Wrong.CHANGED, file.name, f"it {file.oddity}")
            else:
                plain[file.name] = file
        return plain

    def _contents(self, name: str, most_bytes: int) -> bytes | None:
        """A small file's bytes; None where there are none, which is told."""
        file = self._by_name.get(name)
        if file is None:
            if not any(finding.name == name for finding in self._findings):
                self._find(Wrong.MISSING, name)
            return None
        if file.size_bytes > most_bytes:
            self._find(Wrong.CHANGED, name, f"it is larger than {most_bytes} bytes")
            return None
        return b"".join(self._package.blocks(file))

    def _key(self) -> PublicKey | None:
        """The key to check with; None where there is none, which is told."""
        raw = self._contents(PUBLIC_KEY, MOST_KEY_BYTES)
        try:
            inside = None if raw is None else PublicKey(raw)
        except PackageError as exc:
            self._find(Wrong.CHANGED, PUBLIC_KEY, str(exc))
            inside = None
        wanted = self._wanted.fingerprint if isinstance(self._wanted, PublicKey) else self._wanted
        if inside is not None and wanted not in (None, inside.fingerprint):
            self._find(Wrong.CHANGED, PUBLIC_KEY, f"it is the key {inside.fingerprint} and not {wanted}")
            inside = None
        return self._wanted if isinstance(self._wanted, PublicKey) else inside

    def _check_signature(self, key: PublicKey, raw: bytes) -> None:
        signature = self._contents(SIGNATURE, MOST_KEY_BYTES)
        if signature is None:
            return
        if len(signature) != SIGNATURE_BYTES:
            self._find(Wrong.CHANGED, SIGNATURE, f"it has {len(signature)} bytes and not {SIGNATURE_BYTES}")
        elif key.has_signed(signature, raw):
            self._signer = key.fingerprint
        else:
            why = f"{SIGNATURE} is no signature of these bytes by the key {key.fingerprint}"
            self._find(Wrong.CHANGED, MANIFEST, why)

    def _read(self, raw: bytes) -> Manifest | None:
        try:
            manifest = read(raw)
        except PackageError as exc:
            self._find(Wrong.CHANGED, MANIFEST, str(exc))
            return None
        if manifest.kind != "evidence":
            self._find(Wrong.CHANGED, MANIFEST, "it is that of a plain export and not of an evidence package")
        if self._signer is not None and manifest.key != self._signer:
            self._find(Wrong.CHANGED, MANIFEST, f"it names the key {manifest.key} and was signed by another")
        return manifest

    def _check_files(self, manifest: Manifest) -> None:
        told = {finding.name for finding in self._findings}
        expected = [*manifest.files, *self._unlisted(manifest)]
        total = sum(file.size_bytes for file in expected)
        entries: list[Entry] = []
        for file in expected:
            found = self._by_name.get(file.path)
            if found is None:
                if file.path not in told:
                    self._find(Wrong.MISSING, file.path)
                continue
            crc32 = self._check_file(file, found, total)
            crc32 = crc32 if found.crc32 is None else found.crc32
            entries.append(_entry(file, manifest.created_at, crc32, entries))
        names = {file.path for file in expected}
        for name in self._by_name:
            if name not in names and name not in told:
                self._find(Wrong.ADDED, name)
        if len(entries) == len(expected) == len(self._package.found):
            self._check_container(entries)

    def _unlisted(self, manifest: Manifest) -> Iterator[ManifestFile]:
        """Manifest and signature as if they were listed: nobody can list his own SHA-256."""
        for name, most_bytes in ((MANIFEST, MOST_MANIFEST_BYTES), (SIGNATURE, MOST_KEY_BYTES)):
            found = self._by_name.get(name)
            if found is not None and found.size_bytes <= most_bytes:
                digest = hashlib.sha256(b"".join(self._package.blocks(found))).hexdigest()
                yield ManifestFile(
                    path=name, role=FileRole.README, size_bytes=found.size_bytes, sha256=digest
                )

    def _check_file(self, file: ManifestFile, found: Found, total: int) -> int:
        """Tells what is wrong with the file; returns the CRC-32 of its bytes."""
        if found.size_bytes != file.size_bytes:
            self._find(Wrong.CHANGED, file.path, f"it has {found.size_bytes} bytes and not {file.size_bytes}")
            return 0
        digest, crc32 = hashlib.sha256(), 0
        for block in self._package.blocks(found):
            digest.update(block)
            crc32 = zlib.crc32(block, crc32)
            self._done_bytes += len(block)
            self._progress(self._done_bytes, total)
        if digest.hexdigest() != file.sha256:
            self._find(Wrong.CHANGED, file.path, f"its SHA-256 is {digest.hexdigest()} and not {file.sha256}")
        elif found.crc32 not in (None, crc32):
            self._find(Wrong.CHANGED, file.path, "its checksum in the ZIP is not that of its bytes")
        elif _is_not_as_recorded(file):
            why = "it is as signed, but not as recorded: the host found other bytes when it packed them"
            self._find(Wrong.CHANGED, file.path, why)
        return crc32

    def _check_container(self, entries: Iterable[Entry]) -> None:
        told = {finding.name for finding in self._findings if finding.name is not None}
        for name, why in self._package.deviations(list(entries)):
            if name is None or name not in told:
                self._find(Wrong.CHANGED, name, why)


def check(package: Opened, wanted: PublicKey | str | None, progress: Progress) -> Report:
    """Everything that is wrong with a package. Raises OSError."""
    return Checker(package, wanted, progress).run()


def _entry(file: ManifestFile, created_at: datetime, crc32: int, before: list[Entry]) -> Entry:
    """The file's place in the ZIP, as it must be."""
    return Entry(
        name=file.path,
        moment=created_at if file.span is None else file.span.start,
        size_bytes=file.size_bytes,
        crc32=crc32,
        offset=before[-1].end if before else 0,
    )


def _is_not_as_recorded(file: ManifestFile) -> bool:
    if file.role is FileRole.REMUXED:
        return False  # it does not claim to be
    recorded = None if file.source is None else file.source.recorded_sha256
    return file.role is FileRole.DIFFERING or recorded not in (None, file.sha256)
