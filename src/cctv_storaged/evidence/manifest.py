"""The manifest of an export or evidence package: frozen values, their JSON, and a reader that takes no other.

Every time stands there twice: in UTC, and in the host's zone with its offset, as people on the site knew it.
"""

import json
from collections import Counter
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Annotated, Literal, NoReturn, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import PackageError
from cctv_storaged.evidence.names import is_safe
from cctv_storaged.model import TimeSpan

FORMAT = "cctv-storaged-manifest"
VERSIONS = (1, 2)
"""2: the same, with files of the role `remuxed`; without any 1 is written, for checkers that know no more."""
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
PUBLIC_KEY = "public-key.pem"
MOST_MANIFEST_BYTES = 128 * 1024 * 1024
"""A reader's bound; MOST_FILES fit: a file takes some 900 bytes."""
MOST_FILES = 100_000
_FAULTS_TOLD = 5


class FileRole(StrEnum):
    """What a file of a package is for."""

    ORIGINAL = "original"  # the recorder's bytes, as they were recorded
    DIFFERING = "differing"  # meant to be an original, but its bytes are not the ones that were recorded
    REMUXED = "remuxed"  # read back from a VMS: the coded pictures of what is not held as recorded any more
    WORKING_COPY = "working_copy"  # made from the originals so that any player shows it
    SHEET = "sheet"
    PUBLIC_KEY = "public_key"
    README = "readme"


def _parsed_moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not value.endswith("Z") or value[10:11] != "T":
        raise ValueError("must be a time in UTC such as 2026-01-31T12:00:00Z")
    return datetime.fromisoformat(value).astimezone(UTC)


def _local_text(value: str) -> str:
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("must have its offset from UTC, such as 2026-01-31T13:00:00+01:00")
    return value


def _safe_path(value: str) -> str:
    if not is_safe(value):
        raise ValueError("must be a plain relative path below the package")
    return value


Moment = Annotated[
    datetime,
    BeforeValidator(_parsed_moment),
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
LocalMoment = Annotated[str, AfterValidator(_local_text), WithJsonSchema({"type": "string"})]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, lt=2**63)]
PackagePath = Annotated[str, AfterValidator(_safe_path)]


class Part(BaseModel):
    """A part of the manifest: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ManifestSpan(Part):
    """Half-open `[start, end)`."""

    start: Moment
    end: Moment
    local_start: LocalMoment
    """The same moment in the host's zone, with its offset."""
    local_end: LocalMoment

    @classmethod
    def of(cls, span: TimeSpan, zone: tzinfo) -> Self:
        return cls(
            start=span.start,
            end=span.end,
            local_start=local_time(span.start, zone),
            local_end=local_time(span.end, zone),
        )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.end <= self.start:
            raise ValueError("a span ends after it starts")
        locals_ = datetime.fromisoformat(self.local_start), datetime.fromisoformat(self.local_end)
        if locals_ != (self.start, self.end):
            raise ValueError("local and UTC time are not the same moment")
        return self


def local_time(moment: datetime, zone: tzinfo) -> str:
    """The moment in the zone, with its offset; in UTC where the calendar ends in between."""
    try:
        return moment.astimezone(zone).isoformat()
    except OverflowError:
        return moment.isoformat()


class ManifestGap(Part):
    """A part of the requested span without footage."""

    span: ManifestSpan
    cause: str
    """A word: as of coverage (docs/reference/coverage.md), or for what befell the export."""
    detail: str | None = None


class ManifestCamera(Part):
    """A camera that was asked for, with or without footage."""

    id: UUID
    name: str
    gaps: tuple[ManifestGap, ...]


class ManifestSource(Part):
    """Where an original's bytes come from."""

    segment_id: UUID
    host_id: str
    path: str
    """Below the recorder root; bytes that are not UTF-8 as `\\xNN`."""
    read_from: str
    """`SOURCE` (the recorder's own file), or the backend whose copy was read."""
    recorded_sha256: Sha256 | None
    """What the journal knew before this package was made; null where nothing had been delivered yet."""
    registered_at: Moment


