"""Whatever way two sorted sequences are cut into pages, their join is exactly their difference."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.reconciling.merging import Match, Merge, Side

T = TypeVar("T")
Left = tuple[str, str]
Right = tuple[str, int]

keys = st.text(alphabet="ab/.-é", max_size=4)
cuts = st.lists(st.integers(0, 5), max_size=30)


def paged(items: Sequence[T], sizes: Sequence[int]) -> Iterator[list[T]]:
    """Cut by these sizes, empty pages among them; the rest is one page."""
    at = 0
    for size in sizes:
        yield list(items[at : at + size])
        at += size
    yield list(items[at:])


def joined(
    left: Sequence[Left], right: Sequence[Right], left_cuts: Sequence[int], right_cuts: Sequence[int]
) -> list[Match[Left, Right]]:
    merge: Merge[Left, Right] = Merge(lambda item: item[0], lambda item: item[0])
    lefts, rights = paged(left, left_cuts), paged(right, right_cuts)
    found: list[Match[Left, Right]] = []
    while (side := merge.wants) is not None:
        if side is Side.LEFT:
            add(merge, side, merge.add_left, next(lefts, None))
        else:
            add(merge, side, merge.add_right, next(rights, None))
        found += merge.matches()
        assert len(merge._left) <= max([*left_cuts, len(left)], default=0)
    return found


def add(
    merge: Merge[Left, Right], side: Side, adding: Callable[[list[T]], None], page: list[T] | None
) -> None:
    if page is None:
        merge.end(side)
    else:
        adding(page)


@given(st.sets(keys), st.lists(keys), cuts, cuts)
def test_pages_cut_anywhere_give_exactly_the_set_differences(
    left: set[str], right: list[str], left_cuts: list[int], right_cuts: list[int]
) -> None:
    rights = [(key, number) for number, key in enumerate(sorted(right))]
    found = joined([(key, "L") for key in sorted(left)], rights, left_cuts, right_cuts)
    assert not any(match.late for match in found)
    only_left = [match.left[0] for match in found if match.left is not None and match.right is None]
    only_right = [match.right for match in found if match.left is None]
    both = [match for match in found if match.left is not None and match.right is not None]
    assert only_left == sorted(left - set(right))
    assert only_right == [item for item in rights if item[0] not in left]
    assert [match.right for match in both] == [item for item in rights if item[0] in left]
    assert all(match.left[0] == match.right[0] for match in both if match.left and match.right)


@given(st.lists(keys), st.lists(keys, unique=True), cuts, cuts)
def test_an_unsorted_listing_is_noticed_and_nothing_of_it_is_forgotten(
    left: list[str], right: list[str], left_cuts: list[int], right_cuts: list[int]
) -> None:
    """A late item is told as late; a row told missing has a late item, or truly none."""
    rights = [(key, number) for number, key in enumerate(sorted(right))]
    found = joined([(key, "L") for key in left], rights, left_cuts, right_cuts)
    late = {match.left[0] for match in found if match.late and match.left is not None}
    told = {match.left[0] for match in found if match.left is not None}
    missing = {match.right[0] for match in found if match.left is None and match.right is not None}
    assert told == set(left)
    assert missing <= (set(right) - set(left)) | late
    assert {match.right for match in found if match.right is not None} == set(rights)
    if not late:
        assert missing == set(right) - set(left)


def test_a_listing_that_repeats_a_page_repeats_nothing_here() -> None:
    left = [("a", "L"), ("b", "L"), ("b", "L"), ("c", "L")]
    found = joined(left, [("b", 0)], [2], [])
    assert [match.left and match.left[0] for match in found] == ["a", "b", "c"]
