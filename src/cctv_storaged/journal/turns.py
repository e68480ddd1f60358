"""Whose turn it is: who waits for the next commit, and what goes into it together.

Most operations have somebody waiting for them: all that are there go into one commit. A patient one is a
slice of long work, such as a pass of retention. It goes alone, so that nobody waits for more than one, and
lets others go before, a few times.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

MAX_BATCH = 256
"""Operations in one transaction: more would make the first caller wait for the last."""


PASSED_OVER = 4
"""Commits of others that a patient operation sees while it waits: then it has its turn."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An operation that waits, and who gets its answer."""

    operation: Operation[Any]
    answer: asyncio.Future[Any]
    patient: bool = False


class Turns:
    """Pending operations; one task takes them."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._prompt: deque[Pending] = deque()
        self._patient: deque[Pending] = deque()
        self._passed_over = 0  # how often the patient one that is first was
        self._ending = False

    def add(self, pending: Pending) -> None:
        (self._patient if pending.patient else self._prompt).append(pending)
        self._arrived.set()

    @property
    def hurried(self) -> bool:
        """Whether somebody waits who is not patient."""
        return bool(self._prompt)

    def end(self) -> None:
        """Nothing is added any more."""
        self._ending = True
        self._arrived.set()

    async def next_batch(self) -> list[Pending]:
        """What is done in the next commit; empty after the end, when everything had its turn."""
        while not (self._prompt or self._patient or self._ending):
            self._arrived.clear()
            await self._arrived.wait()
        if self._patient and (not self._prompt or self._passed_over == PASSED_OVER):
            self._passed_over = 0
            return [self._patient.popleft()]
        self._passed_over += bool(self._patient)
        return [self._prompt.popleft() for _ in range(min(MAX_BATCH, len(self._prompt)))]

    def left(self) -> Iterator[Pending]:
        """Takes everything that had no turn."""
        for waiting in (self._prompt, self._patient):
            while waiting:
                yield waiting.popleft()
