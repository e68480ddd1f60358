"""What can differ, and the account of it that a run keeps. Values; no I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from uuid import UUID

SAMPLES = 100
"""Differences of each kind that are told one by one; the others are counted."""


class Kind(StrEnum):
    """One way in which two of the four tell different things."""

    ORPHAN_OBJECT = "orphan_object"  # an object of ours without a row: adopted
    GHOST = "ghost"  # a row that says verified, and no object: put again, or told as lost
    MISMATCH = "mismatch"  # an object of another size than its row: proven anew
    UNREGISTERED_FILE = "unregistered_file"  # a recorder's file without a row: a scan registers it
    MISSING_SOURCE = "missing_source"  # a row whose source is gone, on the right disk
    CATALOG_MISSING = "catalog_missing"  # a row that the catalog was told and does not have: told anew
    CATALOG_EXTRA = "catalog_extra"  # a row of this host in the catalog alone: it is to forget it
    CATALOG_DIFFERS = "catalog_differs"  # told anew


GONE = frozenset({Kind.GHOST, Kind.MISSING_SOURCE, Kind.CATALOG_EXTRA})
"""Kinds whose number is braked: many at once are a wrong disk, bucket or journal rather than the truth."""


class SectionKind(StrEnum):
    """What is compared with the journal."""

    BACKEND = "backend"
    ROOT = "root"
    CATALOG = "catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that differs. What is not known of it, or has no place in it, is None."""

    kind: Kind
    section: str  # the backend's name, the root's path, or `catalog`
    path: str | None = None
    segment_id: UUID | None = None
    camera_id: UUID | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stretch of a section that was compared whole; `cursor` is where to go on behind it."""

    cursor: str
    looked: int  # objects, files or rows
    compared: Mapping[UUID, int]  # rows of a camera that were held against something that is braked
    differences: tuple[Difference, ...] = ()
    elsewhere: int = 0  # objects of other hosts, and what is no segment
    young: int = 0  # left out: objects, proofs or files of the last minutes
    under_way: int = 0  # left out: being put, proven or deleted, or not told to the catalog yet


class Mending(StrEnum):
    """What came of acting on a difference."""

    MENDED = "mended"  # or handed to whoever mends it
    LOST = "lost"  # nothing is left to mend it from: told as a loss
    LEFT = "left"


@dataclass(slots=True, kw_only=True)
class Count:
    """Of one kind."""

    found: int = 0
    applied: int = 0
    lost: int = 0  # of which nothing was left to mend it from
    lost_held: int = 0  # of these, under a hold
    lost_held_samples: list[Difference] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Share:
    """How much of a camera's rows a section lacks."""

    compared: int = 0
    gone: int = 0
    acted: int = 0


@dataclass(slots=True, kw_only=True)
class SectionAccount:
    """How far a section is, and what is known of it."""

    name: str
    kind: SectionKind
    looked: int = 0
    elsewhere: int = 0
    young: int = 0
    under_way: int = 0
    done: bool = False
    trouble: str | None = None  # why it could not be looked at (any further)
    shares: dict[UUID, Share] = field(default_factory=dict)

    def share(self, camera_id: UUID) -> Share:
        return self.shares.setdefault(camera_id, Share())

    @property
    def compared(self) -> int:
        return sum(share.compared for share in self.shares.values())

    @property
    def gone(self) -> int:
        return sum(share.gone for share in self.shares.values())


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was found, counted by kind, with the first of each."""

    counts: dict[Kind, Count] = field(default_factory=dict)
    samples: list[Difference] = field(default_factory=list)

    def note(self, difference: Difference) -> None:
        """Paths are any bytes, as os.fsdecode gives them; a sample has what can be written down."""
        count = self.counts.setdefault(difference.kind, Count())
        if count.found < SAMPLES:
            self.samples.append(_writable(difference))
        count.found += 1

    def applied(self, kind: Kind) -> None:
        self.counts.setdefault(kind, Count()).applied += 1

    def lost(self, difference: Difference, *, held: bool) -> None:
        """It could not be mended: its footage is no more."""
        count = self.counts.setdefault(difference.kind, Count())
        count.lost += 1
        if held:
            count.lost_held += 1
            if len(count.lost_held_samples) < SAMPLES:
                count.lost_held_samples.append(_writable(difference))

    @property
    def total(self) -> int:
        return sum(count.found for count in self.counts.values())

    @property
    def left(self) -> int:
        """Found and not mended; what was lost is among them."""
        return sum(max(0, count.found - count.applied) for count in self.counts.values())

    @property
    def gone(self) -> tuple[int, int]:
        """What was told as lost, and how much of it is under a hold."""
        counts = self.counts.values()
        return sum(count.lost for count in counts), sum(count.lost_held for count in counts)

    def told(self) -> str:
        """For people."""
        return ", ".join(f"{count.found} {kind}" for kind, count in self._some())

    def _some(self) -> Iterator[tuple[Kind, Count]]:
        return ((kind, self.counts[kind]) for kind in Kind if kind in self.counts)


def _writable(difference: Difference) -> Difference:
    path = difference.path
    shown = None if path is None else path.encode(errors="backslashreplace").decode()
    return replace(difference, path=shown)
