"""What XProtect's servers are shown, and who hands it out."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Token:
    """An access token (REST) or a corporate token (recording servers); opaque, and never written anywhere."""

    value: str = field(repr=False)
    good_until: float
    """Monotonic seconds (`Clock.monotonic`) from which it is to be renewed, margin included."""


class TokenSource(Protocol):
    """Gives a token that is good now; asks the network only when it must, for all who wait at once."""

    async def __call__(self, refused: str | None = None) -> Token:
        """`refused`: the value a server just turned down, so that one is fetched even if it seems good."""
