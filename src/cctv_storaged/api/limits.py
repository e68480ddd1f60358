"""How much at the same time: bounded places for requests, so that one client cannot take them all."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cctv_storaged.api.problems import TOO_MANY, Refusal
from cctv_storaged.api.routing import Lane

RETRY_AFTER_S = 2


@dataclass(slots=True)
class Places:
    """So many requests at a time, and so many of one client (its address)."""

    total: int
    per_client: int
    _taken: Counter[str] = field(default_factory=Counter)
    _all: int = 0

    @contextmanager
    def taken_by(self, client: str) -> Iterator[None]:
        """A place until the block is left. Raises Refusal where there is none."""
        if self._all >= self.total or self._taken[client] >= self.per_client:
            detail = (
                f"{self._taken[client]} of yours are being served; at most {self.per_client} at a time are"
            )
            if self._all >= self.total:
                detail = f"all {self.total} places are taken"
            raise Refusal(TOO_MANY, detail, {"Retry-After": str(RETRY_AFTER_S)})
        self._all += 1
        self._taken[client] += 1
        try:
            yield
        finally:
            self._all -= 1
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]


def places() -> Mapping[Lane, Places]:
    """The limits of one API. Behind a proxy all clients have one address, so a client may have many."""
    return {
        Lane.ORDINARY: Places(total=256, per_client=128),
        Lane.HEAVY: Places(total=4, per_client=2),
        Lane.CONTENT: Places(total=64, per_client=32),
        Lane.EVENTS: Places(total=50, per_client=50),
    }
