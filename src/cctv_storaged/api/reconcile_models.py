"""What is asked of a reconcile, and answered; as in models.py."""

from typing import Annotated, Literal

from pydantic import Field

from cctv_storaged.api.models import Incoming, Moment, Outgoing, Uuid
from cctv_storaged.reconciling.differences import Kind, SectionKind


class ReconcileBody(Incoming):
    """A comparison to be begun."""

    apply: Annotated[bool, Field(strict=True)] = False
    """Whether to mend what differs. Left out: it is only told. Nothing is ever deleted."""
    force: Annotated[bool, Field(strict=True)] = False
    """Whether to act in spite of the brake; needs `apply`, and the scope `admin`."""


class ReconcileSectionAnswer(Outgoing):
    """One thing that is compared with the journal."""

    name: str
    """The backend's name, the root's path, or `catalog`."""
    kind: SectionKind
    looked: int
    """Objects, files or rows looked at so far."""
    elsewhere: int
    """Of these, segments of other hosts in the same place."""
    young: int
    """Left out: objects, proofs or files that are younger than 5 minutes."""
    under_way: int
    """Left out: being put, proven or deleted, or not told to the catalog yet."""
    done: bool
    trouble: str | None
    """Why it could not be looked at, or not to its end."""


class DifferenceAnswer(Outgoing):
    """One thing that differs."""

    section: str
    path: str | None
    segment_id: Uuid | None
    camera_id: Uuid | None
    detail: str


class DifferencesAnswer(Outgoing):
    """All differences of one kind."""

    kind: Kind
    found: int
    applied: int
    """How many of them were mended, or handed to whoever mends them."""
    lost: int
    """How many could not be: nothing is left of them, and each was told as a loss."""
    lost_held: int
    """How many of those are under a hold."""
    lost_held_samples: list[DifferenceAnswer]
    """The first 100 of them."""
    samples: list[DifferenceAnswer]
    """The first 100."""


class BrakeAnswer(Outgoing):
    """Where so much is gone that nothing is done without `force`."""

    section: str
    camera_id: Uuid | None
    """The camera; null: the whole section."""
    gone: int
    compared: int


class ReconcileRunAnswer(Outgoing):
    """A comparison and how far it is."""

    id: Uuid
    apply: bool
    force: bool
    why: str
    """Who or what began it: a token's name, `api`, `schedule`, `new journal`."""
    started_at: Moment
    finished_at: Moment | None
    resumed: int
    """How often another process of the daemon went on with it."""
    phase: Literal["finding", "acting", "ended"]
    section: str | None
    """What is being looked at."""
    looked: int
    """Objects, files and rows looked at so far, to find."""
    sections: list[ReconcileSectionAnswer]
    differences: list[DifferencesAnswer]
    braked: list[BrakeAnswer]
    error: str | None


class ReconcileAnswer(Outgoing):
    """The comparison under way, or the last one."""

    status: Literal["none", "running", "completed", "incomplete", "cancelled", "failed"]
    """`none`: there never was one. `incomplete`: something could not be looked at, see `sections`."""
    run: ReconcileRunAnswer | None
