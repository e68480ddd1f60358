"""What a call costs must not grow with the journal: rows are looked up by an index, never searched for.

The statements are those that SQLite is really given; their plans do not depend on what is in the tables,
because the journal keeps no statistics.
"""

import asyncio
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from cctv_storaged.clock import to_us
from cctv_storaged.journal.adoption import FoundCopy, FoundSegment
from cctv_storaged.journal.copies import Order, Proof
from cctv_storaged.journal.deletions import KEPT, Cause
from cctv_storaged.journal.exportrows import ExportRequest, ExportResult
from cctv_storaged.journal.holds import Hold, NewHold
from cctv_storaged.journal.journal import Journal
from cctv_storaged.journal.ledgeraudit import READ, Told
from cctv_storaged.journal.readbacks import ReadBack
from cctv_storaged.journal.reports import DayRow
from cctv_storaged.journal.retention import FIRST, Limits
from cctv_storaged.journal.retrievals import Retrieval
from cctv_storaged.journal.vmsmarks import MarkKind
from cctv_storaged.journal.vouchdays import Place
from cctv_storaged.journal.vouchdue import Search
from cctv_storaged.journal.vouched import Held, Which
from cctv_storaged.model import SourceState
from tests.unit.journal.samples import (
    GATE,
    NOW,
    ROOT,
    START,
    YARD,
    new,
    open_journal,
    proof,
    record,
    span,
)

Call = Callable[[Journal], Awaitable[object]]
ROWS = int(os.environ.get("JOURNAL_ROWS", "5000"))
SOMEBODY = UUID(int=77)
SEEN = Told(cause=READ, subject=SOMEBODY, camera_id=GATE.id, span=span(4), detail="{}")


async def verify(journal: Journal) -> bool:
    segment = await record(journal, new(4))
    return await journal.copies.verified(segment.id, "S3", proof(segment), NOW)


async def verified_ahead(journal: Journal) -> None:
    await verify(journal)
    await journal.sources.verified_ahead(NOW - timedelta(days=1), 100)


async def read_back(journal: Journal) -> None:
    segment = await record(journal, new(4))
    made = ReadBack(segment_id=segment.id, backend="S3", span=span(4), size_bytes=1, sha256=bytes(32))
    await journal.read_backs.note(made, NOW)


async def archive_and_drop(journal: Journal) -> None:
    await journal.ledger_lines.archived(1, bytes(32))
    await journal.ledger_lines.drop()


async def vouch(journal: Journal) -> None:
    """Every change that a copy at a backend which records by itself goes through."""
    segment, later = await record(journal, new(4)), NOW + timedelta(minutes=1)
    vouched, ids = journal.vouched, [segment.id]
    await vouched.put_off("S3", ids, "not yet", later, tried=True)
    await vouched.gap("S3", ids, "no", "lost", NOW)
    await vouched.looked("S3", ids, "no", later)
    await vouched.hashed("S3", segment.id, bytes(32))
    await vouched.verified("S3", [Held(id=segment.id, path="a")], NOW)
    await vouched.no_longer_held("S3", ids, "no", "x", later, NOW)


async def retrieve(journal: Journal) -> None:
    row = Retrieval(identifier=SOMEBODY, camera_id=GATE.id, span=span(5), task=None, asked_at=NOW)
    await journal.retrievals.begin(row)
    await journal.retrievals.answered(SOMEBODY, "7")
    await journal.retrievals.all()
    await journal.retrievals.end(SOMEBODY)


async def tell(journal: Journal) -> None:
    await journal.outbox.told(await journal.outbox.news(500))


async def hold(journal: Journal) -> Hold:
    await journal.cameras.ensure(GATE)
    asked = NewHold(
        id=uuid4(),
        camera_ids=(GATE.id,),
        start=START,
        end=None,
        reason="tried",
        case_id="2026/7",
        created_by=None,
        expires_at=None,
        review_at=None,
    )
    made = await journal.holds.add(asked, None, NOW)
    await journal.hold_marks.settle(await journal.hold_marks.settle(None))
    await journal.hold_marks.contents(made.no, None)
    return made


async def release(journal: Journal) -> None:
    await journal.holds.release((await hold(journal)).id, "done", None, NOW)
    await journal.hold_marks.settle(await journal.hold_marks.settle(None))


