"""Whether a request comes from the recording server: WS-UsernameToken, HTTP Digest, RTSP Digest.

OASIS Web Services Security UsernameToken Profile 1.1 (PasswordDigest), RFC 7616 and RFC 2617 (Digest; MD5 and
SHA-256). MD5 is offered first, or alone: the driver's abilities are not published, and most cameras offer
nothing else. Nothing here keeps or tells a password.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from urllib.parse import urlsplit

from cctv_storaged.config import is_loopback
from cctv_storaged.config.milestone import MilestoneOnvif
from cctv_storaged.errors import ConfigError, Fault

REALM = "cctv-storaged"
WINDOW = timedelta(minutes=5)
"""How far a token's time may be from ours; its nonce is remembered until it is over."""
MOST_NONCES = 20_000
"""Remembered at most. With more in a window the next is refused: nobody could tell whether it is a repeat."""
MOST_HEADER = 4096
_LONGEST_VALUE = 1024
_PARAMETER = re.compile(r'\s*([A-Za-z0-9-]{1,32})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+))\s*(?:,|$)')
_NONCE = re.compile(r"(([0-9a-f]{1,16})\.[0-9a-f]{16})\.([0-9a-f]{32})")
_HASHES: Mapping[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}


@dataclass(frozen=True, slots=True)
class Account:
    """The one user there is; without a password everybody is let in."""

    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def open(self) -> bool:
        return not self.password


def account_of(settings: MilestoneOnvif) -> Account:
    """Raises ConfigError where footage would be open to everyone who reaches the address."""
    password = settings.password.get_secret_value()
    if not password and not is_loopback(settings.bind):
        message = f"is needed, as {settings.bind} is reached by others: footage would be open to all of them"
        hint = "set milestone.onvif.username and password_file, or bind: 127.0.0.1"
        raise ConfigError([Fault("milestone.onvif.password", message, hint)])
    if password and not settings.username:
        raise ConfigError([Fault("milestone.onvif.username", "is needed with milestone.onvif.password")])
    return Account(settings.username or "", password)


class Verdict(Enum):
    """What became of a log-in."""

    GOOD = "good"
    WRONG = "wrong"  # name or password: what a guess is
    UNUSABLE = (
        "unusable"  # nothing that tells whether the password is known: unreadable, too old, used before
    )


class Seen:
    """What was used once and may not be used again, for as long as it would be believed."""

    def __init__(self, life_s: float) -> None:
        self._life_s = life_s
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def is_new(self, what: bytes, now_s: float) -> bool:
        """Whether it is used for the first time; remembers it. False as well where there is no room."""
        while self._until and next(iter(self._until.values())) <= now_s:
            self._until.popitem(last=False)
        key = hashlib.sha256(what).digest()
        if key in self._until or len(self._until) >= MOST_NONCES:
            return False
        self._until[key] = now_s + self._life_s
        return True


@dataclass(frozen=True, slots=True)
class UsernameToken:
    """As it stands in a SOAP header; base64 as it was sent."""

    username: str
    digest: str
    nonce: str
    created: str


