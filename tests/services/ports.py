"""Ports for servers that a test starts a moment later, stops and starts again.

Outside the range that the kernel hands out by itself; each worker of a run has ports of its own, and none is
given twice: who looks for a free one does not see those of a server that is not up just now.
"""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

LANES = 16
_given: set[int] = set()


def free_ports(count: int, *, twin: int = 0, among: range = range(20_000, 32_000)) -> list[int]:
    """So many that nobody listens on, nor on those that lie higher by `twin`, a multiple of LANES."""
    assert twin % LANES == 0, "or the twin would be another worker's"
    found: list[int] = []
    for port in random.sample(among, len(among)):
        both = {port, port + twin}
        if port % LANES == _lane() and not both & _given and all(map(_is_free, both)):
            _given.update(both)
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"no {count} free ports among {among}")


def free_port() -> int:
    return free_ports(1)[0]


@contextmanager
def kept_port() -> Iterator[int]:
    """One at which nobody listens, nor can while the block lasts: given back, it might be another's."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield int(kept.getsockname()[1])


def _lane() -> int:
    """Of this process: the workers of pytest-xdist are gw0, gw1, …"""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return (int(number) if number.isdecimal() else os.getpid()) % LANES


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