async def vms_marks(journal: Journal) -> None:
    """Planned, asked for, placed, counted, and removed with their hold."""
    await record(journal, new(5))
    made, marks = await hold(journal), journal.vms_marks
    await marks.plan(made.no, {GATE.id: SOMEBODY}, tuple(MarkKind), NOW)
    await marks.plan(made.no, {GATE.id: SOMEBODY}, tuple(MarkKind), NOW + timedelta(days=2))
    first, second, *_ = await marks.due(NOW, 10)
    await marks.asking(first.id)
    await marks.placed(first, SOMEBODY, NOW)
    await marks.postpone(second.id, "refused", NOW)
    await marks.not_made(second.id)
    await marks.unsupported(second, "not here", NOW)
    await marks.elsewhere(second.id, NOW)
    await marks.counts(made.id)
    await marks.settle(None, tuple(MarkKind), NOW)
    await journal.holds.release(made.id, "done", None, NOW)
    await marks.settle(None, (), NOW)
    await marks.removed((await marks.due(NOW, 10))[0], "gone", NOW)


async def adopt(journal: Journal) -> None:
    """New, and once more."""
    found = FoundSegment(
        id=UUID(int=5),
        camera=GATE,
        span=span(6),
        source=None,
        size_bytes=5,
        sha256=bytes(32),
        copies=(FoundCopy(backend="S3", path="a/b"),),
    )
    for _ in range(2):
        await journal.adoption.adopt(found, NOW)
    await journal.adoption.complete([found], NOW)


PROOF = Proof(path="b", sha256=bytes(32), etag=None)


async def delete(journal: Journal) -> None:
    segment = await record(journal, new(5))
    await journal.deletions.done_many(await journal.deletions.begin_many([segment.id], Cause.AT_MOST), NOW)


async def held_losses(journal: Journal) -> None:
    segment = await record(journal, new(5))
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "x", NOW)
    page = await journal.held_losses.page(0, 100)
    await journal.held_losses.standing([page.after])


async def watched_losses(journal: Journal) -> None:
    segment = await record(journal, new(5))
    await journal.copies.source_gone(segment.id, SourceState.MISSING, "x", NOW)
    assert (await journal.watch_rows.losses(0)).found


async def end_exports(journal: Journal) -> None:
    segment = await record(journal, new(4))
    request = ExportRequest(camera_ids=(GATE.id,), span=segment.span, format="mkv", reason="tried")
    export_id = uuid4()
    await journal.exports.add(export_id, request, 9, None, NOW)
    await journal.exports.begin(export_id)
    made = ExportResult(
        path="p",
        manifest_path="m",
        file_name="n",
        media_type="video/mp4",
        size_bytes=1,
        sha256="00" * 32,
        segments=1,
        files=(),
        files_total=1,
        gaps=(),
        gaps_total=0,
    )
    assert await journal.exports.complete(export_id, made, NOW, NOW)
    later = segment.span.end + timedelta(days=9)
    await journal.retention.end_exports({GATE.id: later}, 0, NOW, lambda end, limit: False)


