"""The byte budget keeps to its rate, whoever draws and in what portions."""

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.pacing import ByteBudget


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(st.lists(st.integers(1, 5_000_000), min_size=1, max_size=60))
def test_the_average_never_exceeds_the_rate_by_more_than_the_burst(draws: list[int]) -> None:
    time = Time()
    budget = ByteBudget(1_000_000, monotonic=time.monotonic, sleep=time.sleep)
    for size_bytes in draws:
        budget.draw(size_bytes)
    assert sum(draws) <= 1_000_000 * time.now + 1_000_000 + 1


def test_without_a_limit_nobody_waits() -> None:
    time = Time()
    budget = ByteBudget(None, monotonic=time.monotonic, sleep=time.sleep)
    budget.draw(10**12)
    assert time.now == 0.0
    assert not budget.limited


def test_a_limit_set_later_holds_from_then_on() -> None:
    time = Time()
    budget = ByteBudget(None, monotonic=time.monotonic, sleep=time.sleep)
    budget.draw(10**9)
    budget.change(1000.0)
    budget.draw(5000)
    assert 4.0 <= time.now <= 5.0
    budget.change(None)
    budget.draw(10**9)
    assert time.now <= 5.0
