"""A change of mode over a journal in which every state of a segment and its copies is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.requiring import SLICE
from cctv_storaged.journal.vouched import Held
from cctv_storaged.model import CopyState, Segment, SourceState
from tests.unit.journal.samples import GATE, NOW, new, open_journal, proof, record

STORE, VMS = "S3", "MILESTONE"
REQUIRED = {"LOCAL": [STORE], "BOTH": [STORE, VMS], "MILESTONE": [VMS]}
STATES = (None, *("pending", "stored", "verified", "failed", "deleting", "gone", "gap"))
SOURCES = ("present", "pruning", "pruned", "missing", "replaced")
MAY_HOLD = {CopyState.STORED, CopyState.VERIFIED, CopyState.DELETING}
Copies = Mapping[str, CopyState]


@dataclass(frozen=True)
class Row:
    """A segment as it is at one moment."""

    source: SourceState
    copies: Copies


async def every_combination(journal: Journal) -> None:
    """A segment each, brought into its state past the services that would bring it there."""
    for number, (source, store, vms) in enumerate(product(SOURCES, STATES, STATES)):
        segment = await record(journal, new(number), *[n for n, s in ((STORE, store), (VMS, vms)) if s])
        await journal._store.write(
            lambda db, s=source, of={STORE: store, VMS: vms}, id_=segment.id: force(db, id_, s, of)  # type: ignore[misc]
        )


def force(db, id_: UUID, source: str, copies: Mapping[str, str | None]) -> None:  # type: ignore[no-untyped-def]
    db.execute(
        "UPDATE segment SET source_state = ?, sha256 = CAST(id || id AS BLOB) WHERE id = ?",
        (source, id_.bytes),
    )
    no = db.execute("SELECT no FROM segment WHERE id = ?", (id_.bytes,)).fetchone()[0]
    if not any(copies.values()):
        db.execute("DELETE FROM copy WHERE segment_no = ?", (no,))
    for backend, state in copies.items():
        if state is not None:
            db.execute(
                """UPDATE copy SET path = 'p' || ?1, verified_us = iif(?2 = 'verified', 1, NULL), state = ?2
                    WHERE segment_no = ?3 AND backend = ?1""",
                (backend, state, no),
            )


async def rows(journal: Journal) -> dict[UUID, Row]:
    ids = await journal._store.read(lambda db: db.execute("SELECT id FROM segment").fetchall())
    found = [await journal.segments.by_id(UUID(bytes=id_)) for (id_,) in ids]
    return {
        each.id: Row(each.source_state, {copy.backend: copy.state for copy in each.copies})
        for each in found
        if each is not None
    }


WAYS = [
    ("LOCAL", "BOTH", "MILESTONE", "LOCAL"),
    ("MILESTONE", "LOCAL", "BOTH", "LOCAL", "MILESTONE"),
    ("BOTH", "MILESTONE", "BOTH"),
]


@pytest.mark.parametrize("way", WAYS)
async def test_no_change_of_mode_loses_anything_or_delivers_it_twice(
    tmp_path: Path, way: Sequence[str]
) -> None:
    journal = await open_journal(tmp_path)
    await every_combination(journal)
    await journal.requirement.require(REQUIRED[way[0]])
    verified: set[tuple[UUID, str]] = set()
    for before_mode, mode in pairwise(way):
        before = await rows(journal)
        assert await journal.requirement.is_settled(REQUIRED[before_mode])
        journal = await changed(journal, tmp_path, REQUIRED[mode])
        after = await rows(journal)
        assert after.keys() == before.keys()
        for id_, row in after.items():
            judge(before[id_], row, REQUIRED[mode])
        due = {
            (id_, name) for id_, row in after.items() for name in row.copies if is_new(before[id_], row, name)
        }
        assert not due & verified, "delivered once is delivered"
        verified |= await deliver_all(journal, REQUIRED[mode])
    await journal.close()


async def changed(journal: Journal, folder: Path, required: Sequence[str]) -> Journal:
    """The mode is another one; the process dies after each slice."""
    slices, more = 0, True
    while more:
        more = (await journal.requirement.settle(required)).more
        slices += 1
        await journal.close()
        journal = await open_journal(folder)
    assert slices > len(SOURCES) * len(STATES) ** 2 / SLICE / 2, "in more than one slice"
    assert (await journal.requirement.settle(required)).due == 0
    return journal


def judge(before: Row, after: Row, required: Sequence[str]) -> None:
    assert before.source is after.source
    for name, state in before.copies.items():
        now = after.copies[name]
        if state in (CopyState.VERIFIED, CopyState.DELETING):
            assert now is state, "what was verified stays"
        if name in required and state is not CopyState.GONE:
            assert now is state
        if now is CopyState.GONE and state is not CopyState.GONE:
            enough = all(after.copies.get(each) is CopyState.VERIFIED for each in required)
            assert after.source is SourceState.PRESENT or enough, "nothing that may be the last goes off"
    if after.source is SourceState.PRESENT:
        assert all(after.copies.get(name, CopyState.GONE) is not CopyState.GONE for name in required)
        others = {state for name, state in after.copies.items() if name not in required}
        assert others <= {CopyState.VERIFIED, CopyState.DELETING, CopyState.GONE}, "or it stays for ever"


def is_new(before: Row, after: Row, name: str) -> bool:
    return after.copies[name] is CopyState.PENDING and before.copies.get(name) is not CopyState.PENDING


async def deliver_all(journal: Journal, required: Sequence[str]) -> set[tuple[UUID, str]]:
    """What the services then do with what is pending and has a source."""
    done: set[tuple[UUID, str]] = set()
    for id_, row in (await rows(journal)).items():
        for name, state in row.copies.items():
            if state is CopyState.PENDING and row.source is SourceState.PRESENT:
                held = [Held(id=id_, path=f"p{name}")]
                assert await journal.vouched.verified(name, held, NOW) == [id_]
                done.add((id_, name))
    return done


async def test_a_gap_left_over_from_mode_both_keeps_no_source_for_ever(journal: Journal) -> None:
    segment = await record(journal, new(1), STORE, VMS)
    assert await journal.copies.verified(segment.id, STORE, proof(segment), NOW)
    assert (await journal.vouched.gap(VMS, [segment.id], "no", "lost", NOW)).gaps == (segment.id,)
    assert await journal.sources.settled_before(NOW, 10, None) == []
    await journal.requirement.require([STORE])
    (candidate,) = await journal.sources.settled_before(NOW, 10, None)
    assert candidate.id == segment.id
    assert await journal.sources.begin_pruning(segment.id, [STORE])


async def test_a_start_with_the_same_settings_looks_once_and_writes_nothing(journal: Journal) -> None:
    segments: list[Segment] = [await record(journal, new(number, GATE)) for number in range(3)]
    await journal.requirement.require([STORE])
    commits = journal._store.commits
    assert await journal.requirement.is_settled([STORE])
    assert await journal.requirement.require([STORE, STORE]) == 0
    assert journal._store.commits == commits and len(segments) == 3


async def test_a_note_that_cannot_be_read_begins_anew(journal: Journal) -> None:
    for noted in (
        "",
        "[]",
        "7",
        '{"backends": ["S3"]}',
        '{"backends": ["S3"], "sources": [1], "owing": null}',
    ):
        await journal._store.write(
            lambda db, n=noted: db.execute("INSERT OR REPLACE INTO meta VALUES ('required', ?)", (n,))  # type: ignore[misc]
        )
        assert not await journal.requirement.is_settled([STORE])
        await journal.requirement.require([STORE])
        assert await journal.requirement.is_settled([STORE])
