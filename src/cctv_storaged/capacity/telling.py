"""What people are told of a volume. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cctv_storaged.capacity.levels import Level, Marks
from cctv_storaged.capacity.volumes import Facts
from cctv_storaged.quantities import lasting_text, size_text

MOST_NAMED = 5
"""Cameras in one text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a backend still has to get, and what is wrong with it."""

    backend: str
    segments: int
    bytes: int
    failed: int  # segments that it is not tried again with before somebody says so
    gaps: int = 0  # segments that XProtect does not hold although it should
    trouble: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decides what would help a full volume."""

    waiting: tuple[Waiting, ...]
    prunes: bool  # source.prune is not `never`
    gives_up: bool  # on_full is not `refuse`
    store_here: bool
    unsaid: tuple[str, ...]  # cameras whose rule says nothing of what room may take: at_least or desired


def free_text(facts: Facts, rate: float | None) -> str:
    """How much is free, and for how long it lasts."""
    share = facts.free_bytes / facts.total_bytes if facts.total_bytes else 0.0
    text = f"{size_text(facts.free_bytes)} of {size_text(facts.total_bytes)} free ({share:.1%})"
    if rate:
        text += f", {lasting_text(facts.free_bytes / rate)} at the {size_text(rate)}/s that are recorded"
    return text


def low_text(level: Level, facts: Facts, marks: Marks, rate: float | None) -> str:
    """Of an alarm that a volume fills up."""
    wanted = {
        Level.LOW: ("capacity.warn_free/warn_left", marks.warn_bytes),
        Level.CLEAN: ("capacity.clean_free/clean_left", marks.clean_bytes),
        Level.EMERGENCY: ("capacity.emergency_free/emergency_left", marks.emergency_bytes),
    }
    name, mark_bytes = wanted.get(level, wanted[Level.LOW])
    return f"{free_text(facts, rate)}; {name} asks for {size_text(mark_bytes)}"


def full_text(facts: Facts, rate: float | None, reasons: str, circumstances: Circumstances) -> str:
    """Of the alarm that nothing is left that may go."""
    helps = "; ".join(_helps(circumstances))
    return f"{free_text(facts, rate)}, and nothing is left that may go ({reasons}). What would help: {helps}"


def _helps(facts: Circumstances) -> Iterator[str]:
    yield "other files off this disk, or a larger one"
    for each in facts.waiting:
        if each.segments:
            state = f" ({each.trouble})" if each.trouble else ""
            size = size_text(each.bytes)
            yield f"{each.backend}{state} taking the {each.segments} segments ({size}) that wait for it"
        if each.failed:
            where = f"{each.failed} segments that failed at {each.backend} and keep their sources"
            yield f"mending what the log says of the {where}, then POST /queue/retry"
        if each.gaps:
            yield f"having {each.backend} retrieve the {each.gaps} segments that it does not hold (vms_gap)"
    if not facts.prunes:
        yield "source.prune: after_verified, so that delivered sources may go"
    if facts.store_here and facts.unsaid:
        yield f"rules with at_least or desired for {_named(facts.unsaid)}, whose oldest footage may go then"
    if not facts.gives_up and any(each.segments or each.failed or each.gaps for each in facts.waiting):
        yield "capacity.on_full: delete_oldest_undelivered, which loses the oldest footage"


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more cameras" if more > 0 else "")
