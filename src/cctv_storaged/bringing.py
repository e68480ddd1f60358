"""What others ask of whoever brings copies about: `Delivery` puts bytes, `vms` has coverage proven."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol
from uuid import UUID

from cctv_storaged.backends.base import Backend
from cctv_storaged.config import TimeWindow
from cctv_storaged.model import Segment


class Clearing(Protocol):
    """One backend's copies, as a deletion asks for them."""

    @property
    def name(self) -> str:
        """The backend's."""

    def withheld(self, segment_id: UUID) -> AbstractContextManager[bool]:
        """Keeps a segment from being brought while the block lasts. False: that is happening right now."""

    def exclusive(self, *keys: str) -> AbstractAsyncContextManager[None]:
        """Keeps what is under these paths from being changed while the block lasts."""

    def possible_keys(self, segment: Segment) -> tuple[str, ...]:
        """Where the segment may be at the backend."""


class Bringing(Clearing, Protocol):
    """One backend's copies, on their way from pending to verified."""

    @property
    def backend(self) -> Backend:
        """Where the copies are."""

    @property
    def trouble(self) -> str | None:
        """Why the backend is left alone right now; None while it works."""

    def change(self, *, window: TimeWindow | None, newest_share: float) -> None:
        """Other limits from now on (SIGHUP)."""

    def offer(self, segment: Segment) -> None:
        """A segment that was registered this moment."""

    def reopen(self) -> None:
        """Copies in the journal may have come due."""

    async def drain(self, deadline_s: float) -> None:
        """Takes no more, and waits for what is in hand at most so long."""

    async def run(self) -> None:
        """Works until cancelled."""
