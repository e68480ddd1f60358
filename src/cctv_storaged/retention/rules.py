"""How old footage may and must become, and what may go for it. Pure; times are aware UTC.

Age of a segment = now − its end (`Segment.aged_from`). Every limit is met exactly: footage of just that age
is past it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from uuid import UUID

from cctv_storaged.config import Retention, RetentionRule
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.model import Camera


class Priority(IntEnum):
    """Which cameras give way first when room is needed: the lowest."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Clause(StrEnum):
    """The limit of a rule that footage is past: the one that weighs most."""

    AT_MOST = "at_most"  # must go
    DESIRED = "desired"  # may go when room is needed
    AT_LEAST = "at_least"  # may go when room is needed and nothing older is left


class Blocker(StrEnum):
    """What keeps footage that should go."""

    HELD = "held"  # a hold is in force
    PINNED = "pinned"  # somebody reads it, or an export needs it
    LOCKED = "locked"  # a backend keeps it; its other bytes are gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How long a camera's footage is kept; None is no limit."""

    at_least: timedelta | None = None
    desired: timedelta | None = None
    at_most: timedelta | None = None
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of all cameras."""

    default: Rule
    per_camera: Mapping[str, Rule]  # by camera id in lower case, or folder

    def rule_for(self, camera: Camera) -> Rule:
        """The rule by the camera's id, else by its folder, else the default; never a mixture."""
        for key in (str(camera.id), camera.folder):
            if key in self.per_camera:
                return self.per_camera[key]
        return self.default

    def without_camera(self, cameras: Iterable[Camera]) -> list[str]:
        """The rules that are no camera's: by a name, or misspelt. The default counts where they should."""
        known = {key for camera in cameras for key in (str(camera.id), camera.folder)}
        return sorted(self.per_camera.keys() - known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """What deciding about a segment takes."""

    segment_id: UUID
    start: datetime
    end: datetime
    size_bytes: int
    held: bool = False
    pinned: bool = False
    leaving: bool = False  # has its tombstone already


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may become of a segment now."""

    clause: Clause | None  # the limit it is past; None: it is younger than all
    blocker: Blocker | None = None

    @property
    def cause(self) -> Cause | None:
        """Why retention deletes it now; None: it does not."""
        return Cause.AT_MOST if self.clause is Clause.AT_MOST and self.blocker is None else None


def policy_of(retention: Retention) -> Policy:
    """The policy that settings describe."""
    return Policy(
        default=_rule_of(retention.default),
        per_camera={key_of(key): _rule_of(rule) for key, rule in retention.per_camera.items()},
    )


def judge(footage: Footage, rule: Rule, now: datetime) -> Verdict:
    """What the rule says of a segment; one on its way out needs no other word."""
    if footage.leaving:
        return Verdict(None)
    clause = clause_of(footage.end, rule, now)
    if clause is None:
        return Verdict(None)
    blocker = Blocker.HELD if footage.held else Blocker.PINNED if footage.pinned else None
    return Verdict(clause, blocker)


def clause_of(end: datetime, rule: Rule, now: datetime) -> Clause | None:
    """The limit that footage ending then is past.

    `at_least` protects even where `at_most` is shorter, which settings refuse. Without `at_least` and
    `desired` nothing younger than `at_most` may go.
    """
    if rule.at_least is not None and not is_past(end, rule.at_least, now):
        return None
    if is_past(end, rule.at_most, now):
        return Clause.AT_MOST
    if is_past(end, rule.desired, now):
        return Clause.DESIRED
    return None if rule.at_least is None else Clause.AT_LEAST


def is_past(end: datetime, limit: timedelta | None, now: datetime) -> bool:
    """Whether footage ending then is as old as the limit; never without one."""
    return limit is not None and end <= now - limit


def _rule_of(rule: RetentionRule) -> Rule:
    return Rule(
        at_least=rule.at_least,
        desired=rule.desired,
        at_most=rule.at_most,
        priority=Priority[rule.priority.upper()],
    )


def key_of(key: str) -> str:
    """An id may be written in capitals; whatever is no id is a folder, letter by letter."""
    try:
        same = str(UUID(key))
    except ValueError:
        return key
    return same if same == key.lower() else key
