"""Evidence packages for tests, small and complete, made as the exporter makes them."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID
from zipfile import ZipFile

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cctv_storaged.evidence.facts import ExportFacts, Missing, OpenOriginal, Original, WorkingCopy
from cctv_storaged.evidence.keys import PublicKey, SigningKey
from cctv_storaged.evidence.manifest import ManifestClock, ManifestHost
from cctv_storaged.evidence.opened import opened_package
from cctv_storaged.evidence.package import PackageFacts, package_at
from cctv_storaged.evidence.verify import Report, check
from cctv_storaged.model import Camera, SegmentFlag, TimeSpan

Opening = Callable[[], AbstractAsyncContextManager[OpenOriginal]]

GATE = Camera(id=UUID("123e4567-e89b-12d3-a456-426614174000"), name="Gate", folder="gate")
YARD = Camera(id=UUID("223e4567-e89b-12d3-a456-426614174000"), name="Yard", folder="yard")
START = datetime(2026, 3, 29, 0, 59, 50, tzinfo=UTC)
"""Ten seconds before summer time begins in Berlin."""
STEP = timedelta(seconds=10)
HOST = ManifestHost(
    id="nvr-01",
    software="cctv-storaged test",
    ffmpeg="7.1",
    time_zone="Europe/Berlin",
    clock=ManifestClock(
        synchronized=True, told_by="kernel", offset_us=120, max_error_us=15000, store_offset_ms=None
    ),
)
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
OTHER_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))


def facts(**changes: object) -> ExportFacts:
    """An export of two cameras."""
    plain = ExportFacts(
        id=UUID("323e4567-e89b-12d3-a456-426614174000"),
        created_at=START + timedelta(hours=1),
        requested_at=START + timedelta(minutes=50),
        created_by="j.doe",
        reason="break-in at the gate",
        case_id="2026-0815",
        span=TimeSpan(START, START + 3 * STEP),
        format="mp4",
        precise=False,
        cameras=(GATE, YARD),
        host=HOST,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def original(camera: Camera, number: int, contents: bytes, **changes: object) -> Original:
    """The camera's segment of that number, whose bytes come in small blocks."""
    plain = Original(
        camera_id=camera.id,
        segment_id=UUID(int=number + 1),
        span=TimeSpan(START + number * STEP, START + (number + 1) * STEP),
        size_bytes=len(contents),
        sha256=sha256(contents).digest(),
        path=f"{camera.folder}/2026-03-29/{number}.ts",
        codec="h264",
        flags=frozenset({SegmentFlag.PARTIAL}) if number else frozenset(),
        registered_at=START + timedelta(minutes=1),
        open=giving(contents),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def giving(contents: bytes, error: Exception | None = None) -> Opening:
    """What opens an original: its bytes, and then the error if there is one."""

    async def blocks() -> AsyncIterator[bytes]:
        for at in range(0, len(contents), 100):
            yield contents[at : at + 100]
        if error is not None:
            raise error

    @asynccontextmanager
    async def opening() -> AsyncIterator[OpenOriginal]:
        yield OpenOriginal("FILESYSTEM", blocks())

    return opening


@dataclass(frozen=True, slots=True)
class Made:
    """A package and what was said at its making."""

    path: Path
    facts: PackageFacts

    @property
    def raw(self) -> bytes:
        return self.path.read_bytes()

    @property
    def names(self) -> list[str]:
        return [file.path for file in self.facts.manifest.files]


async def make_package(
    folder: Path,
    *,
    export: ExportFacts | None = None,
    originals: Iterable[Original] | None = None,
    key: SigningKey = KEY,
) -> Made:
    """A package with three originals, a working copy and a gap, unless told otherwise."""
    out = folder / "package.zip"
    clip = folder / "clip.mp4"
    clip.write_bytes(b"not really a film" * 20)
    export = export or facts()
    if originals is None:
        originals = [
            original(GATE, 0, b"G0" * 200),
            original(GATE, 1, b"G1" * 150, sha256=None),
            original(YARD, 0, b"Y" * 188),
        ]
    async with package_at(out, export, key) as package:
        for each in originals:
            await package.add_original(each)
        await package.add_working_copy(
            WorkingCopy(
                camera_id=export.cameras[0].id,
                file=clip,
                span=TimeSpan(START, START + 2 * STEP),
                codec="h264",
                made_by="stream_copy",
            )
        )
        gap = Missing(
            span=TimeSpan(START + 2 * STEP, START + 3 * STEP), cause="lost", detail="segment 7 was gone"
        )
        done = await package.finish({export.cameras[0].id: [gap]})
    clip.unlink()
    return Made(out, done)


def signed_anew(folder: Path, document: object, key: SigningKey = KEY) -> None:
    """Puts another manifest into an unpacked package, with a signature of its own."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    (folder / "manifest.json").write_bytes(raw)
    (folder / "manifest.json.sig").write_bytes(key.sign(raw))


def checked(path: Path, key: PublicKey | str | None = None) -> Report:
    with opened_package(path) as package:
        return check(package, key, lambda done, total: None)


def unpacked(package: Path, folder: Path) -> Path:
    with ZipFile(package) as file:
        file.extractall(folder)
    return folder
