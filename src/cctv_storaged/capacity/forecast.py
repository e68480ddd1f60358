"""For how long a volume lasts, and how many days of each camera it keeps once it is full. Pure.

Every stream of bytes onto a volume flows at its measured rate and stays for a lifetime: a copy for `at_most`,
a source for the grace after its delivery. While it is younger than that it grows; then as much goes as comes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from cctv_storaged.retention.rules import Priority

DAY_S = 86_400.0
_STEPS = 60
"""Halvings of an interval: to below a second in any lifetime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Bytes that come onto a volume and stay for a while."""

    rate: float  # bytes per second
    age_s: float  # of the oldest that is there
    lifetime_s: float | None  # None: nothing of it goes by itself

    @property
    def grows_for_s(self) -> float:
        """How long it takes up more room from now on."""
        return float("inf") if self.lifetime_s is None else max(0.0, self.lifetime_s - self.age_s)

    @property
    def expiring(self) -> float:
        """Bytes per second of it that go by their age now."""
        return self.rate if self.grows_for_s == 0.0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one camera's rule says, in seconds, and how fast it records."""

    rate: float  # bytes per second
    at_least_s: float | None
    desired_s: float | None
    at_most_s: float | None
    priority: Priority = Priority.NORMAL

    @property
    def promised_s(self) -> float:
        return self.at_least_s or 0.0

    @property
    def wanted_s(self) -> float:
        """What it keeps while only what is past `desired` has to go; what no rule shortens stays."""
        limits = [limit for limit in (self.desired_s, self.at_most_s) if limit is not None]
        return max(self.promised_s, min(limits, default=float("inf")))

    @property
    def longest_s(self) -> float:
        return float("inf") if self.at_most_s is None else max(self.promised_s, self.at_most_s)

    @property
    def shortest_s(self) -> float:
        """What is left of it before its promise is broken, or what nobody said that room may take."""
        shortened = self.desired_s is not None or self.at_least_s is not None
        return self.promised_s if shortened else self.longest_s


def full_in_s(free_bytes: float, streams: Sequence[Stream]) -> float:
    """Seconds until so many bytes are taken; infinity where they never are."""
    turns = sorted({0.0, *(each.grows_for_s for each in streams), float("inf")})
    left = max(0.0, free_bytes)
    for begin, end in pairwise(turns):
        rate = sum(each.rate for each in streams if each.grows_for_s > begin)
        if rate > 0 and left <= rate * (end - begin):
            return begin + left / rate
        left -= rate * (end - begin) if rate else 0.0
    return float("inf")


def kept_s(capacity_bytes: float, wishes: Sequence[Wish]) -> list[float]:
    """Seconds of footage that each camera keeps on a full volume of so many bytes, by the order of clean-up.

    First all are shortened to one age, but none below what it wants; then those of the lowest priority below
    that, down to what is promised. Where even that is too much it is shared out in proportion.
    """

    def sizes(lengths: Sequence[float]) -> float:
        return sum(wish.rate * length for wish, length in zip(wishes, lengths, strict=True) if wish.rate > 0)

    def levelled(age_s: float) -> list[float]:
        lengths = (min(wish.longest_s, max(wish.wanted_s, age_s)) for wish in wishes)
        return [
            _at_most_alone(wish, length, capacity_bytes) for wish, length in zip(wishes, lengths, strict=True)
        ]

    def fits(lengths: Sequence[float]) -> bool:
        return sizes(lengths) <= capacity_bytes

    if fits(kept := levelled(float("inf"))):
        return kept
    if fits(kept := levelled(0.0)):
        return levelled(_largest(partial(_fits_at, fits, levelled)))
    for priority in Priority:
        shortened = partial(_shortened, wishes, kept, priority)
        if fits(kept := shortened(0.0)):
            return shortened(_largest(partial(_fits_at, fits, shortened)))
    share = capacity_bytes / sizes(kept)
    return [length * share if wish.rate > 0 else length for wish, length in zip(wishes, kept, strict=True)]


def _fits_at(
    fits: Callable[[Sequence[float]], bool], at_age: Callable[[float], Sequence[float]], age_s: float
) -> bool:
    return fits(at_age(age_s))


def _at_most_alone(wish: Wish, length: float, capacity_bytes: float) -> float:
    """No camera keeps more than it would with the volume to itself."""
    return min(length, capacity_bytes / wish.rate) if wish.rate > 0 else length


def _shortened(
    wishes: Sequence[Wish], lengths: Sequence[float], priority: Priority, age_s: float
) -> list[float]:
    """Those of the priority down to an age, but not below what nobody may take."""
    return [
        min(length, max(wish.shortest_s, age_s)) if wish.priority is priority else length
        for wish, length in zip(wishes, lengths, strict=True)
    ]


def _largest(fits: Callable[[float], bool]) -> float:
    """The greatest age that fits; 0 does, and what is more than that may not."""
    low, high = 0.0, DAY_S
    while fits(high) and high < 1e12:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
