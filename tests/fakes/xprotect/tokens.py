"""The tokens that the site gave: OAuth for REST and SOAP, and the recorder's ("corporate") ones."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from tests.fakes.xprotect.assumptions import Assumptions
from tests.fakes.xprotect.faults import Faults


@dataclass(slots=True)
class _Given:
    user: str
    until: float  # monotonic
    oauth: str = ""  # the OAuth token that a recorder's token was given on
    instance: str = ""


@dataclass(slots=True)
class Tokens:
    """Both kinds are opaque to the client."""

    faults: Faults
    assumptions: Assumptions
    monotonic: Callable[[], float] = time.monotonic
    _oauth: dict[str, _Given] = field(default_factory=dict)
    _corporate: dict[str, _Given] = field(default_factory=dict)

    def give_oauth(self, user: str) -> tuple[str, float]:
        """The token and its lifetime in seconds."""
        self._expire()
        token, lifetime = f"eyJ.{uuid4().hex}.sim", self.faults.token_lifetime_s
        self._oauth[token] = _Given(user, self.monotonic() + lifetime)
        return token, lifetime

    def oauth_is_good(self, token: str) -> bool:
        self._expire()
        given = self._oauth.get(token)
        return given is not None and given.until > self.monotonic()

    def give_corporate(self, oauth: str, instance: str, host: str) -> tuple[str, float]:
        """The recorder's token for a logged-in user, and its lifetime in seconds."""
        self._expire()
        user = self._oauth[oauth].user if oauth in self._oauth else oauth
        token, lifetime = f"TOKEN#{uuid4()}#{host}//ServerConnector#", self.faults.corporate_lifetime_s
        self._corporate[token] = _Given(user, self.monotonic() + lifetime, oauth, instance)
        return token, lifetime

    def corporate_is_good(self, token: str) -> bool:
        """What the recorder asks of each token it is shown."""
        self._expire()
        given = self._corporate.get(token)
        if given is None or given.until <= self.monotonic():
            return False
        if self.assumptions.token_needs_oauth and given.oauth:
            return self.oauth_is_good(given.oauth)
        return True

    def renewable(self, token: str, instance: str) -> bool:
        """Whether a log-in may name it as its current token."""
        given = self._corporate.get(token)
        return given is not None and given.instance == instance

    def forget(self, token: str) -> None:
        self._corporate.pop(token, None)

    @property
    def corporate_in_force(self) -> int:
        """How many were given and neither expired nor logged out."""
        return sum(given.until > self.monotonic() for given in self._corporate.values())

    def _expire(self) -> None:
        if self.faults.expire_tokens:
            self._oauth.clear()
            self.faults.expire_tokens = False
        if self.faults.expire_corporate_tokens:
            self._corporate.clear()
            self.faults.expire_corporate_tokens = False
