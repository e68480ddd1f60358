"""What may go for room, and in which order. Pure; times are aware UTC.

A cut-off is a moment: footage that ended by then may go.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cctv_storaged.journal.capacity import Candidate
from cctv_storaged.model import Segment
from cctv_storaged.retention.rules import Rule

FIRST_BATCH = 4
BATCH = 64
"""Segments that go before the disk is asked again; few at first, until it shows that they free anything."""
USELESS_BATCHES = 3
"""So many batches in a row that freed nothing end a stage."""
SHOWN = 0.1
"""A batch counts as useful from this share of its bytes on."""
NOTHING_LEFT = "nothing of it is left"


class Stage(StrEnum):
    """In the order in which they are gone through."""

    CACHES = "caches"  # what can be made again
    EARLY = "verified_elsewhere"  # sources whose copies are all verified, before their time
    EXPIRED = "expired"  # delivered, and past what its rule wants
    SHORTENED = "shortened"  # delivered, and past what its rule promises
    GIVEN_UP = "given_up"  # undelivered: a loss


@dataclass(frozen=True, slots=True)
class Taken:
    """What one batch came to."""

    segments: int  # that were tried
    bytes: int  # of those that went; the disk tells whether it has them back
    why: str | None = None  # it has nothing more to take
    gone: Sequence[Segment] = ()  # whose bytes they are, where it was footage


def expired_before(rule: Rule, now: datetime) -> datetime | None:
    """The cut-off of stage `EXPIRED`; None: nothing of the camera ever is."""
    limits = [limit for limit in (rule.desired, rule.at_most) if limit is not None]
    return now - max(min(limits), rule.at_least or timedelta(0)) if limits else None


def shortened_before(rule: Rule, now: datetime) -> datetime | None:
    """The cut-off of stage `SHORTENED`: what is younger than `desired` goes only here.

    Without `at_least` and `desired` nobody said that room may shorten what `at_most` ends.
    """
    if rule.at_least is None and rule.desired is None:
        return expired_before(rule, now)
    return now - (rule.at_least or timedelta(0))


def enough_of(candidates: Iterable[Candidate], most: int, need_bytes: int) -> list[Candidate]:
    """The first of them that together free what is needed, at most so many."""
    taken: list[Candidate] = []
    for candidate in candidates:
        if len(taken) >= most or need_bytes <= 0:
            break
        taken.append(candidate)
        need_bytes -= candidate.size_bytes
    return taken


def was_useful(expected_bytes: int, before: int, after: int, recorded_bytes: float) -> bool:
    """Whether a batch freed anything: free bytes before and after it, and what was recorded meanwhile."""
    return after - before + recorded_bytes >= SHOWN * expected_bytes


def next_batch(size: int) -> int:
    """How many go next, after a batch of that size that was of use."""
    return min(BATCH, size * 2)


def told(reasons: Sequence[tuple[Stage, str]]) -> str:
    """Why nothing more goes, for people."""
    return "; ".join(f"{stage}: {why}" for stage, why in reasons)
