"""Joining two sorted sequences that come in pages: what is in both, what in one only. Pure.

What flows through: pages in, matches out, at most a page of each side held back. A left sequence that is
not sorted after all (a listing of an odd store) is noticed; its late items are told as such, and what was
told missing because of them is for the caller to prove.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar


class Key(Protocol):
    """Something that can be ordered."""

    def __lt__(self, other: Any, /) -> bool: ...


L = TypeVar("L")
R = TypeVar("R")


class Side(Enum):
    """Of which sequence more is needed."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Match(Generic[L, R]):
    """One key's items; of equal keys on the right each has a match of its own.

    `late`: the left item came behind one that it should have come before.
    """

    left: L | None
    right: R | None
    late: bool = False


class Merge(Generic[L, R]):
    """Give it what it wants until it wants nothing, and take the matches in between."""

    def __init__(self, left_key: Callable[[L], Key], right_key: Callable[[R], Key]) -> None:
        self._left_key = left_key
        self._right_key = right_key
        self._left: deque[L] = deque()
        self._right: deque[R] = deque()
        self._left_ended = self._right_ended = False
        self._highest: Key | None = None  # of the left side so far
        self._late: list[L] = []
        self._met = False  # the first left item has had its match

    @property
    def wants(self) -> Side | None:
        """What no match can be told without; None at the end. Asked after `matches` has been read."""
        if not self._left and not self._left_ended:
            return Side.LEFT
        return Side.RIGHT if not self._right and not self._right_ended else None

    def add_left(self, items: Iterable[L]) -> None:
        """The next page; an item that repeats the one before it is dropped."""
        for item in items:
            key = self._left_key(item)
            if self._highest is None or self._highest < key:
                self._left.append(item)
                self._highest = key
            elif key < self._highest:
                self._late.append(item)

    def add_right(self, items: Iterable[R]) -> None:
        """The next page, in order for sure; equal keys follow each other."""
        self._right.extend(items)

    def end(self, side: Side) -> None:
        """There is no more of it."""
        if side is Side.LEFT:
            self._left_ended = True
        else:
            self._right_ended = True

    def matches(self) -> Iterator[Match[L, R]]:
        """All that can be told by now."""
        late, self._late = self._late, []
        yield from (Match(item, None, late=True) for item in late)
        while (match := self._next()) is not None:
            yield match

    def _next(self) -> Match[L, R] | None:
        while self._left and self._right:
            left, right = self._left_key(self._left[0]), self._right_key(self._right[0])
            if right < left:
                return Match(None, self._right.popleft())
            if not left < right:
                self._met = True
                return Match(self._left[0], self._right.popleft())
            if (item := self._pop_left()) is not None:
                return Match(item, None)
        if self._left and self._right_ended:
            item = self._pop_left()
            return self._next() if item is None else Match(item, None)
        if self._right and self._left_ended:
            return Match(None, self._right.popleft())
        return None

    def _pop_left(self) -> L | None:
        """None where the item has had its match."""
        item, met = self._left.popleft(), self._met
        self._met = False
        return None if met else item
