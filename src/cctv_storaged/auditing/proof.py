"""Whether lines are the ledger that was written: the chain of their hashes, and heads kept elsewhere. Pure.

A chain alone shows what was changed, taken out or put in. Lines cut off its end, or all of them written
anew, show only against a head.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cctv_storaged.auditing.heads import Head
from cctv_storaged.clock import from_us, rfc3339
from cctv_storaged.journal.chain import BoundLine, Break, Walk, Wrong
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.ledgerlines import RECOVERED

MOST_FINDINGS = 1000
"""Told one by one; the rest is counted."""
MOST_RECOVERIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with lines `first` to `last`; `known` says which recovery told of it itself."""

    first: int
    last: int
    wrong: Wrong
    why: str
    known: str | None = None

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

    @property
    def newest_match(self) -> Head | None:
        """The head that reaches furthest among those that match."""
        return max(self.matched, key=lambda head: (head.no, head.at), default=None)


class Proof:
    """Takes lines in, one after the other, and says in the end what they are worth."""

    def __init__(self, heads: Sequence[Head] = ()) -> None:
        self._heads = heads
        self._by_no = {head.no: [each for each in heads if each.no == head.no] for head in heads}
        self._walk: Walk | None = None
        self._findings: list[Finding] = []
        self._more = 0
        self._recoveries: list[Recovery] = []
        self._matched: list[Head] = []
        self._lines = 0
        self._first: int | None = None
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
            began=None if self._times_us is None else from_us(self._times_us[0]),
            ended=None if self._times_us is None else from_us(self._times_us[1]),
            findings=tuple(findings),
            more=self._more,
            matched=tuple(self._matched),
        )

    def _begin(self, first: int) -> Walk:
        """Part of a chain can be proven from a head of the line before it."""
        for head in self._by_no.get(first - 1, ()):
            self._matched.append(head)
            return Walk(head.no, head.hash)
        return Walk()

    def _compare(self, head: Head, found: bytes | None) -> None:
        if found == head.hash:
            self._matched.append(head)
            return
        why = f"the {head} has another hash: lines up to there were changed{self._maybe_recovered(head)}"
        self._tell(Finding(first=head.no, last=head.no, wrong=Wrong.CHANGED, why=why))

    def _look_for(self, head: Head, last: int) -> None:
        if head in self._matched and self._of_this_chain(head):
            return
        if not self._of_this_chain(head):
            why = f"the {head} is of chain {head.chain[:16]}…, and these lines of {(self._chain or '')[:16]}…"
            self._tell(Finding(first=1, last=1, wrong=Wrong.OTHER_CHAIN, why=why))
        elif head.no > last:
            why = f"the {head} was reached once{self._maybe_recovered(head)}"
            self._tell(Finding(first=last + 1, last=head.no, wrong=Wrong.CUT_SHORT, why=why))

    def _of_this_chain(self, head: Head) -> bool:
        return not head.chain or not self._chain or head.chain == self._chain

    def _maybe_recovered(self, head: Head) -> str:
        later = next((each for each in self._recoveries if each.at >= head.at), None)
        return "" if later is None else f"; the journal was recovered at {rfc3339(later.at)}, after that"

    def _explained(self, finding: Finding) -> Finding:
        for recovery in self._recoveries:
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
    except (ValueError, TypeError, KeyError):
        return
    yield Recovery(at=from_us(line.at_us), no=line.no, lacking=lacking)
