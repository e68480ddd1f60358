"""Making an evidence package: originals and working copies one by one, then what explains and proves them.

    async with package_at(out, export, key) as package:
        for each segment: await package.add_original(…)     # a failed one leaves no trace: tell it as missing
        for each clip:    await package.add_working_copy(…)
        facts = await package.finish(missing)               # only now is there a file `out`

Nothing is held in memory, no file is read twice, and the event loop never waits for the disk.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import UUID

from cctv_storaged.errors import PackageError
from cctv_storaged.evidence.facts import (
    ExportFacts,
    Missing,
    OpenOriginal,
    Original,
    WorkingCopy,
    manifest_of,
)
from cctv_storaged.evidence.keys import SigningKey
from cctv_storaged.evidence.manifest import (
    MANIFEST,
    MOST_FILES,
    PUBLIC_KEY,
    SIGNATURE,
    FileRole,
    Manifest,
    ManifestFile,
    ManifestSource,
    ManifestSpan,
    plain_text,
    written,
)
from cctv_storaged.evidence.names import UNKNOWN_DIGEST, clip_path, folders_of, original_path
from cctv_storaged.evidence.sheet import README_TEXT, sheet
from cctv_storaged.evidence.stored import StoredZip

SHEET, README = "sheet.html", "README.txt"
UNFINISHED = ".unfinished"
"""What the name of a package ends in until it is whole; whoever clears the work folder may remove it."""
BLOCK_BYTES = 1024 * 1024

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFacts:
    """A package that was made."""

    size_bytes: int
    manifest: Manifest
    manifest_raw: bytes  # exactly as signed


@asynccontextmanager
async def package_at(
    out: Path, export: ExportFacts, key: SigningKey, wrote: Callable[[int], None] = lambda size_bytes: None
) -> AsyncIterator["PackageWriter"]:
    """A package in the making; a file `out` exists once `finish` has returned, and else nothing stays.

    `wrote(size_bytes)` is called as originals and working copies go in.
    """
    unfinished = out.with_name(out.name + UNFINISHED)
    zip_file = await _in_thread(StoredZip, unfinished)
    try:
        yield PackageWriter(zip_file, unfinished, out, export, key, wrote)
    finally:
        await _in_thread(_put_away, zip_file, unfinished)


class PackageWriter:
    """One package in the making."""

    def __init__(
        self,
        zip_file: StoredZip,
        unfinished: Path,
        out: Path,
        export: ExportFacts,
        key: SigningKey,
        wrote: Callable[[int], None],
    ) -> None:
        self._zip = zip_file
        self._unfinished = unfinished
        self._out = out
        self._export = export
        self._zone = export.zone
        self._key = key
        self._wrote = wrote
        self._folders = folders_of(export.cameras)
        self._starts: Counter[tuple[UUID, datetime]] = Counter()
        self._files: list[ManifestFile] = []

    async def add_original(self, original: Original) -> ManifestFile:
        """The segment's bytes, untouched; where they are not those of the journal its role says so, and where
        a VMS gave its pictures instead as well.

        Raises PackageError where there are more or fewer bytes than the journal knows, and whatever reading
        them raises; the package is then as it was before.
        """
        self._require_room()
        async with original.open() as opened:
            size_bytes, span = original.size_bytes, original.span
            if opened.remuxed is not None:
                size_bytes, span = opened.remuxed.size_bytes, opened.remuxed.span
            name = self._original_name(original, opened, UNKNOWN_DIGEST)
            with self._one_more(original):
                await self._begin(name, span.start, size_bytes)
                async with self._abandoned_on_error():
                    async for block in _gathered(opened.blocks):
                        await _in_thread(self._zip.write, block)
                        self._wrote(len(block))
                    digest = self._zip.digest
                    name = self._original_name(original, opened, digest.hex())
                    await _in_thread(self._zip.end, name)
            return self._listed(_original_file(self._export, original, opened, name, digest))

    async def add_working_copy(self, copy: WorkingCopy) -> ManifestFile:
        """A playable file. Raises PackageError where it changes meanwhile, OSError."""
        self._require_room()
        name = clip_path(self._folders[copy.camera_id], copy.part, copy.file.suffix)
        size_bytes = (await _in_thread(os.stat, copy.file)).st_size
        await self._begin(name, copy.span.start, size_bytes)
        async with self._abandoned_on_error():
            async for block in _blocks_of(copy.file):
                await _in_thread(self._zip.write, block)
                self._wrote(len(block))
            digest = self._zip.digest
            await _in_thread(self._zip.end, name)
        return self._listed(
            ManifestFile(
                path=name,
                role=FileRole.WORKING_COPY,
                size_bytes=size_bytes,
                sha256=digest.hex(),
                camera_id=copy.camera_id,
                span=ManifestSpan.of(copy.span, self._zone),
                codec=copy.codec,
                made_by=copy.made_by,
            )
        )

    async def finish(self, missing: Mapping[UUID, Sequence[Missing]]) -> PackageFacts:
        """Sheet, key, manifest and signature; then the package gets its name, whole and on the disk.

        `missing`: what of each camera's span has no footage here. Raises PackageError, OSError.
        """
        fingerprint = self._key.public.fingerprint
        so_far = manifest_of(self._export, self._files, missing, kind="evidence", key=fingerprint)
        await self._add(SHEET, FileRole.SHEET, await _in_thread(_sheet_bytes, so_far))
        await self._add(PUBLIC_KEY, FileRole.PUBLIC_KEY, self._key.public.pem)
        await self._add(README, FileRole.README, README_TEXT.encode())
        manifest = manifest_of(self._export, self._files, missing, kind="evidence", key=fingerprint)
        raw = await _in_thread(written, manifest)
        await self._write(MANIFEST, raw)
        await self._write(SIGNATURE, await _in_thread(self._key.sign, raw))
        size_bytes = await _in_thread(self._zip.finish)
        await _in_thread(_give_name, self._unfinished, self._out)
        return PackageFacts(size_bytes=size_bytes, manifest=manifest, manifest_raw=raw)

    def _require_room(self) -> None:
        if len(self._files) >= MOST_FILES - 3:  # sheet, key, README
            raise PackageError(
                f"a package holds at most {MOST_FILES} files: ask for a shorter span or fewer cameras"
            )

    def _original_name(self, original: Original, opened: OpenOriginal, digest: str) -> str:
        occurrence = self._starts[original.camera_id, original.span.start] + 1
        folder, remuxed = self._folders[original.camera_id], opened.remuxed is not None
        return original_path(folder, original.span.start, occurrence, digest, remuxed=remuxed)

    @contextlib.contextmanager
    def _one_more(self, original: Original) -> Iterator[None]:
        """The next original of this camera with the same start has another name, unless this one fails."""
        yield
        self._starts[original.camera_id, original.span.start] += 1

    @asynccontextmanager
    async def _abandoned_on_error(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            await _in_thread(self._zip.abandon)
            raise

    def _listed(self, file: ManifestFile) -> ManifestFile:
        self._files.append(file)
        return file

    async def _add(self, name: str, role: FileRole, contents: bytes) -> None:
        digest = await self._write(name, contents)
        self._listed(ManifestFile(path=name, role=role, size_bytes=len(contents), sha256=digest.hex()))

    async def _write(self, name: str, contents: bytes) -> bytes:
        await self._begin(name, self._export.created_at, len(contents))
        await _in_thread(self._zip.write, contents)
        digest = self._zip.digest
        await _in_thread(self._zip.end, name)
        return digest

    async def _begin(self, name: str, moment: datetime, size_bytes: int) -> None:
        await _in_thread(self._zip.begin, name, moment, size_bytes)


def _original_file(
    export: ExportFacts, original: Original, opened: OpenOriginal, name: str, digest: bytes
) -> ManifestFile:
    """What the manifest says of an original, now that its bytes are known."""
    remuxed = opened.remuxed
    role = FileRole.ORIGINAL if original.sha256 in (None, digest) else FileRole.DIFFERING
    return ManifestFile(
        path=name,
        role=role if remuxed is None else FileRole.REMUXED,
        size_bytes=original.size_bytes if remuxed is None else remuxed.size_bytes,
        sha256=digest.hex(),
        camera_id=original.camera_id,
        span=ManifestSpan.of(original.span if remuxed is None else remuxed.span, export.zone),
        codec=original.codec,
        flags=tuple(sorted(original.flags)),
        source=ManifestSource(
            segment_id=original.segment_id,
            host_id=export.host.id,
            path=plain_text(original.path),
            read_from=opened.read_from,
            recorded_sha256=None if original.sha256 is None else original.sha256.hex(),
            registered_at=original.registered_at,
        ),
    )


def _sheet_bytes(manifest: Manifest) -> bytes:
    return sheet(manifest).encode()


def _put_away(zip_file: StoredZip, unfinished: Path) -> None:
    zip_file.close()
    unfinished.unlink(missing_ok=True)


def _give_name(unfinished: Path, out: Path) -> None:
    os.rename(unfinished, out)
    folder = os.open(out.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def _gathered(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in larger blocks: each costs a way to a thread and back."""
    parts: list[bytes] = []
    async for block in blocks:
        parts.append(block)
        if sum(map(len, parts)) >= BLOCK_BYTES:
            yield b"".join(parts)
            parts.clear()
    if parts:
        yield b"".join(parts)


async def _blocks_of(path: Path) -> AsyncIterator[bytes]:
    descriptor = await _in_thread(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while block := await _in_thread(os.read, descriptor, BLOCK_BYTES):
            yield block
    finally:
        os.close(descriptor)


async def _in_thread(action: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """The action in a thread, ended when this returns: a cancelled task leaves nobody at work on the file."""
    working = asyncio.ensure_future(asyncio.to_thread(action, *arguments, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
