"""What of a camera's footage is past which limit: counted slice by slice, so that nobody has to wait."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from cctv_storaged.clock import to_us
from cctv_storaged.journal.retention import (
    FIRST,
    NEVER_US,
    Cell,
    Limits,
    Position,
    RetainedCamera,
    Retentions,
)
from cctv_storaged.retention.amounts import NOTHING, Amount
from cctv_storaged.retention.brake import Explained
from cctv_storaged.retention.rules import Clause, Rule


@dataclass(slots=True)
class Weights:
    """Amounts of one camera's footage."""

    free: dict[Clause, Amount] = field(default_factory=dict)
    held: Amount = NOTHING  # past any limit
    pinned: Amount = NOTHING  # past any limit
    locked: Amount = NOTHING  # should be gone, and a backend keeps it
    unexplained: Amount = NOTHING  # free, past at_most, and not by time alone

    def of(self, clause: Clause) -> Amount:
        return self.free.get(clause, NOTHING)


def limits_of(rule: Rule, expected: Explained | None, now: datetime) -> Limits:
    """The rule's limits as moments; nothing that `at_least` protects is past any of them."""
    protected_us = NEVER_US if rule.at_least is None else to_us(now - rule.at_least)
    own = [NEVER_US if limit is None else to_us(now - limit) for limit in (rule.at_most, rule.desired)]
    if rule.at_least is not None:
        own = [min(each, protected_us) for each in own]
    span = (NEVER_US, NEVER_US) if expected is None else (to_us(expected.since), to_us(expected.until))
    return Limits(
        at_most_us=own[0],
        desired_us=own[1],
        at_least_us=protected_us,
        explained_us=span,
    )


async def weigh(
    rows: Retentions, camera: RetainedCamera, limits: Limits, pinned: Collection[UUID] = ()
) -> Weights:
    """All of it, in slices; `pinned` are in use, of whichever camera."""
    cells: list[Cell] = []
    after: Position | None = FIRST
    while after is not None:
        count = await rows.count(camera.no, limits, after)
        cells += count.cells
        after = count.next
    in_use = (await rows.states_of(pinned, limits)).get(camera.camera.id, ()) if pinned else ()
    return _weights(cells, in_use)


def only_at_most(limits: Limits) -> Limits:
    """For whoever asks no more than what must go."""
    return Limits(at_most_us=limits.at_most_us, explained_us=limits.explained_us)


def _weights(cells: Iterable[Cell], in_use: Iterable[Cell]) -> Weights:
    weights = Weights()
    for cell in cells:
        _add(weights, cell)
    for cell in in_use:
        if cell.state == "free":
            clause, amount = Clause(cell.clause), _amount(cell)
            weights.free[clause] = weights.of(clause) - amount
            weights.pinned += amount
            if clause is Clause.AT_MOST:
                weights.unexplained -= NOTHING if cell.explained else amount
    return weights


def _add(weights: Weights, cell: Cell) -> None:
    clause, amount = Clause(cell.clause), _amount(cell)
    if cell.state == "free":
        weights.free[clause] = weights.of(clause) + amount
        if clause is Clause.AT_MOST and not cell.explained:
            weights.unexplained += amount
    elif cell.state == "locked":
        weights.locked += amount
    elif cell.state == "held":
        weights.held += amount
    elif cell.state == "needed":
        weights.pinned += amount


def _amount(cell: Cell) -> Amount:
    duration = timedelta(microseconds=cell.duration_us)
    return Amount(segments=cell.segments, bytes=cell.bytes, duration=duration)
