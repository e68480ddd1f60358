"""Slices of long work follow from measured time: others wait for one of them."""

from collections.abc import Callable

from cctv_storaged.journal.slices import AIM_S, Slices


class Watch:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def made() -> tuple[Slices, Callable[[str, int, float], None]]:
    watch = Watch()
    slices = Slices(first=25, least=10, most=100, clock=watch)

    def work(step: str, rows: int, each_s: float) -> None:
        with slices.measured(step, rows):
            watch.now_s += rows * each_s

    return slices, work


def test_nothing_is_known_at_first_and_of_no_rows_nothing_is_learned() -> None:
    slices, work = made()
    work("rows", 0, 1.0)
    assert slices.size == 25


def test_a_slice_takes_as_long_as_others_may_wait() -> None:
    slices, work = made()
    work("rows", 25, AIM_S / 40)
    assert slices.size == 40


def test_the_slowest_step_decides() -> None:
    slices, work = made()
    work("rows", 25, AIM_S / 15)
    work("tombstones", 15, AIM_S / 90)
    assert slices.size == 15


def test_a_slow_disk_is_followed_within_bounds_and_back() -> None:
    slices, work = made()
    for _ in range(30):
        work("rows", slices.size, AIM_S)
    assert slices.size == 10
    for _ in range(60):
        work("rows", slices.size, AIM_S / 1000)
    assert slices.size == 100


def test_one_slow_slice_is_no_slow_disk() -> None:
    slices, work = made()
    work("rows", 25, AIM_S / 80)
    work("rows", 80, AIM_S / 40)
    assert 40 < slices.size < 80
