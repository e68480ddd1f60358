"""The journal against a plain Python model, over random sequences of everything that can happen to segments.

The model knows no SQL, no triggers and no counters; after every step both must tell the same, and the
promises that hold at any moment are checked on the file itself.
"""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cctv_storaged.errors import Conflict, NotFound
from cctv_storaged.journal.copies import Retried
from cctv_storaged.journal.ledger import Kind
from cctv_storaged.journal.vouched import Held, Missed
from cctv_storaged.model import CopyState, NewSegment, Segment, SourceState, TimeSpan
from tests.unit.journal.samples import GATE, NOW, YARD, new, open_journal, proof, span

T = TypeVar("T")

BACKENDS = ("FILESYSTEM", "MINIO", "S3")
HOLDS = {CopyState.STORED, CopyState.VERIFIED, CopyState.DELETING}
UNDELIVERED = {CopyState.PENDING, CopyState.STORED}

backends = st.sampled_from(BACKENDS)
OWING = frozenset({*UNDELIVERED, CopyState.FAILED, CopyState.GAP})
some_backends = st.sets(backends, min_size=1).map(sorted)
numbers = st.integers(0, 4)
versions = st.integers(0, 2)


@dataclass
class Known:
    """What the model believes of one segment."""

    file: NewSegment
    copies: dict[str, CopyState]
    source: SourceState = SourceState.PRESENT
    held: bool = False
    deleting: bool = False
    had_path: set[str] = field(default_factory=set)
    put_at: set[str] = field(default_factory=set)  # and not shown to be gone since
    verified_at: dict[str, datetime] = field(default_factory=dict)
    had_its_time: set[str] = field(default_factory=set)  # verified there once, and gone
    hashed: bool = False

    @property
    def has_source(self) -> bool:
        return self.source in (SourceState.PRESENT, SourceState.PRUNING)

    @property
    def settled_at(self) -> datetime | None:
        counted = {name: state for name, state in self.copies.items() if state is not CopyState.GONE}
        if not counted or set(counted.values()) != {CopyState.VERIFIED}:
            return None
        return max(self.verified_at[name] for name in counted)

    def change(self, before: set[CopyState], after: CopyState, *names: str) -> None:
        for name in names or tuple(self.copies):
            if self.copies.get(name) in before:
                self.copies[name] = after