CALLS: dict[str, tuple[Call, set[str]]] = {
    "due, newest": (lambda j: j.copies.due("S3", Order.NEWEST, 64, NOW), {"copy_undelivered"}),
    "due, oldest": (lambda j: j.copies.due("S3", Order.OLDEST, 64, NOW), {"copy_undelivered"}),
    "due, urgent": (lambda j: j.copies.due("S3", Order.OLDEST, 64, NOW, urgent_only=True), {"copy_urgent"}),
    "came_due": (lambda j: j.copies.came_due("S3", NOW), {"copy_put_off"}),
    "next_due": (lambda j: j.copies.next_due("S3"), {"copy_undelivered"}),
    "backlog": (lambda j: j.copies.backlog("S3"), {"copy_undelivered"}),
    "failures": (lambda j: j.copies.failures(100), {"copy_failed", "copy_damaged"}),
    "damaged": (lambda j: j.scrubbed.damaged("S3"), {"copy_damaged"}),
    "postpone": (lambda j: j.copies.postpone(SOMEBODY, "S3", "503", NOW), set()),
    "failed": (lambda j: j.copies.failed(SOMEBODY, "S3", "503"), set()),
    "retry_failed": (lambda j: j.copies.retry_failed("S3"), {"copy_failed"}),
    "urge": (lambda j: j.copies.urge(GATE.id, span(5), "S3"), {"segment_by_time"}),
    "source_gone": (lambda j: j.copies.source_gone(SOMEBODY, SourceState.MISSING, "x", NOW), set()),
    "require": (
        lambda j: j.requirement.require(["MINIO"]),
        {"segment_at_source", "copy_undelivered", "copy_failed", "copy_gap"},
    ),
    "vouch due, urgent": (
        lambda j: j.vouch_due.page("S3", Search(which=Which.URGENT), NOW),
        {"copy_urgent"},
    ),
    "vouch due, never put off": (
        lambda j: j.vouch_due.page("S3", Search(after=(5, 1), put_off_too=False), NOW),
        {"copy_undelivered"},
    ),
    "vouch due, newest": (
        lambda j: j.vouch_due.page("S3", Search(newest_first=True), NOW),
        {"copy_undelivered"},
    ),
    "vouch due, unhashed": (
        lambda j: j.vouch_due.page("S3", Search(unhashed=True), NOW),
        {"copy_undelivered"},
    ),
    "vouch due, came due": (lambda j: j.vouch_due.came_due("S3", NOW, (5, 1)), {"copy_put_off"}),
    "vouched, gaps": (lambda j: j.vouched.page("S3", Which.GAP, NOW, after=(5, 1)), {"copy_gap"}),
    "vouched, failed": (lambda j: j.vouched.failed("S3", NOW, 5), {"copy_failed"}),
    "vouched, within": (lambda j: j.vouched.within("S3", GATE.id, span(5), NOW), {"segment_by_time"}),
    "vouched, segments": (lambda j: j.vouched.segments([SOMEBODY]), set()),
    "vouched, changed": (vouch, {"segment_by_content", "ledger_by_camera"}),
    "vouched, held": (lambda j: j.vouch_days.held("S3", Place(1, 5, 1)), {"segment_by_time"}),
    "vouched, gaps by camera": (lambda j: j.vouch_days.gaps("S3"), {"copy_gap"}),
    "retrievals": (retrieve, set()),
    "page": (lambda j: j.segments.page(GATE.id, span(5), 100), {"segment_by_time"}),
    "page, later": (lambda j: j.segments.page(GATE.id, span(5), 100, (START, SOMEBODY)), {"segment_by_time"}),
    "footage": (
        lambda j: j.segments.footage(GATE.id, span(5), timedelta(seconds=1), 100, START),
        {"segment_by_time"},
    ),
    "playback, rows": (lambda j: j.playback.rows(GATE.id, span(5)), {"segment_by_time"}),
    "playback, paths": (lambda j: j.playback.paths(GATE.id, span(5), "S3"), {"segment_by_time"}),
    "playback, apart": (lambda j: j.playback.apart(GATE.id, span(5), "S3"), {"segment_by_time"}),
    "material, apart": (lambda j: j.material.rows(GATE.id, span(5), "S3"), {"segment_by_time"}),
    "read back": (read_back, set()),
    "playback, nearby": (lambda j: j.playback.nearby(GATE.id, span(5)), {"segment_by_time"}),
    "replayable, cameras": (lambda j: j.replayable("MILESTONE").cameras(256), set()),
    "replayable, ends": (lambda j: j.replayable("MILESTONE").ends(GATE.id), {"segment_by_time"}),
    "replayable, rows": (
        lambda j: j.replayable("MILESTONE").rows(GATE.id, span(5), 100, (to_us(START), 5)),
        {"segment_by_time"},
    ),
    "replayable, codecs": (lambda j: j.replayable("MILESTONE").codecs(5), set()),
    "newest_footage": (lambda j: j.clocks.newest_footage(), {"segment_by_time"}),
    "clock, last": (lambda j: j.clocks.last(), set()),
    "clock, steps": (lambda j: j.clocks.steps(20), set()),
    "places": (lambda j: j.places.all(), set()),
    "known_in": (lambda j: j.segments.known_in(ROOT, "gate/2026-01-23"), {"segment_at_source"}),
    "renumber_device": (
        lambda j: j.segments.renumber_device(ROOT, "gate/2026-01-23", 7, 8),
        {"segment_at_source"},
    ),
    "by_id": (lambda j: j.segments.by_id(SOMEBODY), set()),
    "by_source": (lambda j: j.segments.by_source(new(1).source), set()),
    "record, known": (lambda j: record(j, new(1)), set()),
    "record, new": (lambda j: record(j, new(2)), set()),
    "verified": (verify, {"segment_by_content"}),
    "set_aside": (lambda j: j.segments.set_aside(new(3).source, "empty", "", NOW), set()),
    "set_aside_page": (lambda j: j.segments.set_aside_page(100), {"set_aside_by_time"}),
    "set_aside_page, later": (
        lambda j: j.segments.set_aside_page(100, (5, 1, b"a.ts")),
        {"set_aside_by_time"},
    ),
    "set_aside_folders": (lambda j: j.segments.set_aside_folders(0), set()),
    "forget_set_aside": (
        lambda j: j.segments.forget_set_aside(ROOT, "gate/2026-01-23", {"a": new(1).source.identity}),
        set(),
    ),
    "settled_before": (lambda j: j.sources.settled_before(NOW, 200, START), {"segment_to_prune"}),
    "verified_ahead": (verified_ahead, {"segment_to_prune"}),
    "newest": (lambda j: j.sources.newest(GATE.id, 5), {"segment_by_time"}),
    "begin_pruning": (lambda j: j.sources.begin_pruning(SOMEBODY, ["S3"]), set()),
    "pruning unfinished": (lambda j: j.sources.unfinished(), {"segment_pruning"}),
    "deletions unfinished": (lambda j: j.deletions.unfinished(100, NOW), {"segment_deleting"}),
    "deletions, many": (delete, set()),
    "in_use": (lambda j: j.deletions.in_use("S3", ["a/b", "a/c"]), {"copy_by_path"}),
    "kept": (lambda j: j.deletions.kept(100, (KEPT + 5, 1)), {"segment_deleting"}),
    "count_kept": (lambda j: j.deletions.count_kept(1000), {"segment_deleting"}),
    "retention, ended_by": (
        lambda j: j.retention.ended_by(1, NOW, FIRST, 100, since=START),
        {"segment_by_time"},
    ),
    "retention, count": (
        lambda j: j.retention.count(1, Limits(at_most_us=to_us(NOW)), FIRST),
        {"segment_by_time"},
    ),
    "retention, states_of": (
        lambda j: j.retention.states_of([SOMEBODY], Limits(at_most_us=to_us(NOW))),
        set(),
    ),
    "retention, end_exports": (end_exports, {"export_by_status", "segment_by_time"}),
    "retention, swept": (lambda j: j.retention.swept(), set()),
    "shared": (lambda j: j.deletions.shared(SOMEBODY, "S3", "a/b"), {"copy_by_path"}),
    "news": (lambda j: j.outbox.news(500), {"segment_to_catalogue"}),
    "told": (tell, set()),
    "lag": (lambda j: j.outbox.lag(), {"segment_to_catalogue"}),
    "ledger": (lambda j: j.ledger.of_camera(GATE.id, span(5)), {"ledger_by_camera"}),
    "absences": (
        lambda j: j.gaps.absences(GATE.id, span(5), timedelta(seconds=1), 100, (0, 0)),
        {"ledger_by_camera"},
    ),
    "gaps, times": (lambda j: j.gaps.times(GATE.id, NOW), {"segment_by_time"}),
    "gaps, roots": (lambda j: j.gaps.roots(), set()),
    "gaps, roots around": (lambda j: j.gaps.roots_around(GATE.id, [span(5), span(9)]), {"segment_by_time"}),
    "set_aside_of": (
        lambda j: j.segments.set_aside_of(GATE.id, span(5), timedelta(seconds=9), 100, START),
        {"set_aside_by_camera"},
    ),
    "watched": (lambda j: j.watched.spans(ROOT, span(5)), set()),
    "watch, cadence": (lambda j: j.watch_rows.cadence(GATE.id, NOW), {"segment_by_time"}),
    "watch, waiting": (lambda j: j.watch_rows.waiting("S3"), {"copy_waiting"}),
    "watch, line_at": (lambda j: j.watch_rows.line_at(NOW), set()),
    "watch, losses": (watched_losses, {"ledger_losses"}),
    "extend": (lambda j: j.watched.extend(ROOT, span(5)), set()),
    "oldest": (lambda j: j.reports.oldest(GATE.id, NOW), {"segment_by_time"}),
    "taken_within": (lambda j: j.reports.taken_within(GATE.id, span(5)), {"ledger_by_camera"}),
    "days": (lambda j: j.reports.days(GATE.id, 1, 9), set()),
    "put_day": (lambda j: j.reports.put_day(GATE.id, DayRow(3, NOW, "[]"), 0), set()),
    "last_line": (lambda j: j.reports.last_line(), set()),
    "of_day": (lambda j: j.reports.of_day("2026-01-01"), set()),
    "ledger, page": (lambda j: j.ledger_lines.page(0), set()),
    "ledger, end": (lambda j: j.ledger_lines.end(), set()),
    "ledger, line": (lambda j: j.ledger_lines.line(1), set()),
    "ledger, due": (lambda j: j.ledger_lines.due_to(100, NOW, NOW), set()),
    "ledger, note": (lambda j: j.ledger_lines.note("x", NOW), set()),
    "audit": (lambda j: j.audit_lines.before(None), set()),
    "audit, tell": (lambda j: j.audit_lines.tell(SEEN, NOW), set()),
    "token, used": (lambda j: j.tokens.used(SOMEBODY, NOW, "192.0.2.1"), set()),
    "ledger, archived": (archive_and_drop, set()),
    "losses": (lambda j: j.ledger.losses(), {"ledger_losses"}),
    "scrub": (lambda j: j.scrubbed.page("S3", 5, 50), set()),
    "scrub, proven": (lambda j: j.scrubbed.verified_at("S3", 5), set()),
    "scrub, last": (lambda j: j.scrubbed.last(), set()),
    "repaired": (lambda j: j.scrubbed.repaired(SOMEBODY, "S3", "a", PROOF, NOW, "x"), set()),
    "holding": (lambda j: j.adoption.holding("S3", "a/b"), {"copy_by_path"}),
    "by_content": (lambda j: j.adoption.by_content(GATE.id, START, bytes(32)), {"segment_by_content"}),
    "adopt": (adopt, {"segment_by_content"}),
    "held_back": (lambda j: j.held_back.all(), {"hold_in_force"}),
    "cameras": (lambda j: j.cameras.all(NOW), {"segment_by_time"}),
    "cameras, counts": (lambda j: j.cameras.segment_counts(), set()),
    "room, cameras": (lambda j: j.capacity.cameras(), set()),
    "room, registered_before": (lambda j: j.capacity.registered_before(NOW), set()),
    "room, recorded": (lambda j: j.capacity.recorded(0), set()),
    "room, verified_sources": (
        lambda j: j.capacity.verified_sources(frozenset({ROOT}), (5, 1), NOW),
        {"segment_to_prune"},
    ),
    "room, delivered": (
        lambda j: j.capacity.delivered(1, "S3", NOW, (5, 1), 100),
        {"segment_by_time"},
    ),
    "room, undelivered": (
        lambda j: j.capacity.undelivered("S3", frozenset({ROOT}), (5, 1)),
        {"copy_undelivered", "copy_failed", "copy_gap"},
    ),
    "room, begin_giving_up": (lambda j: j.capacity.begin_giving_up([SOMEBODY]), set()),
    "room, given_up": (lambda j: j.capacity.given_up(SOMEBODY, NOW), set()),
    "room, keep": (lambda j: j.capacity.keep(SOMEBODY), set()),
    "room, unfinished": (lambda j: j.capacity.unfinished(), {"segment_pruning"}),
    "room, oldest_source": (
        lambda j: j.capacity.oldest_source(["S3"]),
        {"segment_to_prune", "copy_undelivered"},
    ),
    "camera": (lambda j: j.cameras.by_id(GATE.id, NOW), {"segment_by_time"}),
    "hold, made, marked and counted": (hold, {"segment_by_time", "hold_to_mark"}),
    "hold, released and marked": (release, {"segment_by_time", "hold_to_mark"}),
    "hold, to_lock": (lambda j: j.hold_marks.to_lock("S3", 0, 100), {"copy_to_lock", "copy_by_path"}),
    "hold, to_unlock": (lambda j: j.hold_marks.to_unlock("S3", 0, 100), {"copy_to_unlock"}),
    "hold, unlocked": (lambda j: j.hold_marks.unlocked("S3", [1, 2]), set()),
    "hold, losses": (held_losses, {"ledger_losses", "ledger_by_camera"}),
    "hold, in the way": (lambda j: j.deletions.begin_many([SOMEBODY], Cause.AT_MOST), set()),
    "reconcile, copies": (lambda j: j.reconcile.copies("S3", "a"), {"copy_by_path"}),
    "reconcile, known_paths": (lambda j: j.reconcile.known_paths("S3", ["a", "b"]), {"copy_by_path"}),
    "reconcile, under_way": (lambda j: j.reconcile.under_way("S3", GATE.id, START), {"segment_by_time"}),
    "reconcile, folders": (lambda j: j.reconcile.folders(0), {"segment_at_source"}),
    "reconcile, sources": (lambda j: j.reconcile.sources(ROOT, "gate/2026-01-23", ["a"]), set()),
    "reconcile, cameras_in": (
        lambda j: j.reconcile.cameras_in(ROOT, "gate/2026-01-23"),
        {"segment_at_source"},
    ),
    "reconcile, told": (lambda j: j.reconcile.told(SOMEBODY), set()),
    "reconcile, known_ids": (lambda j: j.reconcile.known_ids([SOMEBODY]), set()),
    "reconcile, tell_again": (lambda j: j.reconcile.tell_again([SOMEBODY]), set()),
    "reconcile, uncatalogue": (lambda j: j.reconcile.uncatalogue([SOMEBODY]), set()),
    "vms_marks": (
        vms_marks,
        {"vms_mark_by_hold", "vms_mark_by_state", "vms_mark_due", "hold_camera_by_hold", "segment_by_time"},
    ),
    "holds in force": (lambda j: j.holds.count(), {"hold_in_force"}),
}

