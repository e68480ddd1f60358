"""What a look at one thing found."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"  # the daemon works, and somebody should know
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    part: str  # what: "data_dir", "bucket recordings"
    verdict: Verdict
    text: str  # how it is
    remedy: str = ""  # what mends it; never empty where something is wrong


Findings = Iterator[Finding]
Look = Callable[[], Awaitable[list[Finding]]]
"""Looks at one thing or a few alike; raises nothing."""


def ok(part: str, text: str) -> Finding:
    return Finding(part=part, verdict=Verdict.OK, text=text)


def warn(part: str, text: str, remedy: str) -> Finding:
    return Finding(part=part, verdict=Verdict.WARN, text=text, remedy=remedy)


def fail(part: str, text: str, remedy: str) -> Finding:
    return Finding(part=part, verdict=Verdict.FAIL, text=text, remedy=remedy)
