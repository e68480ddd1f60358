"""Whether lines are the ledger that was written: the chain of their hashes, and heads kept elsewhere. Pure.

A chain alone shows what was changed, taken out or put in. Lines cut off its end, or all of them written
anew, show only against a head.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cctv_storaged.auditing.heads import Head
from cctv_storaged.clock import from_us, rfc3339
from cctv_storaged.journal.chain import BoundLine, Break, Walk, Wrong
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.ledgerlines import RECOVERED

MOST_FINDINGS = 1000
"""Told one by one; the rest is counted."""
MOST_RECOVERIES = 1000
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with lines `first` to `last`; `known` says which recovery told of it itself.

    What contradicts a head (`by_head`) no recovery can excuse: its line is one that anybody can bind.
    """

    first: int
    last: int
    wrong: Wrong
    why: str
    known: str | None = None
    by_head: bool = False

    def __str__(self) -> str:
        where = f"line {self.first}" if self.first == self.last else f"lines {self.first} to {self.last}"
        return f"{where}: {self.wrong}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A journal was recovered, and these numbers did not hold together then."""

    at: datetime
    no: int
    lacking: tuple[tuple[int, int], ...]

    def explains(self, finding: Finding) -> bool:
        return any(low <= finding.first and finding.last <= high for low, high in self.lacking)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found; of the findings the first ones, in the order of their lines."""

    lines: int
    first: int | None
    last: int | None
    last_hash: bytes | None
    chain: str | None  # None: line 1 is not among them
    began: datetime | None
    ended: datetime | None
    findings: tuple[Finding, ...]
    more: int  # findings that are not told
    matched: tuple[Head, ...]

    @property
    def wrong(self) -> bool:
        """Whether something is that no recovery told of."""
        return self.more > 0 or any(finding.known is None for finding in self.findings)

    def newest_match(self, among: Iterable[Head]) -> Head | None:
        """The head that reaches furthest of those that match."""
        matched = (head for head in among if head in self.matched)
        return max(matched, key=lambda head: (head.no, head.at), default=None)


class Proof:
    """Takes lines in, one after the other, and says in the end what they are worth."""

    def __init__(self, heads: Sequence[Head] = ()) -> None:
        self._heads = tuple(dict.fromkeys(heads))  # the journal remembers one that a folder has too
        self._by_no = {head.no: [each for each in self._heads if each.no == head.no] for head in self._heads}
        self._walk: Walk | None = None
        self._findings: list[Finding] = []
        self._more = 0
        self._recoveries: list[Recovery] = []
        self._matched: list[Head] = []
        self._met: set[Head] = set()  # those that a line was compared with
        self._lines = 0
        self._first: int | None = None
        self._begun_behind = 0
        self._chain: str | None = None
        self._times_us: tuple[int, int] | None = None

    def add(self, bound: BoundLine) -> None:
        """The next line."""
        line = bound.line
        if self._walk is None:
            self._walk, self._first = self._begin(line.no), line.no
        self._lines += 1
        self._times_us = (self._times_us[0] if self._times_us else line.at_us, line.at_us)
        if line.no == 1 and self._chain is None:
            self._chain = "" if bound.hash is None else bound.hash.hex()
        found = self._walk.step(bound)
        if found is not None:
            self._tell(_finding(found))
        if found is None or found.wrong is Wrong.MISSING:  # it can be believed
            self._recoveries += [] if len(self._recoveries) >= MOST_RECOVERIES else _recovery(bound)
        for head in self._by_no.get(line.no, ()):
            self._compare(head, bound.hash)

    def unreadable(self, why: str) -> None:
        """What comes next is no line, or cannot be read."""
        no = 1 if self._walk is None else self._walk.no + 1
        self._tell(Finding(first=no, last=no, wrong=Wrong.UNREADABLE, why=why))

    def differs(self, finding: Finding) -> None:
        """Something that whoever reads the lines has seen."""
        self._tell(finding)

    def verdict(self) -> Verdict:
        """Of all lines so far."""
        last = self._walk.no if self._walk is not None and self._lines else None
        for head in self._heads:
            self._look_for(head, last or 0)
        findings = sorted(map(self._explained, self._findings), key=lambda each: (each.first, each.last))
        return Verdict(
            lines=self._lines,
            first=self._first,
            last=last,
            last_hash=None if self._walk is None else self._walk.last_hash,
            chain=self._chain,
            began=None if self._times_us is None else _moment(self._times_us[0]),
            ended=None if self._times_us is None else _moment(self._times_us[1]),
            findings=tuple(findings),
            more=self._more,
            matched=tuple(self._matched),
        )

    def _begin(self, first: int) -> Walk:
        """Part of a chain can be proven from a head of the line before it."""
        known = self._by_no.get(first - 1)
        if not known:
            return Walk()
        self._begun_behind = first - 1
        for head in known:  # two that contradict each other are not both of these lines
            self._compare(head, known[0].hash)
        return Walk(first - 1, known[0].hash)

    def _compare(self, head: Head, found: bytes | None) -> None:
        self._met.add(head)
        if found == head.hash:
            self._matched.append(head)
            return
        why = f"the {head} has another hash: lines up to there were changed{self._maybe_recovered(head)}"
        self._contradict(head.no, head.no, Wrong.CHANGED, why)

    def _look_for(self, head: Head, last: int) -> None:
        if not self._of_this_chain(head):
            why = f"the {head} is of chain {head.chain[:16]}…, and these lines of {(self._chain or '')[:16]}…"
            self._contradict(1, 1, Wrong.OTHER_CHAIN, why)
        elif head.no > last:
            why = f"the {head} was reached once{self._maybe_recovered(head)}"
            self._contradict(last + 1, head.no, Wrong.CUT_SHORT, why)
        elif head not in self._met and head.no >= self._begun_behind:
            why = f"the {head} cannot be compared, its line is not there{self._maybe_recovered(head)}"
            self._contradict(head.no, head.no, Wrong.MISSING, why)

    def _contradict(self, first: int, last: int, wrong: Wrong, why: str) -> None:
        self._tell(Finding(first=first, last=last, wrong=wrong, why=why, by_head=True))

    def _of_this_chain(self, head: Head) -> bool:
        return not head.chain or not self._chain or head.chain == self._chain

    def _maybe_recovered(self, head: Head) -> str:
        later = next((each for each in self._recoveries if each.at >= head.at), None)
        return "" if later is None else f"; the journal was recovered at {rfc3339(later.at)}, after that"

    def _explained(self, finding: Finding) -> Finding:
        for recovery in () if finding.by_head else self._recoveries:
            if finding.last < recovery.no and recovery.explains(finding):
                return replace(finding, known=f"the journal was recovered at {rfc3339(recovery.at)}")
        return finding

    def _tell(self, finding: Finding) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(finding)
        else:
            self._more += 1


def proven(lines: Iterable[BoundLine], heads: Sequence[Head] = ()) -> Verdict:
    """The verdict on all of these lines."""
    proof = Proof(heads)
    for bound in lines:
        proof.add(bound)
    return proof.verdict()


def trouble_with(head: Head, chain: str, last: int, found: bytes | None) -> str | None:
    """How a ledger contradicts a head that was made of it; None: it does not. `found`: its hash there."""
    if head.chain and chain and head.chain != chain:
        return f"the {head} is of another chain: the ledger was begun anew, or another one put in its place"
    if head.no > last:
        return f"the {head} was reached once, and the ledger ends with line {last}: it was cut short"
    if found is None:
        return f"the {head} cannot be compared: that line is missing"
    if found != head.hash:
        return f"the {head} has another hash than that line: the ledger was changed"
    return None


def _finding(found: Break) -> Finding:
    return Finding(first=found.first, last=found.last, wrong=found.wrong, why=found.why)


def _recovery(bound: BoundLine) -> Iterator[Recovery]:
    """What a recovery said of the lines it found; nothing for other lines."""
    line = bound.line
    if line.kind != Kind.NOTED or line.cause != RECOVERED:
        return
    try:
        lacking = tuple((int(low), int(high)) for low, high in json.loads(line.detail)["lacking"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return
    yield Recovery(at=_moment(line.at_us), no=line.no, lacking=lacking)


def _moment(microseconds: int) -> datetime:
    """As near as the calendar goes: whoever writes lines of his own may write any number."""
    try:
        return from_us(microseconds)
    except OverflowError:
        return LATEST if microseconds > 0 else EARLIEST
