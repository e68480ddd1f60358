"""Who is connected: no client takes all the room, and whoever sits idle longest makes it for a newcomer."""

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from cctv_storaged.addresses import client_of, is_local

MOST = 800
"""Each is a file descriptor, of which a process may have 1024 by default; the journal needs some too."""
MOST_OF_ONE = 600
"""Of one client, for which a proxy may stand with all that are behind it."""
RESERVE = 32
"""Kept for this machine: probes, the shell's commands, a proxy."""


class Guest(Protocol):
    """One connection."""

    @property
    def address(self) -> str | None:
        """Where it comes from; None: the system does not say so."""

    @property
    def idle(self) -> bool:
        """Whether no request of it is being answered."""

    def abort(self) -> None:
        """Ends it, without waiting for anything."""


class Guests:
    """Those who are there, in the order of arrival."""

    def __init__(self) -> None:
        self._here: dict[Guest, str] = {}
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Guest]:
        return iter(tuple(self._here))

    def came(self, newcomer: Guest) -> None:
        """Takes it in. Where there is no room one that is idle leaves for it, or it does itself."""
        client = client_of(newcomer.address)
        self._here[newcomer] = client
        self._of[client] += 1
        room = MOST + (RESERVE if is_local(newcomer.address) else 0)
        if self._of[client] > MOST_OF_ONE:
            self._send_away([each for each, whose in self._here.items() if whose == client], newcomer)
        elif len(self._here) > room:
            self._send_away(list(self._here), newcomer)

    def left(self, guest: Guest) -> None:
        """It is gone, or about to be. Twice is once."""
        client = self._here.pop(guest, None)
        if client is None:
            return
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]

    def _send_away(self, among: list[Guest], newcomer: Guest) -> None:
        """The oldest of the client that has most."""
        idle = (each for each in among if each.idle and each is not newcomer)
        leaves = max(idle, key=lambda each: self._of[self._here[each]], default=newcomer)
        self.left(leaves)
        leaves.abort()
