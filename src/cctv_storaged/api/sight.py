"""Which cameras a request may see: all, or those that its token is limited to.

What a limited token may not see does not exist for it: the answer is that of an id nobody has.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from cctv_storaged.errors import Conflict, Fault, Held, NotFound, Unprocessable


class OutOfSight(NotFound):
    """In the words for a camera that is not there; told to the audit, and to nobody else."""

    def __init__(self, camera_id: UUID) -> None:
        self.camera_id = camera_id
        super().__init__(f"no camera {camera_id} on this host")


@dataclass(frozen=True, slots=True)
class Sight:
    """The cameras that may be seen; None: all there are."""

    cameras: frozenset[UUID] | None = None

    @property
    def limited(self) -> bool:
        return self.cameras is not None

    def sees(self, camera_id: UUID | None) -> bool:
        """Whether what is about this camera may be seen; what is about none is about the host."""
        return self.cameras is None or camera_id in self.cameras

    def sees_all(self, camera_ids: Iterable[UUID]) -> bool:
        """Whether what is about all of these may be seen: a part of it would tell of the rest."""
        return self.cameras is None or self.cameras.issuperset(camera_ids)

    def require(self, camera_id: UUID) -> None:
        """Raises NotFound, in the words for a camera that is not there."""
        if not self.sees(camera_id):
            raise OutOfSight(camera_id)

    def require_named(self, camera_ids: Sequence[UUID]) -> None:
        """The same of the `camera_ids` of a body. Raises Unprocessable."""
        faults = [
            Fault(f"camera_ids.{number}", f"no camera {camera_id} on this host")
            for number, camera_id in enumerate(camera_ids)
            if not self.sees(camera_id)
        ]
        if faults:
            raise Unprocessable(faults)


EVERYTHING = Sight()
SIGHT = web.RequestKey("sight", Sight)


def sight_of(request: web.Request) -> Sight:
    """Where no token is asked for, everything."""
    sight: Sight = request.get(SIGHT, EVERYTHING)
    return sight


@contextmanager
def hiding_holds(sight: Sight) -> Iterator[None]:
    """A hold may be on other cameras too: a limited token is told that there is one, and not which."""
    try:
        yield
    except Held as exc:
        if not sight.limited:
            raise
        raise Conflict("a hold keeps it: whoever manages holds may release it") from exc