class JournalAndModel(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.runner = asyncio.Runner()
        self.journal = self.do(open_journal(self.folder))
        self.do(self.journal.outbox.address("a catalog"))
        self.known: dict[UUID, Known] = {}
        self.ledger: list[tuple[Kind, UUID]] = []
        self.now = NOW
        self.required: set[str] = set()
        self.never_hashed: set[UUID] = set()  # held by a backend that records by itself, the source gone

    def do(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.runner.run(awaited())

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.do(self.journal.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def later(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def one(self, place: int) -> tuple[UUID, Known]:
        return sorted(self.known.items())[place % len(self.known)]

    def segment(self, segment_id: UUID) -> Segment:
        found = self.do(self.journal.segments.by_id(segment_id))
        assert found is not None
        return found

    # Files

    @rule(number=numbers, version=versions, yard=st.booleans(), longer=st.booleans(), names=some_backends)
    def a_file_is_registered(
        self, number: int, version: int, yard: bool, longer: bool, names: list[str]
    ) -> None:
        at = span(number, timedelta(seconds=10 + 5 * longer))
        file = new(number, YARD if yard else GATE, version=version, at=at)
        recorded = self.do(self.journal.segments.record(file, names, self.later()))
        known = self.version_of(file)
        assert recorded.created == (known is None)
        lost = self.overwrite(file, at)
        assert recorded.lost == lost
        if known is None:
            self.known[recorded.segment.id] = Known(file, dict.fromkeys(names, CopyState.PENDING))
            self.tell_found(recorded.segment.id)
        else:
            assert recorded.segment.id == known[0]
            self.see_again(*known, names)

    @rule(number=numbers, version=versions)
    def a_file_is_no_segment(self, number: int, version: int) -> None:
        source = new(number, version=version).source
        outcome = self.do(self.journal.segments.set_aside(source, "not_mpegts", "", self.later()))
        known = self.version_of(new(number, version=version))
        if known is not None and known[1].has_source:
            assert outcome.lost is None
            return
        lost = self.overwrite(new(number, version=version), None)
        assert (outcome.lost.span if outcome.lost else None) == lost

    def version_of(self, file: NewSegment) -> tuple[UUID, Known] | None:
        return next(
            ((id_, known) for id_, known in self.known.items() if known.file.source == file.source), None
        )

    def overwrite(self, file: NewSegment, covering: TimeSpan | None) -> TimeSpan | None:
        for id_, known in list(self.known.items()):
            other_version = known.file.source != file.source
            if known.file.source.path != file.source.path or not other_version or not known.has_source:
                continue
            if HOLDS & set(known.copies.values()):
                known.source = SourceState.REPLACED
                known.change({CopyState.VERIFIED}, CopyState.STORED)
                known.change({CopyState.PENDING}, CopyState.FAILED)
                return None
            at = known.file.span
            covered = covering is not None and covering.start <= at.start and covering.end >= at.end
            self.ledger.append((Kind.REPLACED if covered else Kind.LOST, id_))
            del self.known[id_]
            return None if covered else at
        return None

    def see_again(self, id_: UUID, known: Known, names: list[str]) -> None:
        if known.has_source or known.deleting:
            return
        known.source = SourceState.PRESENT
        known.change({CopyState.FAILED}, CopyState.PENDING)
        for name in names:
            if known.copies.get(name) in (None, CopyState.GONE):
                known.copies[name] = CopyState.PENDING
                known.had_its_time.discard(name)
        self.tell_found(id_)

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0), state=st.sampled_from([SourceState.MISSING, SourceState.REPLACED]))
    def a_source_is_gone(self, place: int, state: SourceState) -> None:
        id_, known = self.one(place)
        lost = self.do(self.journal.copies.source_gone(id_, state, "source_vanished", self.later()))
        if known.source is SourceState.PRUNING:
            assert lost is None
            return
        if known.source is SourceState.PRESENT:
            known.source = state
        if state is SourceState.REPLACED:
            known.change({CopyState.VERIFIED}, CopyState.STORED)
        known.change({CopyState.PENDING}, CopyState.FAILED)
        assert (lost is not None) == self.tell_lost(id_, known)

    # Copies

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0), name=backends, proven=st.booleans())
    def bytes_are_put(self, place: int, name: str, proven: bool) -> None:
        id_, known = self.one(place)
        shown, at = proof(self.segment(id_)), self.later()
        copies = self.journal.copies
        taken = self.do((copies.verified if proven else copies.stored)(id_, name, shown, at))
        before = known.copies.get(name)
        assert taken == (before in {*UNDELIVERED, CopyState.FAILED, CopyState.VERIFIED})
        if not taken or before is CopyState.VERIFIED:
            return
        known.copies[name] = CopyState.VERIFIED if proven else CopyState.STORED
        known.had_path.add(name)
        known.put_at.add(name)
        known.hashed = True
        if proven:
            known.verified_at[name] = at
        if before is not CopyState.PENDING:
            self.tell_found(id_)

    @precondition(lambda self: self.known)
    @rule(
        place=st.integers(0),
        name=backends,
        how=st.sampled_from(["postpone", "put_again", "redeliver", "failed"]),
    )
    def a_backend_refuses(self, place: int, name: str, how: str) -> None:
        id_, known = self.one(place)
        copies, due, before = self.journal.copies, self.later(), known.copies.get(name)
        if how == "postpone":
            self.do(copies.postpone(id_, name, "refused", due))
            return
        if how == "failed":
            lost = self.do(copies.failed(id_, name, "refused"))
        elif how == "put_again":
            lost = self.do(copies.put_again(id_, name, "refused", due))
        else:
            lost = self.do(copies.redeliver(id_, name, "refused"))
            known.change({CopyState.STORED, CopyState.VERIFIED}, CopyState.PENDING, name)
            known.put_at -= {name} if before in HOLDS - {CopyState.DELETING} else set()
        again = known.source is SourceState.PRESENT and how != "failed"
        if how == "put_again" and not again and before in UNDELIVERED:
            known.put_at.discard(name)
        known.change(UNDELIVERED, CopyState.PENDING if again else CopyState.FAILED, name)
        assert (lost is not None) == (not again and self.tell_lost(id_, known))

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0), name=backends)
    def a_backend_vouches(self, place: int, name: str) -> None:
        id_, known = self.one(place)
        at, before = self.later(), known.copies.get(name)
        proven = self.do(self.journal.vouched.verified(name, [Held(id=id_, path="vms://a")], at))
        known_or_unknowable = known.hashed or not known.has_source
        assert bool(proven) == (before in OWING and not known.deleting and known_or_unknowable)
        if proven:
            known.copies[name] = CopyState.VERIFIED
            known.verified_at[name] = at
            known.had_path.add(name)
            known.put_at.add(name)
            self.never_hashed |= set() if known.hashed else {id_}
            if before is not CopyState.PENDING:
                self.tell_found(id_)

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0), name=backends, held_before=st.booleans(), expired=st.booleans())
    def a_backend_does_not_hold(self, place: int, name: str, held_before: bool, expired: bool) -> None:
        id_, known = self.one(place)
        at, before = self.later(), known.copies.get(name)
        vouched = self.journal.vouched
        concerned = UNDELIVERED if not held_before else {CopyState.VERIFIED}
        if held_before:
            before_that = at if expired else None
            found = self.do(
                vouched.no_longer_held(
                    name, [id_], "no", "vms_no_longer_holds", at, at, expired_before=before_that
                )
            )
        else:
            found = self.do(vouched.gap(name, [id_], "no", "vms_no_longer_holds", at))
        if before not in concerned or (held_before and known.source is SourceState.PRUNING):
            assert found == Missed()
            return
        others = {state for other, state in known.copies.items() if other != name}
        after = CopyState.GAP if known.has_source else CopyState.FAILED
        by_retention = held_before and expired
        if known.has_source and by_retention and CopyState.VERIFIED in others:
            after = CopyState.GONE
        if not known.has_source and others & {CopyState.STORED, CopyState.VERIFIED}:
            after = CopyState.GONE
        needed = known.held or CopyState.FAILED in others
        if after is CopyState.FAILED and by_retention and not needed:
            after = CopyState.GONE
            self.ledger.append((Kind.DELETED, id_))
        known.copies[name] = after
        known.put_at.discard(name)
        if after is CopyState.FAILED:
            known.had_path.discard(name)
        if after is CopyState.GONE and by_retention:
            known.had_its_time.add(name)
        assert found.gaps == ((id_,) if after is CopyState.GAP else ())
        assert found.elsewhere == ((id_,) if after is CopyState.GONE else ())
        assert bool(found.lost) == (after is CopyState.FAILED and self.tell_lost(id_, known))

    @rule(name=st.none() | backends)
    def failed_copies_are_tried_again(self, name: str | None) -> None:
        count = self.do(self.journal.copies.retry_failed(name))
        retried = asked_again = 0
        for known in self.known.values():
            for backend, state in known.copies.items():
                if state in (CopyState.FAILED, CopyState.GAP) and name in (None, backend):
                    if known.source is SourceState.PRESENT:
                        known.copies[backend] = CopyState.PENDING
                    elif backend in known.had_path and state is CopyState.FAILED:
                        known.copies[backend] = CopyState.STORED
                    tried = known.copies[backend] is not state
                    hopeful = known.source is SourceState.PRESENT or backend in known.put_at
                    retried += tried and hopeful
                    asked_again += tried and not hopeful
        assert count == Retried(retried=retried, asked_again=asked_again)

    @rule(names=some_backends)
    def other_backends_are_required(self, names: list[str]) -> None:
        due = self.do(self.journal.requirement.require(names))
        if not names or set(names) == self.required:
            assert due == 0
            return
        self.required = set(names)
        for known in self.known.values():
            due -= self.require(known, names)
        assert due == 0

    def require(self, known: Known, names: list[str]) -> int:
        left = {n for n, state in known.copies.items() if state in OWING and n not in names}
        if known.deleting:
            return 0
        missing: list[str] = []
        if known.has_source:
            missing = [n for n in names if known.copies.get(n, CopyState.GONE) is CopyState.GONE]
            known.copies |= dict.fromkeys(missing, CopyState.PENDING)
            known.had_its_time -= set(missing)
        if known.source is not SourceState.PRESENT:
            if left and {known.copies.get(name) for name in names} == {CopyState.VERIFIED}:
                known.change(set(OWING), CopyState.GONE, *left)
        elif left:
            known.change(set(OWING), CopyState.GONE, *left)
        return len(missing)

    # Removal

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0), required=some_backends)
    def pruning_begins(self, place: int, required: list[str]) -> None:
        id_, known = self.one(place)
        begun = self.do(self.journal.sources.begin_pruning(id_, required))
        states = {known.copies.get(name) for name in required}
        proven = CopyState.VERIFIED in states and all(
            known.copies.get(name) is CopyState.VERIFIED or name in known.had_its_time for name in required
        )
        assert begun == (proven and known.source is SourceState.PRESENT and not known.held)
        if begun:
            known.source = SourceState.PRUNING

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0), unlinked=st.booleans())
    def pruning_ends(self, place: int, unlinked: bool) -> None:
        id_, known = self.one(place)
        if unlinked:
            if known.deleting:
                return  # whoever deletes does not say so of the source alone
            lost = self.do(self.journal.sources.pruned(self.segment(id_), self.later()))
        else:
            lost = self.do(self.journal.sources.keep(id_))
        if known.source is not SourceState.PRUNING or known.deleting:
            assert lost is None
            return
        known.source = SourceState.PRUNED if unlinked else SourceState.PRESENT
        failed = [name for name, state in known.copies.items() if state is CopyState.FAILED]
        if unlinked:
            self.ledger.append((Kind.PRUNED, id_))
            assert (lost is not None) == bool(failed and self.tell_lost(id_, known))
        else:
            known.copies |= dict.fromkeys(failed, CopyState.PENDING)

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0))
    def a_deletion_begins(self, place: int) -> None:
        id_, known = self.one(place)
        if known.held:
            with pytest.raises(Conflict):
                self.do(self.journal.deletions.begin(id_))
            return
        self.do(self.journal.deletions.begin(id_))
        known.deleting = True
        known.copies = dict.fromkeys(known.copies, CopyState.DELETING)
        if known.source is SourceState.PRESENT:
            known.source = SourceState.PRUNING

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0))
    def a_deletion_is_done(self, place: int) -> None:
        id_, known = self.one(place)
        self.do(self.journal.deletions.done(self.segment(id_), "deleted_on_request", self.later()))
        if known.deleting:
            del self.known[id_]
            self.ledger.append((Kind.DELETED, id_))
            with pytest.raises(NotFound):
                self.do(self.journal.deletions.begin(id_))

    @precondition(lambda self: any(not known.deleting for known in self.known.values()))
    @rule(place=st.integers(0))
    def a_hold_is_placed_or_released(self, place: int) -> None:
        free = sorted((id_, known) for id_, known in self.known.items() if not known.deleting)
        id_, known = free[place % len(free)]
        known.held = not known.held
        update, row = "UPDATE segment SET held = ? WHERE id = ?", (int(known.held), id_.bytes)
        self.do(self.journal._store.write(lambda db: db.execute(update, row)))

    # The rest of the world

    @rule()
    def the_catalog_is_told(self) -> None:
        news = self.do(self.journal.outbox.news(1000))
        self.do(self.journal.outbox.told(news))
        assert self.do(self.journal.outbox.news(1000)).empty
        assert {segment.id for segment in news.changed} <= {
            id_ for id_, known in self.known.items() if known.hashed
        }
        assert not set(news.forgotten) & set(self.known)

    @rule()
    def the_process_ends_and_another_starts(self) -> None:
        self.do(self.journal.close())
        self.journal = self.do(open_journal(self.folder))
        assert not self.journal.opening.unclean

    # Losses

    def last_told(self, id_: UUID) -> Kind | None:
        kinds = (Kind.LOST, Kind.FOUND, Kind.DELETED)
        told = [kind for kind, of in self.ledger if of == id_ and kind in kinds]
        return told[-1] if told else None

    def tell_lost(self, id_: UUID, known: Known) -> bool:
        if known.deleting or known.has_source or HOLDS & set(known.copies.values()):
            return False
        if self.last_told(id_) is Kind.LOST:
            return False
        self.ledger.append((Kind.LOST, id_))
        return True

    def tell_found(self, id_: UUID) -> None:
        if self.last_told(id_) in (Kind.LOST, Kind.DELETED):
            self.ledger.append((Kind.FOUND, id_))

    # What holds at any moment

    @invariant()
    def journal_and_model_tell_the_same(self) -> None:
        if not hasattr(self, "journal"):
            return
        rows = self.read("SELECT id FROM segment")
        assert {UUID(bytes=row[0]) for row in rows} == set(self.known)
        for id_, known in self.known.items():
            segment = self.segment(id_)
            assert {copy.backend: copy.state for copy in segment.copies} == known.copies
            assert segment.source_state is known.source
        ledger = self.read(
            """SELECT kind, segment_id FROM ledger
                WHERE kind NOT IN ('registered', 'verified', 'noted') ORDER BY no"""
        )
        assert [(Kind(kind), UUID(bytes=id_)) for kind, id_ in ledger] == self.ledger

    @invariant()
    def counters_equal_a_recount(self) -> None:
        if not hasattr(self, "journal"):
            return
        counted = self.read("SELECT backend, state, count(*), sum(size_bytes) FROM copy GROUP BY 1, 2")
        kept = self.read(
            "SELECT backend, state, segments, bytes FROM tally WHERE segments <> 0 OR bytes <> 0"
        )
        assert Counter(counted) == Counter(kept)
        cameras = self.read(
            """SELECT c.segments, c.bytes, count(s.no), coalesce(sum(s.size_bytes), 0)
                 FROM camera c LEFT JOIN segment s ON s.camera_no = c.no GROUP BY c.no"""
        )
        assert all(row[:2] == row[2:] for row in cameras)

    @invariant()
    def verified_means_proven_and_settled_means_all_verified(self) -> None:
        if not hasattr(self, "journal"):
            return
        unproven = """SELECT id FROM copy JOIN segment ON no = segment_no WHERE state = 'verified'
                       AND (path IS NULL OR verified_us IS NULL OR sha256 IS NULL)"""
        assert {UUID(bytes=id_) for (id_,) in self.read(unproven)} <= self.never_hashed
        settled = self.do(self.journal.sources.settled_before(self.now, 1000, None))
        expected = {
            id_
            for id_, known in self.known.items()
            if known.settled_at is not None and known.source is SourceState.PRESENT
        }
        assert {segment.id for segment in settled} == expected
        kept = dict(self.read("SELECT id, settled_us FROM segment"))
        assert all(
            (kept[id_.bytes] is None) == (known.settled_at is None) for id_, known in self.known.items()
        )

    @invariant()
    def every_file_that_is_there_is_on_its_way_somewhere(self) -> None:
        for known in self.known.values() if hasattr(self, "journal") else ():
            if known.source is SourceState.PRESENT:
                assert set(known.copies.values()) - {CopyState.GONE}

    @invariant()
    def a_loss_is_told_exactly_while_it_is_one(self) -> None:
        for id_, known in self.known.items() if hasattr(self, "journal") else ():
            if known.deleting:
                continue
            nothing_left = not known.has_source and not HOLDS & set(known.copies.values())
            proven = known.has_source or CopyState.VERIFIED in known.copies.values()
            if nothing_left:
                assert self.last_told(id_) is Kind.LOST
            if proven:
                assert self.last_told(id_) is not Kind.LOST

    def read(self, query: str) -> list[tuple[Any, ...]]:
        def ask(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return db.execute(query).fetchall()

        return self.do(self.journal._store.read(ask))


TestJournalAndModel = JournalAndModel.TestCase
TestJournalAndModel.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes longer than a test may
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