LARGE = re.compile(
    r"^SCAN (s|segment|copy|mine|other|f|folder|ledger|set_aside|watched|covered_day|retention_day|vms_mark"
    r"|m)\b(?! USING)"
)
"""A whole large table read from end to end."""
PARTIAL = re.compile(r"^SCAN .* USING (COVERING )?INDEX (\w+)")
SMALL_INDEXES = frozenset(
    {"segment_to_catalogue", "segment_pruning", "copy_failed", "ledger_losses", "copy_undelivered"}
    | {"hold_to_mark", "hold_in_force", "copy_damaged", "copy_gap"}
)
"""Partial indexes that may be read from end to end: they hold what is still to be done, or went wrong."""


@asynccontextmanager
async def statements(journal: Journal) -> AsyncIterator[list[str]]:
    """What SQLite is given meanwhile."""
    seen: list[str] = []
    await journal._store.read(lambda db: db.set_trace_callback(seen.append))
    yield seen
    await journal._store.read(lambda db: db.set_trace_callback(None))


async def plan(journal: Journal, statement: str) -> list[str]:
    def explain(db: sqlite3.Connection) -> list[str]:
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]

    return await journal._store.read(explain)


@pytest.mark.parametrize("name", CALLS)
async def test_no_call_reads_a_large_table_from_end_to_end(journal: Journal, name: str) -> None:
    call, expected = CALLS[name]
    await record(journal, new(1))
    async with statements(journal) as seen:
        await call(journal)
    plans: list[str] = []
    for statement in seen:
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)", statement):
            plans += await plan(journal, statement)
    text = "\n".join(plans)

    assert not [line for line in plans if LARGE.match(line)], text
    whole = {match[2] for line in plans if (match := PARTIAL.match(line))}
    assert whole <= SMALL_INDEXES, text
    used = set(re.findall(r"INDEX (\w+)", text))
    assert expected <= used, text


