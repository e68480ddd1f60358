"""Reading recorded pictures from a recording server: the ImageServer protocol on port 7563."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.backends.milestone.base import Gop
from cctv_storaged.backends.milestone.tokens import TokenSource
from cctv_storaged.clock import Clock, SystemClock
from cctv_storaged.model import TimeSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a recording server is reached: ImageServer and RecorderCommandService share the port."""

    host: str
    port: int = 7563
    tls: ssl.SSLContext | None = None  # None: in clear
    server_hostname: str | None = None  # expected in the certificate; None: `host`

    @property
    def url(self) -> str:
        """As the recorder's webServerUri, with a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds."""

    connect_s: float = 5.0
    read_s: float = 15.0  # without a byte
    answer_s: float = 120.0  # for one whole answer, however slowly it trickles


class ImageServer:
    """Reads from any recording server of the site."""

    def __init__(
        self,
        tokens: TokenSource,
        *,
        patience: Patience = Patience(),
        largest_answer: int = 256 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        self._tokens = tokens
        self._patience = patience
        self._largest_answer = largest_answer
        self._clock = clock or SystemClock()

    async def reach(self, door: Door, camera: UUID) -> None:
        """Connects as for reading, and leaves."""
        raise NotImplementedError

    def footage(
        self, door: Door, camera: UUID, span: TimeSpan, stream: UUID | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Gop]]:
        """See `Vms.footage`; ObjectMissing is raised on entering."""
        raise NotImplementedError