class ManifestFile(Part):
    """A file of the package or export."""

    path: PackagePath
    role: FileRole
    size_bytes: Size
    sha256: Sha256
    camera_id: UUID | None = None
    span: ManifestSpan | None = None
    codec: str | None = None
    flags: tuple[str, ...] = ()
    """What a careful reader should know: docs/reference/segments.md."""
    source: ManifestSource | None = None
    """Of originals, and of what was read back in their place."""
    made_by: Literal["stream_copy", "edges_reencoded"] | None = None
    """Working copies only: whether every picture is the recorder's, or those at both ends are made anew."""


class ManifestRequest(Part):
    """Who wanted what, and why."""

    created_by: str | None
    reason: str | None
    case_id: str | None
    requested_at: Moment
    span: ManifestSpan
    format: str
    precise: bool


class ManifestClock(Part):
    """The state of the host's clock when the package was made."""

    synchronized: bool | None
    """Null where this could not be found out."""
    told_by: Literal["kernel", "timesyncd", "nobody"]
    offset_us: int | None
    """What the kernel still has to correct."""
    max_error_us: int | None
    store_offset_ms: int | None
    """The object store's clock minus the host's."""


class ManifestHost(Part):
    """What made the package."""

    id: str
    software: str
    ffmpeg: str | None
    time_zone: str
    """IANA name of the zone of all local times here."""
    clock: ManifestClock


class Manifest(Part):
    """Everything that is known of an export."""

    format: Literal["cctv-storaged-manifest"] = "cctv-storaged-manifest"
    version: Literal[1, 2] = 1
    kind: Literal["evidence", "export"]
    export_id: UUID
    created_at: Moment
    created_at_local: LocalMoment
    key: str | None
    """Fingerprint of the key that signs it; null for one that is not signed."""
    request: ManifestRequest
    host: ManifestHost
    cameras: tuple[ManifestCamera, ...]
    files: tuple[ManifestFile, ...]
    """All but the manifest and its signature, in the package's order."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        paths = [file.path.casefold() for file in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file is named twice")
        if not {MANIFEST, SIGNATURE}.isdisjoint(paths):
            raise ValueError("the manifest cannot list itself or its signature")
        if self.version == 1 and self.of_role(FileRole.REMUXED):
            raise ValueError("version 1 has no files of the role remuxed")
        return self

    def of_role(self, *roles: FileRole) -> list[ManifestFile]:
        return [file for file in self.files if file.role in roles]


def plain_text(text: str) -> str:
    r"""Text that UTF-8 can hold: bytes of a file name that are none become `\xNN`."""
    try:
        return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return text.encode(errors="backslashreplace").decode()


def written(manifest: Manifest) -> bytes:
    """The manifest's one rendering: JSON in UTF-8, keys in the order of the format, a line feed at the end.

    Raises PackageError where a reader would refuse its size.
    """
    rendered = manifest.model_dump_json(indent=1).encode() + b"\n"  # 100,000 files as values take 1 GB
    if len(rendered) > MOST_MANIFEST_BYTES or len(manifest.files) > MOST_FILES:
        raise PackageError(
            f"{len(manifest.files)} files are too many for a package: ask for a shorter span or fewer cameras"
        )
    return rendered


def read(raw: bytes) -> Manifest:
    """The manifest that these bytes are. Raises PackageError, which says what is wrong with them."""
    if len(raw) > MOST_MANIFEST_BYTES:
        raise PackageError(f"{MANIFEST} is larger than {MOST_MANIFEST_BYTES} bytes")
    _require_known(_document(raw))
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as exc:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in exc.errors(include_url=False, include_context=False, include_input=False)
        ]
        more = f" (and {len(faults) - _FAULTS_TOLD} more)" if len(faults) > _FAULTS_TOLD else ""
        raise PackageError(f"{MANIFEST} is not understood: {'; '.join(faults[:_FAULTS_TOLD])}{more}") from exc


def _document(raw: bytes) -> object:
    """The JSON value, if no object in it says a thing twice. Raises PackageError."""
    try:
        document: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as exc:
        raise PackageError(f"{MANIFEST} is no JSON in UTF-8: {exc}") from exc
    return document


def _require_known(document: object) -> None:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PackageError(f"{MANIFEST} is not of the format {FORMAT}")
    version = document.get("version")
    if type(version) is not int or version not in VERSIONS:  # True and 1.0 equal 1
        raise PackageError(
            f"{MANIFEST} has version {version!r}, and this program knows version"
            f" {' and '.join(map(str, VERSIONS))}: check the package with a newer cctv-storaged"
        )


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
