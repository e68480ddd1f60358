"""The corporate token that recording servers want: log-in at the management server's SOAP service."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from pydantic import SecretStr

from cctv_storaged.backends.milestone.soap import SoapClient
from cctv_storaged.backends.milestone.tokens import Token, TokenSource
from cctv_storaged.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicUser:
    """For HTTP Basic, where the OAuth variant of the service is not there (before 2021 R1)."""

    username: str
    password: SecretStr


class Management:
    """One log-in for the whole process; itself a TokenSource of corporate tokens."""

    def __init__(
        self,
        soap: SoapClient,
        server: str,
        oauth: TokenSource,
        *,
        basic: BasicUser | None = None,
        instance_id: UUID | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._soap = soap
        self._server = server.rstrip("/")  # https://mgmt.example
        self._oauth = oauth
        self._basic = basic
        self._instance_id = instance_id or uuid4()
        self._clock = clock or SystemClock()

    @property
    def clock_skew(self) -> timedelta | None:
        """The server's clock minus ours, at the last log-in; None before the first."""
        raise NotImplementedError

    async def __call__(self, refused: str | None = None) -> Token:
        """A corporate token that is good now. BackendUnavailable(auth) where none is given."""
        raise NotImplementedError

    async def log_out(self) -> None:
        """Ends the session, if there is one; never raises a BackendError."""
        raise NotImplementedError