@pytest.mark.parametrize(
    "name",
    [
        *("due, newest", "due, oldest", "due, urgent", "page", "page, later", "footage", "absences", "news"),
        *("set_aside_page", "set_aside_page, later"),
        *("room, verified_sources", "room, delivered"),
        *("vouch due, urgent", "vouch due, never put off", "vouch due, newest", "vouch due, unhashed"),
        *("vouch due, came due", "vouched, gaps", "vouched, failed"),
        *("vouched, within", "vouched, held", "vouched, gaps by camera", "require"),
    ],
)
async def test_lists_come_in_order_from_their_index_without_sorting(journal: Journal, name: str) -> None:
    await record(journal, new(1))
    async with statements(journal) as seen:
        await CALLS[name][0](journal)
    for statement in seen:
        if "LIMIT" in statement and "ORDER BY" in statement and "SELECT" in statement:
            assert not [line for line in await plan(journal, statement) if "TEMP B-TREE" in line], statement


@pytest.mark.parametrize(
    "name", ["due, newest", "due, oldest", "due, urgent", "vouch due, never put off", "vouch due, newest"]
)
async def test_what_is_put_off_is_passed_over_within_its_index(journal: Journal, name: str) -> None:
    """There may be a hundred thousand of them: their own rows are not looked at."""
    await record(journal, new(1))
    async with statements(journal) as seen:
        await CALLS[name][0](journal)
    plans = [
        line
        for each in seen
        if "due_us NOT" in each or "due_us = 0" in each
        for line in await plan(journal, each)
    ]
    assert any("COVERING INDEX copy_" in line for line in plans), plans


