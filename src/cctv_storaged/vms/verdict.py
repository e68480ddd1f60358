"""What follows from an answer about one segment: wait, have it fetched, call it a gap. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

Ingest = Literal["vms_recording", "edge_retrieval", "hybrid", "event_retrieval"]

LONGEST_WAIT = timedelta(minutes=5)
"""Between two looks at what is not there yet; the journal puts nothing off for longer than ten."""
SHORTEST_WAIT = timedelta(seconds=1)
HYBRID_GRACE = timedelta(minutes=5)
"""How long XProtect has, with `hybrid`, to show what it recorded itself; at most a tenth of the deadline."""


class Verdict(StrEnum):
    """What to do about a segment."""

    VERIFIED = "verified"
    WAIT = "wait"  # and look again
    RETRIEVE = "retrieve"  # it is to be fetched
    UNDER_WAY = "under_way"  # it is being fetched
    GAP = "gap"  # XProtect does not hold it, and had its time


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The strategy and its times."""

    ingest: Ingest
    settle: timedelta
    deadline: timedelta  # from the segment's end

    @property
    def retrieves(self) -> bool:
        return self.ingest != "vms_recording"

    @property
    def retrieve_after(self) -> timedelta:
        """How long after its end a segment is not fetched yet."""
        grace = min(HYBRID_GRACE, self.deadline / 10) if self.ingest == "hybrid" else timedelta(0)
        return self.settle + grace


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What XProtect said of a segment, and what was done about it so far."""

    end: datetime  # of the segment
    asked_at: datetime  # before the question was sent: an answer tells of that moment at the earliest
    covered: bool
    under_way: bool  # a retrieval over it is
    tried: int  # retrievals of it that came to nothing
    when_in_doubt: bool = False  # what was recorded then may be of another time
    clock_trusted: bool = True  # ages mean something


def verdict(rules: Rules, answer: Answer) -> Verdict:
    """A gap needs an answer from after the deadline and, where it can be fetched, a try at that.

    Footage whose time is in doubt is proven by nothing that was recorded then: it waits, and is a gap in the
    end. With the clock in doubt nobody knows whether a deadline is over.
    """
    if answer.covered and not answer.when_in_doubt:
        return Verdict.VERIFIED
    if answer.under_way:
        return Verdict.UNDER_WAY
    age = answer.asked_at - answer.end
    over = age >= max(rules.deadline, rules.retrieve_after)
    fetched = rules.retrieves and not answer.when_in_doubt
    if fetched and age >= rules.retrieve_after and not (over and answer.tried):
        return Verdict.RETRIEVE
    return Verdict.GAP if over and answer.clock_trusted else Verdict.WAIT


def look_again_in(rules: Rules, answer: Answer) -> timedelta:
    """Ever slower with age, and soon after the next thing that its age decides."""
    age = answer.asked_at - answer.end
    wait = max(SHORTEST_WAIT, min(LONGEST_WAIT, max(rules.settle, age / 4)))
    for moment in (rules.retrieve_after, rules.deadline):
        if age < moment:
            wait = min(wait, max(SHORTEST_WAIT, moment - age))
    return wait
