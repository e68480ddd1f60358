"""What the ledger's resources take and answer."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Sha256Hex, Uuid, whole_number
from cctv_storaged.journal.ledger import Kind

LineNumber = Annotated[int, BeforeValidator(whole_number), Field(ge=0)]


class LedgerQuery(Incoming):
    """Which lines."""

    after: LineNumber = 0
    """Lines with numbers above it."""
    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1000)] = 100
    """Most lines in one answer."""
    camera_id: Uuid | None = None
    """Lines of this camera only. The chain of what is left out cannot be followed."""
    kind: Kind | None = None
    """Lines of this kind only, likewise."""


class LedgerExportQuery(Incoming):
    """Which lines."""

    after: LineNumber = 0
    """Lines with numbers above it."""


class LedgerLineAnswer(Outgoing):
    """One line of the ledger."""

    no: int
    """Its number: without a gap from 1 on."""
    at: Moment
    """When it was written."""
    kind: Kind
    """What happened."""
    id: Uuid
    """Of the segment, hold or export; zeros where the line is about the host."""
    camera_id: Uuid
    """The camera; zeros likewise."""
    start: Moment
    """Begin of the footage it is about."""
    end: Moment
    """End of it; the same moment where the line is about the host."""
    cause: str
    """Why, in a stable word."""
    detail: str
    """More; a JSON object for some kinds."""
    hash: Sha256Hex | None
    """SHA-256 over the hash of the line before and this line."""


class LedgerAnswer(Outgoing):
    """One page of the ledger."""

    lines: list[LedgerLineAnswer]
    next_after: int | None
    """Ask on with `after` of it; null: that was the end. A page of chosen lines may be empty before it."""


class LedgerHeadAnswer(Outgoing):
    """The ledger's end."""

    no: int
    """Number of the last line."""
    hash: Sha256Hex
    """Its hash."""
    at: Moment
    """Now."""
    host: str
    """The host whose ledger it is."""
    chain: str
    """Hash of line 1, which names the chain; empty where that line was lost."""
    archived: int
    """Lines up to this one are in archives."""
    signed: str | None
    """The newest head that was signed, as a file: for `cctv-storaged verify --ledger --head`."""
    signed_path: str | None
    """Where in the store it lies, or is going to."""
    signed_is_stored: bool
    """Whether it lies there."""
