"""Opening what looks after footage: retention, room, holds, guards, reconciliation, the ledger."""

from dataclasses import dataclass

from cctv_storaged.foundation import Foundation
from cctv_storaged.prune import Pruner
from cctv_storaged.reading import Reader
from cctv_storaged.removal import Remover
from cctv_storaged.upkeep import Upkeep


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepNeeds:
    """What upkeep works with."""

    foundation: Foundation
    pruner: Pruner
    remover: Remover
    reader: Reader


async def open_upkeep(needs: UpkeepNeeds) -> Upkeep:
    """Builds it."""
    foundation = needs.foundation
    return Upkeep(alarms=foundation.alarms, clock_guard=foundation.clock_guard, places=foundation.places)
