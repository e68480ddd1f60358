"""What is asked of exports, and answered; as in models.py."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Sha256Hex, Uuid, whole_number
from cctv_storaged.api.sifting import CURSOR
from cctv_storaged.evidence.manifest import Manifest
from cctv_storaged.exporting.request import MOST_CAMERAS
from cctv_storaged.journal.exportrows import ExportStatus
from cctv_storaged.model import GapCause

MOST_EXPORTS = 100
_LINE = r"^[^\x00-\x1f\x7f-\x9f]+$"


class NewExportBody(Incoming):
    """An export to be made."""

    camera_ids: Annotated[list[Uuid], Field(min_length=1, max_length=MOST_CAMERAS)]
    """The cameras, each once. One gives one file; several give a ZIP with a file for each."""
    start_time: Moment
    """Begin of the span; not in the future."""
    end_time: Moment
    """End of the span, exclusive; at most `exports.max_span` later."""
    format: Literal["mp4", "mkv", "ts"]
    """Container of the pictures, which are copied as they were recorded."""
    reason: Annotated[str, Field(strict=True, min_length=1, max_length=2000, pattern=_LINE)]
    """Why, for whoever asks later."""
    case_id: Annotated[str, Field(strict=True, min_length=1, max_length=255, pattern=_LINE)] | None = None
    """The case it belongs to."""
    created_by: Annotated[str, Field(strict=True, min_length=1, max_length=255, pattern=_LINE)] | None = None
    """Who asks for it. Left out: the name of the token."""
    precise: Annotated[bool, Field(strict=True)] = False
    """Begin and end to the picture, by encoding both ends anew; else begin at the key frame before."""
    package: Literal["plain", "evidence"] = "plain"
    """`evidence`: a signed ZIP with the untouched originals as well (docs/reference/evidence.md)."""


class ExportsQuery(Incoming):
    """Which exports."""

    status: ExportStatus | None = None
    """Only those with this status."""
    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=MOST_EXPORTS)] = 50
    """Most exports in one answer."""
    cursor: Annotated[str, Field(pattern=CURSOR)] | None = None
    """`next_cursor` of the answer before, with the other parameters as they were."""


class ExportFileAnswer(Outgoing):
    """One camera's footage in one piece."""

    name: str
    camera_id: Uuid
    start_time: Moment
    """When what is shown first was recorded."""
    end_time: Moment
    size_bytes: int
    checksum: Sha256Hex
    codec: str | None


class ExportGapAnswer(Outgoing):
    """A span asked for that the export does not hold."""

    camera_id: Uuid
    start: Moment
    end: Moment
    cause: GapCause | Literal["unreadable", "damaged", "differing", "remuxed", "missing"]
    """As of coverage, or what befell the footage in the export (docs/reference/exports.md)."""
    detail: str | None


class ExportAnswer(Outgoing):
    """An export and how far it is."""

    id: Uuid
    status: ExportStatus
    progress: Annotated[float, Field(ge=0, le=1)]
    error: str | None
    """Why it failed, or what it waits for."""
    camera_ids: list[Uuid]
    start_time: Moment
    end_time: Moment
    format: Literal["mp4", "mkv", "ts"]
    precise: bool
    package: Literal["plain", "evidence"]
    reason: str
    case_id: str | None
    created_by: str | None
    created_at: Moment
    completed_at: Moment | None
    """When it came to its end, whichever."""
    expires_at: Moment | None
    expired: bool
    """Whether its file is no longer to be had."""
    download_url: str | None
    """Where its file is while it is to be had: at the store, signed for 15 minutes and for whoever has it, or
    relative to this API; `exports.download` says which."""
    file_name: str | None
    file_size: int | None
    checksum: Sha256Hex | None
    """SHA-256 of the file."""
    segments: int | None
    """How many segments it holds something of."""
    files: list[ExportFileAnswer]
    """The first of them; the manifest has all."""
    files_total: int
    gaps: list[ExportGapAnswer]
    """The first of them; the manifest has all."""
    gaps_total: int


class ExportsAnswer(Outgoing):
    """Exports, newest first."""

    exports: list[ExportAnswer]
    next_cursor: str | None
    """Where to go on; null when these were the last."""


class ExportSourceAnswer(Outgoing):
    """A segment that an export was made of, or was to be."""

    segment_id: Uuid
    camera_id: Uuid
    start_time: Moment
    end_time: Moment
    size_bytes: int
    sha256: Sha256Hex | None
    """Null where it had not been delivered yet."""
    used: bool
    """Whether something of it is in the export."""


class ExportedFileAnswer(Outgoing):
    """The file as a whole."""

    name: str
    size_bytes: int
    sha256: Sha256Hex


class ExportManifestAnswer(Outgoing):
    """Everything that is known of a finished export."""

    manifest: Manifest
    """Request, host, cameras with all gaps, and the files; of an evidence package as it was signed."""
    sources: list[ExportSourceAnswer]
    file: ExportedFileAnswer
