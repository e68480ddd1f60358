"""What a round of making room took, by stage and camera: for the log, as retention tells what it deletes."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from cctv_storaged.capacity.stages import Stage, Taken
from cctv_storaged.journal.deletions import Cause
from cctv_storaged.quantities import size_text

log = logging.getLogger(__name__)

Take = Callable[[int, int], Awaitable[Taken]]

CAUSES = {
    Stage.EXPIRED: Cause.EXPIRED,
    Stage.SHORTENED: Cause.SHORTENED,
    Stage.GIVEN_UP: Cause.DISK_FULL,
}
"""As the ledger has them; by the other stages no footage goes."""
WHAT = {Stage.CACHES: "kept clips and pictures", Stage.EARLY: "sources that are verified elsewhere"}


@dataclass(frozen=True, slots=True)
class Went:
    """So much of one camera; of none, where it was no footage."""

    stage: Stage
    camera_id: UUID | None
    count: int
    bytes: int


@dataclass(slots=True)
class Tally:
    """Adds up what batches took."""

    _sums: dict[tuple[Stage, UUID | None], tuple[int, int]] = field(default_factory=dict)

    def counting(self, stage: Stage, take: Take) -> Take:
        """The same, added up here."""

        async def counted(most: int, need_bytes: int) -> Taken:
            taken = await take(most, need_bytes)
            self.add(stage, taken)
            return taken

        return counted

    def add(self, stage: Stage, taken: Taken) -> None:
        """One batch."""
        if taken.gone:
            for each in taken.gone:
                self._add(stage, each.camera_id, each.size_bytes)
        elif taken.bytes:
            self._add(stage, None, taken.bytes)

    def went(self) -> Iterator[Went]:
        """Stage by stage, in the order in which they were gone through."""
        for (stage, camera_id), (count, size_bytes) in self._sums.items():
            yield Went(stage, camera_id, count, size_bytes)

    def tell(self, volume: str, names: dict[UUID, str]) -> None:
        """One line for each stage and camera."""
        for each in self.went():
            cause = CAUSES.get(each.stage, each.stage)
            what = WHAT.get(each.stage, "segments")
            if each.camera_id is None:
                text = f"room on {volume}: {size_text(each.bytes)} of {what} went"
                log.info(text, extra={"cause": str(cause), "size_bytes": each.bytes})
                continue
            name = names.get(each.camera_id, str(each.camera_id))
            went = f"{each.count} {what} went, {size_text(each.bytes)} ({cause})"
            text = f"room on {volume}: camera {name}: {went}"
            fields = {"camera_id": str(each.camera_id), "count": each.count, "size_bytes": each.bytes}
            log.info(text, extra={**fields, "cause": str(cause)})

    def _add(self, stage: Stage, camera_id: UUID | None, size_bytes: int) -> None:
        count, total = self._sums.get((stage, camera_id), (0, 0))
        self._sums[stage, camera_id] = (count + 1, total + size_bytes)
