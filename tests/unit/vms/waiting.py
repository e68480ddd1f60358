"""Made-up copies that wait for their proof."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from cctv_storaged.journal.vouched import Waiting
from cctv_storaged.model import CopyState, SourceState, TimeSpan

START = datetime(2026, 11, 1, tzinfo=UTC)


def waiting(
    number: int, camera: int = 0, *, start: float | None = None, seconds: float = 10.0, urgent: bool = False
) -> Waiting:
    """The `number`th of ten seconds each, or wherever it is said to begin."""
    begin = START + timedelta(seconds=10.0 * number if start is None else start)
    return Waiting(
        no=number,
        id=UUID(int=camera * 10_000 + number),
        camera_id=UUID(int=camera),
        span=TimeSpan(begin, begin + timedelta(seconds=seconds)),
        state=CopyState.PENDING,
        attempts=0,
        urgent=urgent,
        hashed=True,
        others_pending=False,
        source=SourceState.PRESENT,
        created_at=begin,
        due=True,
    )
