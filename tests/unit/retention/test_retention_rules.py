"""What may go for its age: decided by rule, age and what is in the way, and by nothing else."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.clock import MICROSECOND, to_us
from cctv_storaged.config import Retention, RetentionRule
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.model import Camera
from cctv_storaged.retention.rules import (
    Blocker,
    Clause,
    Footage,
    Priority,
    Rule,
    clause_of,
    judge,
    policy_of,
)
from cctv_storaged.retention.weighing import limits_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)
GATE = Camera(id=UUID("123e4567-e89b-12d3-a456-426614174000"), name="Gate", folder="gate")

spans = st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=2000))
ages = st.timedeltas(min_value=timedelta(days=-3), max_value=timedelta(days=2500))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule that settings let through: the limits in their order, each may be left out."""
    ordered = sorted(draw(st.lists(spans, min_size=3, max_size=3)))
    given = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    at_least, desired, at_most = (
        limit if wanted else None for limit, wanted in zip(ordered, given, strict=True)
    )
    return Rule(at_least=at_least, desired=desired, at_most=at_most)


def footage(age: timedelta, **facts: bool) -> Footage:
    return Footage(
        segment_id=UUID(int=1),
        start=NOW - age - timedelta(seconds=10),
        end=NOW - age,
        size_bytes=1000,
        **facts,
    )


@given(rules(), ages)
def test_what_is_younger_than_at_least_is_past_no_limit(rule: Rule, age: timedelta) -> None:
    if rule.at_least is not None and age < rule.at_least:
        assert judge(footage(age), rule, NOW).clause is None


@given(rules())
def test_at_most_is_met_to_the_microsecond(rule: Rule) -> None:
    if rule.at_most is None:
        return
    assert judge(footage(rule.at_most), rule, NOW).cause is Cause.AT_MOST
    assert judge(footage(rule.at_most - MICROSECOND), rule, NOW).cause is None


@given(rules(), ages)
def test_without_at_most_nothing_goes_for_its_age(rule: Rule, age: timedelta) -> None:
    if rule.at_most is None:
        assert judge(footage(age), rule, NOW).cause is None


@given(rules(), ages, st.booleans(), st.booleans())
def test_what_is_held_in_use_or_on_its_way_out_is_not_deleted(
    rule: Rule, age: timedelta, held: bool, leaving: bool
) -> None:
    blocked = footage(age, held=held, pinned=not held, leaving=leaving)
    verdict = judge(blocked, rule, NOW)
    assert verdict.cause is None
    if verdict.clause is not None:
        assert verdict.blocker is (Blocker.HELD if held else Blocker.PINNED)


@given(rules(), ages, st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1000)))
def test_what_is_past_a_limit_stays_past_it(rule: Rule, age: timedelta, later: timedelta) -> None:
    weight: dict[Clause | None, int] = {None: 0, Clause.AT_LEAST: 1, Clause.DESIRED: 2, Clause.AT_MOST: 3}
    end = NOW - age
    assert weight[clause_of(end, rule, NOW + later)] >= weight[clause_of(end, rule, NOW)]


@given(rules(), ages)
def test_room_takes_nothing_that_no_limit_gives_up(rule: Rule, age: timedelta) -> None:
    """Without `desired` and `at_least` nothing younger than `at_most` may go."""
    if rule.desired is None and rule.at_least is None:
        assert clause_of(NOW - age, rule, NOW) in (None, Clause.AT_MOST)


@given(rules(), ages)
def test_what_sql_counts_is_what_is_decided_row_by_row(rule: Rule, age: timedelta) -> None:
    counted: Clause | None
    end_us, limits = to_us(NOW - age), limits_of(rule, None, NOW)
    if end_us <= limits.at_most_us:
        counted = Clause.AT_MOST
    elif end_us <= limits.desired_us:
        counted = Clause.DESIRED
    else:
        counted = Clause.AT_LEAST if end_us <= limits.at_least_us else None
    assert counted is clause_of(NOW - age, rule, NOW)


def test_a_camera_has_one_rule_whole_by_its_id_before_its_folder() -> None:
    short, long = RetentionRule(at_most=timedelta(days=1)), RetentionRule(at_least=timedelta(days=9))
    by_id = policy_of(Retention(per_camera={str(GATE.id).upper(): long, "gate": short}))
    assert by_id.rule_for(GATE) == Rule(at_least=timedelta(days=9))
    by_folder = policy_of(Retention(per_camera={"gate": short, "Gate": long}))
    assert by_folder.rule_for(GATE) == Rule(at_most=timedelta(days=1))
    low = RetentionRule(at_most=timedelta(days=30), priority="low")
    assert policy_of(Retention(default=low)).rule_for(GATE).priority is Priority.LOW


def test_a_folder_that_looks_like_an_id_without_dashes_is_a_folder() -> None:
    folder = GATE.id.hex
    policy = policy_of(Retention(per_camera={folder: RetentionRule(at_most=timedelta(days=1))}))
    camera = Camera(id=UUID(int=5), name="x", folder=folder)
    assert policy.rule_for(camera).at_most == timedelta(days=1)
