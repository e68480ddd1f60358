"""The connections of one listener: strangers may crowd out each other, and never whoever has logged in."""

from typing import Protocol

from cctv_storaged.addresses import client_of


class Client(Protocol):
    """One connection."""

    @property
    def address(self) -> str:
        """Where it comes from."""

    @property
    def known(self) -> bool:
        """Whether it has logged in."""

    def abort(self) -> None:
        """Ends it, without waiting for anything."""


class Crowd:
    """Who is connected, in the order of arrival."""

    def __init__(self, most: int, most_strangers: int) -> None:
        """`most` in all; `most_strangers` of one address (of IPv6: one network)."""
        self._most = most
        self._most_strangers = most_strangers
        self._here: dict[Client, None] = {}

    def admits(self, newcomer: Client) -> bool:
        """Whether there is room for it, which the stranger who had the longest time to log in may make."""
        strangers = [each for each in self._here if not each.known]
        network = client_of(newcomer.address)
        neighbours = [each for each in strangers if client_of(each.address) == network]
        if len(neighbours) >= self._most_strangers:
            self._send_away(neighbours[0])
        elif len(self._here) >= self._most:
            if not strangers:
                return False
            self._send_away(strangers[0])
        self._here[newcomer] = None
        return True

    def left(self, client: Client) -> None:
        """It is gone, or about to be."""
        self._here.pop(client, None)

    def send_away(self) -> None:
        """All of them."""
        for client in tuple(self._here):
            self._send_away(client)

    def _send_away(self, client: Client) -> None:
        self.left(client)
        client.abort()