@pytest.mark.parametrize("name", ["came_due", "vouch due, came due"])
async def test_the_next_to_come_due_is_found_however_many_are_put_off(journal: Journal, name: str) -> None:
    """A plan does not tell where in the index SQLite begins; the steps of its machine do."""

    async def steps() -> int:
        taken: list[int] = []
        await journal._store.read(lambda db: db.set_progress_handler(lambda: taken.append(1), 1))
        await CALLS[name][0](journal)
        await journal._store.read(lambda db: db.set_progress_handler(None, 0))
        return len(taken)

    few = await steps()
    later = NOW + timedelta(minutes=5)
    for number in range(100):
        segment = await record(journal, new(number))
        await journal.copies.postpone(segment.id, "S3", "not yet", later)
    assert await steps() < few + 100


# How long it takes


def make_large(path: Path, rows: int) -> None:
    """Two cameras, a segment each ten seconds: nine tenths delivered and pruned, the rest still due."""
    with sqlite3.connect(path) as db:
        for number, camera in enumerate((GATE, YARD), start=1):
            db.execute(
                "INSERT INTO camera (no, id, name, folder) VALUES (?, ?, ?, ?)",
                (number, camera.id.bytes, camera.name, camera.folder.encode()),
            )
        db.execute("INSERT INTO folder VALUES (1, ?, ?)", (ROOT.encode(), b"flat"))
        db.execute(
            """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
               INSERT INTO segment (id, camera_no, start_us, end_us, folder_no, name, device, inode,
                                    size_bytes, mtime_ns, source_state, sha256, created_us, catalogued)
               SELECT randomblob(16), 1 + i % 2, ?2 + i * 5000000, ?2 + i * 5000000 + 10000000, 1,
                      CAST(printf('%08d.ts', i) AS BLOB), 1, i, 5000000, i,
                      iif(i < ?1 * 0.9, 'pruned', 'present'), iif(i < ?1 * 0.9, randomblob(32), NULL), ?2, 1
                 FROM n""",
            (rows, to_us(START)),
        )
        db.execute(
            """INSERT INTO copy (segment_no, backend, state, path, start_us, size_bytes, verified_us)
               SELECT no, 'S3', iif(sha256 IS NULL, 'pending', 'verified'),
                      iif(sha256 IS NULL, NULL, hex(id)),
                      start_us, size_bytes, iif(sha256 IS NULL, NULL, start_us) FROM segment"""
        )
    db.close()


@pytest.mark.heavy
async def test_the_time_each_call_takes_on_a_large_journal(tmp_path: Path) -> None:
    """JOURNAL_ROWS=300000 pytest -rP -k large_journal prints the figures; they are told, not judged."""
    async with await open_journal(tmp_path) as journal:
        pass
    await asyncio.to_thread(make_large, tmp_path / "journal.db", ROWS)
    opened = time.perf_counter()
    async with await open_journal(tmp_path) as journal:
        told = [f"{'open':22} {(time.perf_counter() - opened) * 1000:9.2f} ms for {ROWS} segments"]
        middle = START + timedelta(seconds=5 * ROWS // 2)
        calls = {name: call for name, (call, _) in CALLS.items()} | {
            "page in the middle": lambda j: j.segments.page(
                GATE.id, span(ROWS // 4), 100, (middle, SOMEBODY)
            ),
            "known_in, flat folder": lambda j: j.segments.known_in(ROOT, "flat"),
        }
        for name, call in calls.items():
            times = []
            for _ in range(5):
                before = time.perf_counter()
                await call(journal)
                times.append((time.perf_counter() - before) * 1000)
            told.append(f"{name:22} {sorted(times)[2]:9.2f} ms median of 5")
    print("\n".join(told))
