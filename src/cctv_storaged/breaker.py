"""When to leave a backend alone, for how long, and whose fault a failure is. Decisions only, no I/O."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

RETRY_BASE = timedelta(seconds=1)
RETRY_CAP = timedelta(minutes=5)

OPEN_BASE_S = 1.0
OPEN_CAP_S = 30.0
"""The longest a recovered backend waits for its first segment."""
TOLERANCE = 3
"""Failures in a row that open the breaker: one timeout may be the object's own."""
THROTTLED = "throttled"
PATIENCE = 20
"""Wishes for a slower pace in a row, with nothing taken in between, that amount to being away."""
REFUSALS = 32
"""Objects refused one after the other, and none taken in between: that is the backend, and the next will be
refused as well. It is asked ever more seldom, and every object keeps its attempts."""
AT_ONCE = frozenset({"auth", "bucket", "clock", "space", "wrong_disk"})
"""Reasons that the next object will meet as well."""


def retry_delay(attempts: int, uniform: Callable[[float, float], float] = random.uniform) -> timedelta:
    """Full-jitter exponential back-off after `attempts` failures (1 and more), 1 s to 5 min.

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(RETRY_CAP.total_seconds(), RETRY_BASE.total_seconds() * 2.0 ** min(attempts, 16))
    return timedelta(seconds=uniform(RETRY_BASE.total_seconds() / 2, ceiling))


class BreakerState(StrEnum):
    """CLOSED lets everything through, OPEN nothing, TRYING one."""

    CLOSED = "closed"
    OPEN = "open"
    TRYING = "trying"


@dataclass(slots=True)
class Breaker:
    """Circuit breaker of one backend; all times are monotonic seconds."""

    uniform: Callable[[float, float], float] = random.uniform
    _failures: int = 0  # in a row while it was closed
    _vain_trials: int = 0  # since it opened
    _until: float = 0.0
    _trying: bool = False
    reason: str | None = field(default=None)
    """Why it is open, in a word; None while it is closed."""
    trouble: str | None = field(default=None)
    """The same for people: the word, and the failure that was met last."""

    def state(self, now: float) -> BreakerState:
        if self.reason is None:
            return BreakerState.CLOSED
        return BreakerState.TRYING if self._trying else BreakerState.OPEN

    def wait_s(self, now: float) -> float:
        """How long until somebody may try; 0 at once. While one is trying the others wait for the outcome."""
        if self.reason is None:
            return 0.0
        return OPEN_BASE_S if self._trying else max(0.0, self._until - now)

    def admit(self, now: float) -> bool:
        """Whether the caller may put now. With the breaker open and its time over, one caller may."""
        if self.reason is None:
            return True
        if self._trying or now < self._until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> bool:
        """The backend works. Returns whether that is news."""
        was_open = self.reason is not None
        self._failures, self._trying, self.reason, self.trouble = 0, False, None, None
        return was_open

    def failed(self, reason: str, now: float, detail: str = "") -> bool:
        """The backend as a whole failed. Returns whether this opened the breaker."""
        was_open, was_trying, self._trying = self.reason is not None, self._trying, False
        if not was_open:
            self._failures += 1
            tolerance = PATIENCE if reason == THROTTLED else TOLERANCE
            if self._failures < tolerance and reason not in AT_ONCE:
                return False
            self._vain_trials = 0
        self.reason, self.trouble = reason, f"{reason}: {detail}" if detail else reason
        if was_open and not was_trying:
            return False  # failures of puts that were under way do not prolong the pause, nor the next ones
        if was_trying:
            self._vain_trials += 1
        ceiling = min(OPEN_CAP_S, OPEN_BASE_S * 2.0 ** min(self._vain_trials, 10))
        self._until = now + self.uniform(ceiling / 2, ceiling)
        return not was_open

    @property
    def trying(self) -> bool:
        """Whether somebody was admitted to find out if the backend is back."""
        return self._trying

    def untried(self) -> None:
        """Whoever was admitted came back without having asked the backend: let another try."""
        self._trying = False


@dataclass(slots=True)
class Pace:
    """How many puts at once a backend bears: halved when it asks for less, one more a minute after (AIMD).

    And how long it is left alone: as long as it asks, and ever longer while it refuses everything.
    """

    workers: int
    uniform: Callable[[float, float], float] = random.uniform
    _limit: int = field(init=False)
    _raised_at: float = 0.0
    _pause_until: float = 0.0
    _refused: int = 0  # since one was taken

    def __post_init__(self) -> None:
        self._limit = self.workers

    def limit(self, now: float) -> int:
        """Puts that may be under way now."""
        while self._limit < self.workers and now - self._raised_at >= 60.0:
            self._limit += 1
            self._raised_at += 60.0
        return self._limit

    def wait_s(self, now: float) -> float:
        """How long the backend wants to be left alone."""
        return max(0.0, self._pause_until - now)

    def throttled(self, now: float, retry_after_s: float | None) -> None:
        """The backend asked for a slower pace; several of the same moment count once."""
        if now - self._raised_at >= 1.0 or self._limit == self.workers:
            self._limit = max(1, self._limit // 2)
        self._raised_at = now
        self._pause_until = max(self._pause_until, now + min(retry_after_s or 1.0, 60.0))

    def refused(self, now: float) -> None:
        """The backend answered, and did not take the object."""
        self._refused += 1
        if self.refuses_all:
            ceiling = min(OPEN_CAP_S, OPEN_BASE_S * 2.0 ** min(self._refused - REFUSALS, 10))
            self._pause_until = max(self._pause_until, now + self.uniform(ceiling / 2, ceiling))

    def taken(self) -> None:
        """It took one."""
        self._refused = 0

    @property
    def refuses_all(self) -> bool:
        """Whether it is the backend that refuses, and no object's fault."""
        return self._refused >= REFUSALS


@dataclass(slots=True)
class Suspects:
    """Objects that a backend fails at while it takes others: theirs is the fault, and they alone wait."""

    most: int = 1000
    _successes: int = 0
    _failed: dict[UUID, tuple[int, int]] = field(default_factory=dict)

    def succeeded(self, segment_id: UUID) -> None:
        """The backend took this one."""
        self._successes += 1
        self._failed.pop(segment_id, None)

    def failed(self, segment_id: UUID) -> int:
        """How often this one failed since it failed although others were taken; 0: it may be the backend."""
        before, own = self._failed.pop(segment_id, (self._successes, 0))
        if own or before < self._successes:
            own += 1
        self._failed[segment_id] = (self._successes, own)
        while len(self._failed) > self.most:
            del self._failed[next(iter(self._failed))]
        return own
