"""A ledger that is not the one that was written is told from it, by line and by what is wrong."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.auditing.heads import Head
from cctv_storaged.auditing.proof import proven, trouble_with
from cctv_storaged.clock import to_us
from cctv_storaged.journal.chain import GENESIS, BoundLine, Line, Wrong, canonical, linked
from cctv_storaged.journal.ledgerlines import RECOVERED
from tests.unit.auditing.chains import T0, bound, chain, head_of, line

TEXT = st.text(max_size=5)
LINES = st.lists(st.builds(lambda cause, detail: (cause, detail), TEXT, TEXT), min_size=2, max_size=8).map(
    lambda said: bound(line(no, cause=c, detail=d) for no, (c, d) in enumerate(said, start=1))
)
FIELDS = [name for name in Line._fields if name != "no"]


def other(value: object) -> object:
    match value:
        case int():
            return value + 1
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
    return f"{value}!"


def with_other(line: Line, field: str) -> Line:
    facts: list[Any] = [other(value) if name == field else value for name, value in line._asdict().items()]
    return Line(*facts)


@st.composite
def tampered(draw: st.DrawFn) -> tuple[list[BoundLine], Head, int]:
    """Lines that somebody was at, the head that was kept elsewhere, and the first line he touched."""
    lines = draw(LINES)
    head, at = head_of(lines), draw(st.integers(0, len(lines) - 1))
    what = draw(st.sampled_from(["change", "number", "hash", "take out", "put in", "swap", "cut", "anew"]))
    here = lines[at]
    match what:
        case "change":
            field = draw(st.sampled_from(FIELDS))
            changed = with_other(here.line, field)
            before = lines[at - 1].hash if at else GENESIS
            assert before is not None
            lines[at] = BoundLine(changed, draw(st.sampled_from([here.hash, linked(before, changed)])))
        case "number":
            lines[at] = here._replace(
                line=here.line._replace(no=here.line.no + draw(st.sampled_from([-1, 1])))
            )
        case "hash":
            assert here.hash is not None
            lines[at] = here._replace(hash=draw(st.sampled_from([None, bytes(32)])))
        case "take out":
            del lines[at]
        case "put in":
            lines.insert(at, draw(st.sampled_from(lines)))
        case "swap":
            to = draw(st.integers(0, len(lines) - 1).filter(lambda to: to != at))
            lines[at], lines[to] = lines[to], lines[at]
            at = min(at, to)
        case "cut":
            del lines[at:]
        case "anew":  # every hash after it is made to fit
            rest = [each.line for each in lines]
            rest[at] = rest[at]._replace(detail=rest[at].detail + "!")
            lines = bound(rest)
    return lines, head, at + 1


@given(tampered())
@settings(max_examples=400)
def test_whatever_is_done_to_lines_is_found(given_: tuple[list[BoundLine], Head, int]) -> None:
    lines, head, _ = given_
    assert proven(lines, [head]).wrong


@given(LINES)
def test_what_was_written_is_whole_with_every_head_that_it_had(lines: list[BoundLine]) -> None:
    heads = [head_of(lines, no) for no in range(1, len(lines) + 1)]
    verdict = proven(lines, heads)
    assert (verdict.wrong, verdict.findings, verdict.newest_match(heads)) == (False, (), heads[-1])
    assert (verdict.lines, verdict.first, verdict.last) == (len(lines), 1, len(lines))
    assert verdict.chain == heads[0].hash.hex()


def changed(lines: list[BoundLine], no: int) -> None:
    at = no - 1
    lines[at] = lines[at]._replace(line=lines[at].line._replace(cause="nothing"))


def test_a_changed_line_is_named() -> None:
    lines = chain(9)
    changed(lines, 5)
    [found] = proven(lines).findings
    assert (found.first, found.last, found.wrong) == (5, 5, Wrong.CHANGED)


def test_missing_lines_are_named_from_the_first_to_the_last() -> None:
    lines = chain(9)
    [found] = proven([*lines[:3], *lines[6:]]).findings
    assert (found.first, found.last, found.wrong) == (4, 6, Wrong.MISSING)
    [found] = proven(lines[2:]).findings
    assert (found.first, found.last, found.wrong) == (1, 2, Wrong.MISSING)


def test_a_line_put_in_is_named() -> None:
    lines = chain(9)
    [found] = proven([*lines[:6], lines[2], *lines[6:]]).findings
    assert (found.first, found.wrong) == (3, Wrong.PUT_IN)


def test_a_ledger_cut_short_does_not_reach_its_head() -> None:
    lines = chain(9)
    [found] = proven(lines[:6], [head_of(lines)]).findings
    assert (found.first, found.last, found.wrong) == (7, 9, Wrong.CUT_SHORT)
    assert not proven(lines[:6]).wrong, "nothing but a head shows it"


def test_another_ledger_is_told_by_its_chain() -> None:
    other_lines = bound([line(1, detail="another host"), *(line(no) for no in range(2, 9))])
    findings = proven(other_lines, [head_of(chain(5))]).findings
    assert [found.wrong for found in findings] == [Wrong.OTHER_CHAIN, Wrong.CHANGED]


def test_a_part_is_proven_from_the_head_before_it() -> None:
    lines = chain(9)
    part, head = lines[5:], head_of(lines, 5)
    assert not proven(part, [head]).wrong
    changed(part, 1)
    assert [found.first for found in proven(part, [head]).findings] == [6]


def recovered(lacking: list[list[int]], after: list[BoundLine]) -> list[BoundLine]:
    """Lines that a recovery kept, and its own."""
    last = after[-1]
    note = line(last.line.no + 1, kind="noted", cause=RECOVERED, detail=json.dumps({"lacking": lacking}))
    note = note._replace(at_us=to_us(T0 + timedelta(days=1)))
    assert last.hash is not None
    return [*after, BoundLine(note, linked(last.hash, note))]


def test_a_break_that_a_recovery_told_of_is_known_and_shown_and_another_is_not() -> None:
    lines = chain(9)
    kept = recovered([[4, 6]], [*lines[:3], *lines[6:]])
    verdict = proven(kept)
    assert not verdict.wrong
    [found] = verdict.findings
    assert (found.first, found.last, found.known) == (
        4,
        6,
        "the journal was recovered at 2026-01-24T10:00:00Z",
    )
    changed(kept, 2)
    assert [(found.first, found.known is None) for found in proven(kept).findings] == [(2, True), (4, False)]


def test_a_recovery_does_not_excuse_lines_behind_itself_nor_a_head_that_is_not_met() -> None:
    lines = chain(9)
    kept = recovered([[1, 99]], lines[:6])
    verdict = proven(kept, [head_of(lines, 9)])
    assert verdict.wrong
    assert [found.wrong for found in verdict.findings] == [Wrong.CUT_SHORT]
    assert "recovered at" in verdict.findings[0].why
    behind = [*kept, BoundLine(line(8), bytes(32))]
    assert [(each.first, each.known) for each in proven(behind).findings] == [(8, None)]


def anew(no: int) -> Line:
    return line(no, cause="anew")


@pytest.mark.parametrize("what", ["cut", "rewritten", "another chain"])
def test_no_recovery_excuses_a_head_that_is_not_met_whatever_it_lists(what: str) -> None:
    lines = chain(9)
    head = head_of(lines)
    note = line(10, kind="noted", cause=RECOVERED, detail=json.dumps({"lacking": [[1, 9]]}))
    match what:
        case "cut":
            last = lines[3].hash
            assert last is not None
            kept = [*lines[:4], BoundLine(note, linked(last, note))]
        case "rewritten":
            kept = bound([*map(line, range(1, 5)), *map(anew, range(5, 10)), note])
        case _:
            kept = bound([*map(anew, range(1, 10)), note])
    verdict = proven(kept, [head])
    assert verdict.wrong and not verdict.matched
    assert [found.known for found in verdict.findings if found.by_head] in ([None], [None, None])


def test_of_two_heads_of_the_line_before_a_part_only_one_can_be_true() -> None:
    lines = chain(9)
    true = head_of(lines, 4)
    assert not proven(lines[4:], [true, head_of(lines, 2)]).wrong
    assert proven(lines[4:], [true, replace(true, hash=bytes(32))]).wrong


@pytest.mark.parametrize("detail", ['{"lacking":[[Infinity,1]]}', f'{{"lacking":{"[" * 100_000}'])
@pytest.mark.parametrize("at_us", [2**63 - 1, -(2**63), 0])
def test_lines_that_say_anything_at_all_are_judged(detail: str, at_us: int) -> None:
    said = line(1, kind="noted", cause=RECOVERED, detail=detail)._replace(at_us=at_us)
    assert proven(bound([said])).lines == 1


def test_a_recovery_that_somebody_put_in_excuses_nothing() -> None:
    lines = chain(9)
    note = line(5, kind="noted", cause=RECOVERED, detail=json.dumps({"lacking": [[2, 3]]}))
    lines[4] = lines[4]._replace(line=note)
    assert proven([lines[0], *lines[3:]]).wrong


@pytest.mark.parametrize(
    ("no", "told"), [(5, None), (12, "cut short"), (7, "was changed")], ids=["agrees", "short", "changed"]
)
def test_a_ledger_is_held_against_a_head(no: int, told: str | None) -> None:
    lines = chain(9)
    head = head_of(chain(12), no)
    found = lines[no - 1].hash if no <= 9 else None
    trouble = trouble_with(head, head.chain, 9, bytes(32) if no == 7 else found)
    assert trouble is None if told is None else trouble is not None and told in trouble


def test_the_form_that_is_hashed_is_as_the_reference_says() -> None:
    said = line(1, cause='a"b\\', detail="é\n\x7f")
    text = b'[1,%d,"registered","%s","%s",%d,%d,"a\\"b\\\\","\xc3\xa9\\n\x7f"]'
    filled = text % (said.at_us, b"01" * 16, b"63" * 16, said.start_us, said.end_us)
    assert canonical(said) == filled
