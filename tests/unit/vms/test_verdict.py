"""What follows from an answer: by strategy, age, and what was tried."""

from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.vms.verdict import Answer, Ingest, Rules, Verdict, look_again_in, verdict
from tests.unit.vms.waiting import START

HOUR = timedelta(hours=1)
SETTLE = timedelta(seconds=15)
EVERY = get_args(Ingest)


def rules(ingest: Ingest, deadline: timedelta = HOUR) -> Rules:
    return Rules(ingest=ingest, settle=SETTLE, deadline=deadline)


def answer(
    age: timedelta, *, covered: bool = False, under_way: bool = False, tried: int = 0, **doubts: bool
) -> Answer:
    return Answer(
        end=START, asked_at=START + age, covered=covered, under_way=under_way, tried=tried, **doubts
    )


@pytest.mark.parametrize("ingest", EVERY)
@pytest.mark.parametrize("age", [SETTLE, HOUR, 1000 * HOUR])
def test_what_is_covered_is_verified_however_late(ingest: Ingest, age: timedelta) -> None:
    assert verdict(rules(ingest), answer(age, covered=True, under_way=True, tried=3)) is Verdict.VERIFIED


def test_what_the_vms_records_itself_is_waited_for_until_the_deadline() -> None:
    own = rules("vms_recording")
    assert verdict(own, answer(SETTLE)) is Verdict.WAIT
    assert verdict(own, answer(HOUR - SETTLE)) is Verdict.WAIT
    assert verdict(own, answer(HOUR)) is Verdict.GAP


def test_an_answer_to_a_question_from_before_the_deadline_makes_no_gap() -> None:
    """It may arrive later: it is the asking that counts."""
    assert verdict(rules("vms_recording"), answer(HOUR - timedelta(milliseconds=1))) is Verdict.WAIT


@pytest.mark.parametrize("ingest", ["edge_retrieval", "event_retrieval"])
def test_what_is_to_be_fetched_is_so_at_the_first_answer(ingest: Ingest) -> None:
    assert verdict(rules(ingest), answer(SETTLE)) is Verdict.RETRIEVE


def test_with_hybrid_the_vms_has_a_grace_to_show_its_own_recording() -> None:
    both = rules("hybrid")
    assert verdict(both, answer(SETTLE)) is Verdict.WAIT
    assert verdict(both, answer(SETTLE + timedelta(minutes=5))) is Verdict.RETRIEVE
    assert verdict(rules("hybrid", timedelta(minutes=10)), answer(SETTLE + timedelta(minutes=1))) is (
        Verdict.RETRIEVE
    )


@pytest.mark.parametrize("ingest", ["edge_retrieval", "hybrid", "event_retrieval"])
def test_a_gap_that_could_be_fetched_is_none_before_that_was_tried(ingest: Ingest) -> None:
    """Footage of days ago, after an outage, or of a gap that somebody asks for again."""
    late = 100 * HOUR
    assert verdict(rules(ingest), answer(late)) is Verdict.RETRIEVE
    assert verdict(rules(ingest), answer(late, under_way=True)) is Verdict.UNDER_WAY
    assert verdict(rules(ingest), answer(late, tried=1)) is Verdict.GAP


@given(
    ingest=st.sampled_from(EVERY),
    age=st.floats(15, 10**6).map(lambda s: timedelta(seconds=s)),
    covered=st.booleans(),
    under_way=st.booleans(),
    tried=st.integers(0, 5),
    deadline=st.floats(0.1, 10**5).map(lambda s: timedelta(seconds=s)),
)
def test_a_gap_is_old_not_covered_not_under_way_and_was_tried(
    ingest: Ingest, age: timedelta, covered: bool, under_way: bool, tried: int, deadline: timedelta
) -> None:
    asked = rules(ingest, deadline)
    found = verdict(asked, answer(age, covered=covered, under_way=under_way, tried=tried))
    if found is Verdict.GAP:
        assert age >= deadline and not covered and not under_way and (tried or ingest == "vms_recording")
    assert (found is Verdict.VERIFIED) == covered
    assert found not in (Verdict.RETRIEVE, Verdict.UNDER_WAY) or ingest != "vms_recording" or under_way


@given(
    ingest=st.sampled_from(EVERY),
    age=st.floats(15, 10**6).map(lambda s: timedelta(seconds=s)),
    deadline=st.floats(0.1, 10**5).map(lambda s: timedelta(seconds=s)),
)
def test_looks_are_seldom_and_never_later_than_the_journal_lets_them_be(
    ingest: Ingest, age: timedelta, deadline: timedelta
) -> None:
    wait = look_again_in(rules(ingest, deadline), answer(age))
    assert timedelta(seconds=1) <= wait <= timedelta(minutes=5)


def test_a_look_comes_soon_after_the_deadline() -> None:
    assert look_again_in(rules("vms_recording"), answer(HOUR - timedelta(seconds=7))) == timedelta(seconds=7)


@pytest.mark.parametrize("ingest", EVERY)
def test_footage_whose_time_is_in_doubt_is_neither_proven_nor_fetched(ingest: Ingest) -> None:
    for age, expected in ((SETTLE, Verdict.WAIT), (HOUR, Verdict.GAP)):
        assert verdict(rules(ingest), answer(age, covered=True, when_in_doubt=True)) is expected


@pytest.mark.parametrize("ingest", EVERY)
@pytest.mark.parametrize("tried", [0, 1])
def test_no_deadline_is_over_by_a_clock_in_doubt(ingest: Ingest, tried: int) -> None:
    found = verdict(rules(ingest), answer(100 * HOUR, tried=tried, clock_trusted=False))
    assert found in (Verdict.WAIT, Verdict.RETRIEVE)
    assert verdict(rules(ingest), answer(HOUR, covered=True, clock_trusted=False)) is Verdict.VERIFIED
