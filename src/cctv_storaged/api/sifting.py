"""Pages of what a token that is limited to cameras may see, out of lists that hold more.

The numbers in ordinary cursors count rows: they would tell how many there are of others. A limited token
gets them sealed; a restart of the daemon breaks the seal, and the list is begun anew.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cryptography.fernet import Fernet, InvalidToken

from cctv_storaged.api.sight import Sight
from cctv_storaged.errors import Fault, Unprocessable

Item = TypeVar("Item")
Fetch = Callable[[int, int | None], Awaitable[tuple[Sequence[Item], int | None]]]
"""So many rows behind a number, and the number to go on from."""

CURSOR = r"^([0-9]{1,18}|[A-Za-z0-9_=-]{19,200})$"
MOST_READS = 50
"""Of the journal for one page: it may then be short, or empty, and still not the last."""
_SEAL = Fernet(Fernet.generate_key())


async def page_of(
    fetch: Fetch[Item], sees: Callable[[Item], bool], sight: Sight, limit: int, cursor: str | None
) -> tuple[list[Item], str | None]:
    """What may be seen of the next rows, and the cursor to go on with. Raises Unprocessable."""
    after = None if cursor is None else _opened(cursor, sight)
    if not sight.limited:
        rows, following = await fetch(limit, after)
        return list(rows), None if following is None else str(following)
    found: list[Item] = []
    for _ in range(MOST_READS):
        rows, after = await fetch(limit - len(found), after)
        found += filter(sees, rows)
        if after is None or len(found) >= limit:
            break
    return found, None if after is None else _SEAL.encrypt(str(after).encode()).decode()


def _opened(cursor: str, sight: Sight) -> int:
    try:
        return int(_SEAL.decrypt(cursor) if sight.limited else cursor)
    except (InvalidToken, ValueError) as exc:
        raise Unprocessable([Fault("cursor", "is none that an answer gave")]) from exc