class UsernameTokens:
    """Checks PasswordDigest tokens."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._seen = Seen(2 * WINDOW.total_seconds())

    def is_good(self, token: UsernameToken, now: datetime, monotonic_s: float) -> bool:
        """Whether name, digest and time are right, and the token was not used before."""
        return self.verdict(token, now, monotonic_s) is Verdict.GOOD

    def verdict(self, token: UsernameToken, now: datetime, monotonic_s: float) -> Verdict:
        """The same, with what is wrong. A token that is good is used up by it."""
        created = _moment(token.created)
        nonce = _decoded(token.nonce)
        if created is None or nonce is None or abs(created - now) > WINDOW:
            return Verdict.UNUSABLE
        wanted = password_digest(nonce, token.created, self._account.password)
        same = _same_text(wanted, token.digest)
        if not (same and _same_text(token.username, self._account.username)):
            return Verdict.WRONG
        is_new = self._seen.is_new(nonce + token.created.encode(), monotonic_s)
        return Verdict.GOOD if is_new else Verdict.UNUSABLE


def password_digest(nonce: bytes, created: str, password: str) -> str:
    """Base64 ( SHA-1 ( nonce + created + password ) )."""
    made = hashlib.sha1(nonce + created.encode() + password.encode(), usedforsecurity=False)
    return base64.b64encode(made.digest()).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an Authorization header says, quotes removed."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str
    qop: str | None
    nc: str
    cnonce: str


def answer_of(header: str) -> Answer | None:
    """None for what is no Digest that can be checked."""
    if len(header) > MOST_HEADER or header[:7].lower() != "digest ":
        return None
    values: dict[str, str] = {}
    at = 7
    while at < len(header):
        found = _PARAMETER.match(header, at)
        if found is None or found[1].lower() in values:
            return None
        quoted = found[2]
        values[found[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else found[3]
        at = found.end()
    if any(len(value) > _LONGEST_VALUE or not _is_text(value) for value in values.values()):
        return None
    if not {"username", "realm", "nonce", "uri", "response"} <= values.keys():
        return None
    return Answer(
        username=values["username"],
        realm=values["realm"],
        nonce=values["nonce"],
        uri=values["uri"],
        response=values["response"].lower(),
        algorithm=values.get("algorithm", "MD5").upper(),
        qop=values.get("qop"),
        nc=values.get("nc", ""),
        cnonce=values.get("cnonce", ""),
    )


def response_of(answer: Answer, method: str, password: str) -> str | None:
    """What the answer's response has to be; None for an algorithm or quality that is not known here."""
    hashed = _HASHES.get(answer.algorithm)
    if hashed is None or answer.qop not in (None, "auth"):
        return None
    secret = hashed(f"{answer.username}:{answer.realm}:{password}".encode())
    what = hashed(f"{method}:{answer.uri}".encode())
    if answer.qop is None:
        return hashed(f"{secret}:{answer.nonce}:{what}".encode())
    return hashed(f"{secret}:{answer.nonce}:{answer.nc}:{answer.cnonce}:{answer.qop}:{what}".encode())


class Digest:
    """Digest of one listener: of HTTP for all its connections, of RTSP for one connection each.

    A nonce says itself when it was made, so that none has to be kept; each of its counts (or, without counts,
    the nonce) is good once where `once` is set.
    """

    def __init__(self, account: Account, *, life_s: float, once: bool) -> None:
        self._account = account
        self._life_s = life_s
        self._key = secrets.token_bytes(32)
        self._seen = Seen(life_s) if once else None

    def challenge(self, algorithm: str, now_s: float, *, stale: bool = False) -> str:
        """A WWW-Authenticate header. RFC 2617's quality of protection is offered where counts matter."""
        nonce = self._nonce(int(now_s))
        quality = ', qop="auth"' if self._seen is not None else ""
        staleness = ", stale=true" if stale else ""
        return f'Digest realm="{REALM}", nonce="{nonce}"{quality}, algorithm={algorithm}{staleness}'

    def is_good(self, header: str, method: str, now_s: float, *paths: str) -> bool:
        """Whether the header answers a challenge of ours for this method (and one of the paths, where any
        are given).
        """
        return self.verdict(header, method, now_s, *paths) is Verdict.GOOD

    def verdict(self, header: str, method: str, now_s: float, *paths: str) -> Verdict:
        """The same, with what is wrong. A count that is good is used up by it."""
        answer = answer_of(header)
        if answer is None or answer.realm != REALM or not self.is_current(answer, now_s):
            return Verdict.UNUSABLE
        if paths and _path_of(answer.uri) not in paths:
            return Verdict.UNUSABLE
        wanted = response_of(answer, method, self._account.password)
        if wanted is None:
            return Verdict.UNUSABLE
        if not (_same_text(wanted, answer.response) and _same_text(answer.username, self._account.username)):
            return Verdict.WRONG
        used = f"{answer.nonce}:{answer.nc if answer.qop else ''}".encode()
        is_new = self._seen is None or self._seen.is_new(used, now_s)
        return Verdict.GOOD if is_new else Verdict.UNUSABLE

    def is_current(self, answer: Answer, now_s: float) -> bool:
        """Whether the nonce is ours and still good."""
        found = _NONCE.fullmatch(answer.nonce)
        if found is None or not hmac.compare_digest(self._signed(found[1]), found[3]):
            return False
        return -1 <= now_s - int(found[2], 16) <= self._life_s

    def _nonce(self, made_s: int) -> str:
        """When it was made, something that no other has, and our signature of both."""
        told = f"{made_s:x}.{secrets.token_hex(8)}"
        return f"{told}.{self._signed(told)}"

    def _signed(self, told: str) -> str:
        return hmac.new(self._key, told.encode(), hashlib.sha256).hexdigest()[:32]


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8, which bytes that were none cannot as they are handed to us."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path_of(uri: str) -> str | None:
    try:
        return urlsplit(uri).path
    except ValueError:
        return None


def _same_text(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
