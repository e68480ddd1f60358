"""What people are told of a volume. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from cctv_storaged.capacity.levels import Level, Marks
from cctv_storaged.capacity.volumes import Facts

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a backend still has to get, and what is wrong with it."""

    backend: str
    segments: int
    bytes: int
    trouble: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What decides what would help a full volume."""

    waiting: tuple[Waiting, ...]
    prunes: bool  # source.prune is not `never`
    gives_up: bool  # on_full is not `refuse`
    store_here: bool
    shortens: bool  # every rule says what room may take: at_least or desired


def size_text(size_bytes: float) -> str:
    """As in `12.3 GB`."""
    for unit in _UNITS:
        if abs(size_bytes) < _STEP or unit == _UNITS[-1]:
            break
        size_bytes /= _STEP
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def free_text(facts: Facts, rate: float | None) -> str:
    """How much is free, and for how long it lasts."""
    share = facts.free_bytes / facts.total_bytes if facts.total_bytes else 0.0
    text = f"{size_text(facts.free_bytes)} of {size_text(facts.total_bytes)} free ({share:.1%})"
    if rate:
        text += f", {facts.free_bytes / rate / 3600:.1f} h at the {size_text(rate)}/s that are recorded"
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
    if not facts.prunes:
        yield "source.prune: after_verified, so that delivered sources may go"
    if facts.store_here and not facts.shortens:
        yield "retention rules with at_least or desired, so that the oldest delivered footage may go"
    if not facts.gives_up and any(each.segments for each in facts.waiting):
        yield "capacity.on_full: delete_oldest_undelivered, which loses the oldest footage"
