"""Footage that is lost although it is held: an alarm that stands until the hold ends or the footage is found.

It reads the ledger, where every path that loses footage writes, so none can be forgotten, and after a
restart the alarm is there again.
"""

from collections import defaultdict
from uuid import UUID

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.journal.heldlosses import HeldLoss
from cctv_storaged.journal.journal import Journal

EVERY_S = 10.0
AT_ONCE = 50
"""Losses in one operation of the journal: a few milliseconds."""
MOST_KEPT = 2000
"""Losses that are watched; later ones are read when these are over."""
NAMED = 3


class HeldLossWatch:
    """Sounds `held_lost`, a hold each."""

    def __init__(self, journal: Journal, alarms: Alarms) -> None:
        self._losses = journal.held_losses
        self._alarms = alarms
        self._known: list[HeldLoss] = []
        self._after = 0  # the line of the ledger that was read last

    async def run_once(self) -> None:
        """Looks again at what is known to be lost, and reads on."""
        known: list[HeldLoss] = []
        for first in range(0, len(self._known), AT_ONCE):
            some = [loss.line for loss in self._known[first : first + AT_ONCE]]
            known += await self._losses.standing(some)
        more = True
        while more and len(known) < MOST_KEPT:
            page = await self._losses.page(self._after, AT_ONCE)
            known += page.losses
            self._after, more = page.after, page.more
        self._known = known
        self._tell()

    def _tell(self) -> None:
        of_hold: dict[UUID, list[HeldLoss]] = defaultdict(list)
        for loss in self._known:
            for hold_id in loss.hold_ids:
                of_hold[hold_id].append(loss)
        for hold_id, losses in of_hold.items():
            self._alarms.sound(AlarmName.HELD_LOST, str(hold_id), _told(losses))
        self._alarms.keep_only(AlarmName.HELD_LOST, frozenset(map(str, of_hold)))


def _told(losses: list[HeldLoss]) -> str:
    named = [f"camera {loss.camera} ({loss.camera_id}) {loss.span}: {loss.cause}" for loss in losses[:NAMED]]
    more = f"; and {len(losses) - NAMED:,} more" if len(losses) > NAMED else ""
    return (
        f"{len(losses):,} held segments are LOST: {'; '.join(named)}{more}. Bring them back if there is a "
        "backup; the alarm ends when they are found, or the hold is released"
    )
