"""When a clock is trusted: told by readings alone, for every story of steps, restarts, reboots and pauses."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cctv_storaged.clocktrust import (
    AHEAD,
    LONGEST_OFF,
    STEADY,
    TOLERANCE,
    Anchor,
    Reading,
    Trust,
    doubt,
    footage_doubt,
)

START = datetime(2026, 3, 5, 12, tzinfo=UTC)
YEAR = timedelta(days=400)
ZERO = timedelta(0)
ROUNDING = timedelta(milliseconds=1)
"""The boot clock is a float."""


@dataclass
class Host:
    """True time, and a wall clock that is off it."""

    true: datetime = START
    off: timedelta = ZERO
    boot: int = 0
    booted: datetime = START - timedelta(hours=5)
    synchronized: bool | None = False
    trust: Trust = field(init=False)

    def __post_init__(self) -> None:
        self.trust = Trust(Anchor.at(self.reading()))

    def reading(self) -> Reading:
        return Reading(
            wall=self.true + self.off,
            boot_s=(self.true - self.booted).total_seconds(),
            boot_id=str(self.boot),
            synchronized=self.synchronized,
        )

    def judge(self) -> str | None:
        return self.trust.judge(self.reading())

    def restart(self) -> None:
        """Another process, with what the journal keeps."""
        before = self.trust
        self.trust = Trust(
            before.anchor,
            first=before.first,
            holds=before.holds,
            trusted_from=before.trusted_from,
            lead=before.lead,
            errors=before.errors,
        )
        self.trust.newest = before.newest

    def reboot(self, off_for: timedelta) -> None:
        self.true += off_for
        self.boot, self.booted = self.boot + 1, self.true
        self.restart()


spans = st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=2))
steps = st.timedeltas(min_value=-YEAR, max_value=YEAR)
story = st.lists(st.tuples(spans, st.none() | steps, st.booleans()), max_size=12)


@given(story)
def test_without_a_better_clock_no_step_is_ever_trusted_and_none_that_was_taken_back_is_not(
    story: list[tuple[timedelta, timedelta | None, bool]],
) -> None:
    host = Host()
    for passes, step, restarts in story:
        host.true += passes
        if step is not None:
            host.off += step
        if restarts:
            host.restart()
        assume(abs(abs(host.off) - TOLERANCE) > ROUNDING)
        assert (host.judge() is None) == (abs(host.off) <= TOLERANCE)
    host.off = ZERO
    assert host.judge() is None


@given(story)
def test_a_restart_changes_no_verdict(story: list[tuple[timedelta, timedelta | None, bool]]) -> None:
    one, other = Host(), Host()
    for passes, step, restarts in story:
        for host in (one, other):
            host.true += passes
            host.off += step or ZERO
        if restarts:
            other.restart()
        assert one.judge() == other.judge()


@given(spans, st.sampled_from([-YEAR, -timedelta(hours=2), timedelta(hours=2), YEAR]))
def test_a_synchronised_clock_is_trusted_again_only_once_it_has_been_steady(
    passes: timedelta, step: timedelta
) -> None:
    host = Host(synchronized=True)
    host.true += passes
    host.off = step
    assert host.judge() is not None
    host.true += STEADY - timedelta(seconds=1)
    assert host.judge() is not None
    host.true += timedelta(seconds=1) + ROUNDING
    assert host.judge() is None
    assert host.trust.trusted_from == host.reading().wall, "what was stamped before may be anything"
    host.off = ZERO
    assert host.judge() is not None, "another step is another doubt"


def test_a_step_begins_the_steady_time_anew_and_so_does_a_lost_synchronisation() -> None:
    host = Host(synchronized=True, off=ZERO)
    host.off = YEAR
    assert host.judge() is not None
    for changed in (timedelta(seconds=5), ZERO):
        host.true += STEADY / 2
        host.off += changed
        host.synchronized = changed != ZERO
        assert host.judge() is not None
    host.synchronized = True
    host.true += STEADY / 2
    assert host.judge() is not None


@given(st.timedeltas(min_value=ZERO, max_value=timedelta(days=500)), st.sampled_from([True, False, None]))
def test_after_a_reboot_only_what_cannot_be_is_doubted(off_for: timedelta, synchronized: bool | None) -> None:
    host = Host(synchronized=synchronized)
    host.judge()
    host.reboot(off_for)
    limit = timedelta(hours=1) if synchronized is False else LONGEST_OFF
    assume(abs(off_for - limit) > ROUNDING)
    assert (host.judge() is None) == (off_for <= limit)


@given(st.timedeltas(min_value=TOLERANCE * 1.1, max_value=YEAR))
def test_a_clock_that_a_reboot_set_back_is_doubted_however_often_it_is_started(back: timedelta) -> None:
    host = Host()
    host.judge()
    host.off = -back
    host.reboot(ZERO)
    assert host.judge() is not None
    host.restart()
    assert host.judge() is not None
    host.reboot(ZERO)
    assert host.judge() is not None
    host.off = ZERO
    assert host.judge() is None


def test_small_steps_do_not_add_up_unnoticed() -> None:
    host = Host()
    for _ in range(3):
        host.true += timedelta(hours=1)
        host.off += TOLERANCE / 2
        last = host.judge()
    assert last is not None


def test_stamps_from_while_the_clock_was_wrong_are_known_by_when_it_became_right() -> None:
    host = Host()
    host.off = -YEAR
    host.judge()
    host.off = ZERO
    host.true += timedelta(minutes=1)
    assert host.judge() is None
    assert host.trust.trusted_from == host.true
    host.restart()
    assert host.trust.trusted_from == host.true


def test_footage_that_is_ahead_is_doubted_unless_the_clock_follows_a_better_one() -> None:
    host = Host()
    host.trust.newest = host.true + AHEAD * 2
    assert host.judge() is not None
    host.synchronized = True
    assert host.judge() is not None
    host.true += STEADY + ROUNDING
    assert host.judge() is None


def test_what_somebody_confirmed_is_trusted_and_the_footage_may_go_on_as_far_ahead() -> None:
    host = Host()
    host.trust.newest = newest = host.true + YEAR
    host.off = timedelta(days=3)
    assert host.judge() is not None
    host.trust = host.trust.confirmed(host.reading())
    for _ in range(3):
        assert host.judge() is None
        host.true += timedelta(days=30)
        host.trust.newest = newest = newest + timedelta(days=30)
    host.trust.newest = newest + AHEAD * 5
    assert host.judge() is not None


@pytest.mark.parametrize(("synchronized", "doubted"), [(False, True), (None, False), (True, False)])
def test_a_first_start_has_nothing_but_footage_to_hold_a_clock_against(
    synchronized: bool | None, doubted: bool
) -> None:
    old = START - LONGEST_OFF - timedelta(days=1)
    told = footage_doubt(old, START, ZERO, first=True, synchronized=synchronized)
    assert (told is not None) == doubted
    assert footage_doubt(old, START, ZERO, first=False, synchronized=synchronized) is None
    assert footage_doubt(None, START, ZERO, first=True, synchronized=synchronized) is None


@settings(max_examples=50)
@given(steps)
def test_a_reason_says_by_how_much(step: timedelta) -> None:
    host = Host()
    anchor = Anchor.at(host.reading())
    host.off = step
    told = doubt(anchor, host.reading())
    if told is not None:
        number = f"{step / timedelta(days=1):.0f}"
        shown = f"{number} days" if abs(step) >= timedelta(days=2) else f"{step.total_seconds():.0f} s"
        assert shown in told


# What a wrong clock named


LIMIT = timedelta(days=30)


@given(
    st.timedeltas(min_value=-YEAR, max_value=-timedelta(days=1)),
    st.timedeltas(min_value=timedelta(seconds=5), max_value=timedelta(days=3)),
    st.sampled_from(["back by itself", "after a restart", "synchronised", "confirmed"]),
)
def test_footage_named_by_a_clock_that_was_behind_is_spared_until_it_must_be_old_enough(
    behind: timedelta, for_so_long: timedelta, ends: str
) -> None:
    """Right, behind for a while, right again, in whichever way that is found out."""
    host = Host()
    assert host.judge() is None
    host.off = behind
    assert host.judge() is not None
    named = host.reading().wall + for_so_long / 2
    host.true += for_so_long
    assert host.judge() is not None
    if ends == "after a restart":
        host.restart()
    host.off = ZERO
    if ends == "synchronised":
        host.off, host.synchronized = timedelta(minutes=5), True
        host.judge()
        host.true += STEADY + ROUNDING
    if ends == "confirmed":
        host.off = timedelta(minutes=5)
        assert host.judge() is not None
        host.trust = host.trust.confirmed(host.reading())
    assert host.judge() is None
    right = host.reading().wall
    assert host.trust.spares(named, LIMIT, right)
    assert host.trust.spares(named, LIMIT, right + LIMIT - timedelta(seconds=1))
    assert not host.trust.spares(named, LIMIT, right + LIMIT)
    assert not host.trust.spares(named - YEAR, LIMIT, right), "what is older was named by a right clock"
    host.restart()
    assert host.trust.spares(named, LIMIT, right)


def test_all_that_a_drifting_clock_named_is_spared_and_not_what_it_named_last() -> None:
    """Wrong, and set by seconds again and again: no span of its own for each, of which only some are kept."""
    host = Host()
    assert host.judge() is None
    host.off = -YEAR
    host.true += timedelta(minutes=1)
    first = host.reading().wall
    for _ in range(500):
        assert host.judge() is not None
        host.true += timedelta(minutes=5)
        host.off += timedelta(seconds=2)
    last = host.reading().wall
    assert last - first > timedelta(days=1)
    host.off = ZERO
    assert host.judge() is None
    for named in (first, first + (last - first) / 2, last):
        assert host.trust.spares(named, LIMIT, host.true)


def test_footage_named_before_a_better_clock_set_this_one_forward_is_spared() -> None:
    """A host whose clock battery is dead: right only once the network is there."""
    host = Host(off=-YEAR, synchronized=False)
    host.true += timedelta(hours=3)
    assert host.judge() is None, "nobody could know"
    named = host.reading().wall - timedelta(hours=1)
    host.off, host.synchronized = ZERO, True
    assert host.judge() is not None
    host.true += STEADY + ROUNDING
    assert host.judge() is None
    assert host.trust.spares(named, LIMIT, host.true)
    assert not host.trust.spares(named - timedelta(days=2), LIMIT, host.true), "another boot named that"


@pytest.mark.parametrize("doubted", [True, False])
def test_of_what_a_clock_that_was_behind_stamped_it_is_known_when_it_became_right(doubted: bool) -> None:
    """For what is kept for a time from then on, such as an export."""
    host = Host(off=ZERO if doubted else -YEAR)
    assert host.judge() is None
    right = host.reading().wall
    host.off = -YEAR
    for _ in range(3):
        host.true += timedelta(minutes=5)
        assert (host.judge() is not None) == doubted
    stamped = host.reading().wall
    host.off, host.synchronized = ZERO, True
    host.judge()
    host.true += STEADY + ROUNDING
    assert host.judge() is None
    came = host.trust.right_from(stamped)
    assert came is not None and host.true - came <= STEADY + ROUNDING
    assert host.trust.right_from(stamped - timedelta(days=9)) is None
    assert host.trust.right_from(right) is None or not doubted
    assert host.trust.right_from(host.true) is None


def test_where_somebody_says_that_the_time_has_passed_what_was_stamped_before_is_as_old() -> None:
    host = Host()
    stamped = host.reading().wall
    assert host.judge() is None
    host.off = YEAR
    assert host.judge() is not None
    host.trust = host.trust.confirmed(host.reading())
    assert host.judge() is None
    assert host.trust.right_from(stamped) is None
    assert host.trust.spares(stamped, LIMIT, host.reading().wall), "footage is spared all the same"


@given(story)
def test_a_clock_that_was_never_behind_spares_nothing(
    story: list[tuple[timedelta, timedelta | None, bool]],
) -> None:
    host = Host()
    for passes, step, restarts in story:
        host.true += passes
        host.off = max(ZERO, host.off + (step or ZERO))
        if restarts:
            host.restart()
        host.judge()
    host.off = ZERO
    host.true += timedelta(days=1000)
    host.judge()
    assert not host.trust.spares(START - timedelta(days=1), timedelta.max, host.true)
