"""Wrong log-ins at both sides of the device: how many an address may try, and who is told of them."""

import logging
from collections import OrderedDict
from typing import TypeVar

from cctv_storaged.addresses import client_of
from cctv_storaged.api.rates import Rate
from cctv_storaged.clock import Clock
from cctv_storaged.metrics import Metrics

log = logging.getLogger(__name__)

T = TypeVar("T")

PER_MINUTE = 30
"""Of one address: a recording server with an old password asks a few times in a row."""
TOLD_AGAIN_S = 3600.0
MOST_REMEMBERED = 1000


class Guesses:
    """Counts what was wrong, over HTTP and RTSP together. On the event loop only."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._rate = Rate(PER_MINUTE, clock.monotonic)
        self._told: OrderedDict[str, float] = OrderedDict()
        self._right: OrderedDict[str, None] = OrderedDict()

    def wait_s(self, address: str) -> int:
        """Seconds for which nothing that comes from there is looked at; 0: it may try."""
        return self._rate.wait_s(self._client(address))

    def wrong(self, address: str, side: str) -> None:
        """A name or password was wrong. `side`: http or rtsp."""
        self._metrics.onvif_logins_failed.labels(side).inc()
        client, now_s = self._client(address), self._clock.monotonic()
        self._rate.count(client)
        last_s = self._told.get(client)
        if last_s is not None and now_s - last_s < TOLD_AGAIN_S:
            return
        _remember(self._told, client, now_s)
        log.warning(
            "ONVIF: a wrong name or password from %s over %s; at most %d a minute are looked at",
            address,
            side,
            PER_MINUTE,
        )

    def right(self, address: str) -> None:
        """Somebody logged in from there: neighbours of its network that guess do not lock it out."""
        _remember(self._right, address, None)

    def _client(self, address: str) -> str:
        return address if address in self._right else client_of(address)


def _remember(memory: OrderedDict[str, T], key: str, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > MOST_REMEMBERED:
        memory.popitem(last=False)
