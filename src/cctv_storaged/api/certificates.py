"""TLS of the API: made of files, and made anew when they are renewed.

A renewal writes two files, one after the other, and may be looked at in between: what does not fit together
changes nothing, is told, and is tried again. Key and certificate are read once, so that what was tried is
what is used.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from cctv_storaged.alarms import AlarmName, Alarms
from cctv_storaged.clock import Clock, rfc3339
from cctv_storaged.config import Api as ApiSettings
from cctv_storaged.errors import ConfigError, Fault

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""How often the files are looked at; SIGHUP does so at once."""
SOON = timedelta(days=14)
"""A certificate that ends within this should have been renewed: ACME's clients do it 30 days before."""
MOST_BYTES = 1 << 20
Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of each file inode, size and time of change; None: it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What new connections are spoken to with."""

    context: ssl.SSLContext
    ends: datetime | None  # of the certificate; None: that could not be read out of it


class Renewal:
    """Looks at the files, and hands over what new connections are to be spoken to with."""

    def __init__(
        self,
        settings: ApiSettings,
        serve: Callable[[ssl.SSLContext], Awaitable[None]],
        alarms: Alarms,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._serve = serve
        self._alarms = alarms
        self._clock = clock
        self._stamp: Stamp = ()
        self._ends: datetime | None = None
        self._looking = asyncio.Lock()

    def begin(self) -> Served | None:
        """What is served first. Raises ConfigError."""
        self._stamp = stamp_of(self._settings)  # before: what is renewed meanwhile is found by the next look
        served = loaded(self._settings)
        self._ends = None if served is None else served.ends
        return served

    async def run(self) -> None:
        """Looks again and again; returns at once where no TLS is spoken."""
        while self._settings.tls_cert is not None:
            try:
                await self.look()
            except Exception as exc:  # the item boundary: a renewal that cannot be looked at ends no looking
                log.exception("looking at the certificate")
                self._tell_damaged(exc)
            await asyncio.sleep(LOOK_S)

    async def look(self, *, anew: bool = False) -> None:
        """Takes over renewed files; `anew`: whether they look it or not. Damaged ones change nothing."""
        if self._settings.tls_cert is None:
            return
        async with self._looking:
            stamp = await asyncio.to_thread(stamp_of, self._settings)
            if anew or stamp != self._stamp:
                await self._take_over(stamp)
        self._tell_end()

    async def _take_over(self, stamp: Stamp) -> None:
        subject = str(self._settings.tls_cert)
        try:
            served = await asyncio.to_thread(loaded, self._settings)
            assert served is not None
            await self._serve(served.context)
        except (ConfigError, OSError) as exc:  # looked at again: the other file may be on its way
            self._tell_damaged(exc)
            return
        self._stamp, self._ends = stamp, served.ends
        self._alarms.end(AlarmName.CERTIFICATE, subject)
        until = "" if served.ends is None else f", good until {rfc3339(served.ends)}"
        log.info("certificate taken over from %s%s", subject, until)

    def _tell_damaged(self, error: Exception) -> None:
        text = f"its renewal cannot be used, the former one is still served: {error}"
        self._alarms.sound(AlarmName.CERTIFICATE, str(self._settings.tls_cert), text)

    def _tell_end(self) -> None:
        subject = f"{self._settings.tls_cert} (its end)"
        if self._ends is not None and self._ends - self._clock.now() < SOON:
            text = f"ends on {rfc3339(self._ends)}: renew it, clients refuse it from then on"
            self._alarms.sound(AlarmName.CERTIFICATE, subject, text)
        else:
            self._alarms.end(AlarmName.CERTIFICATE, subject)


def loaded(settings: ApiSettings) -> Served | None:
    """None for plain HTTP. Raises ConfigError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        certificate, key = _read(settings.tls_cert), _read(settings.tls_key)
        with _as_files(certificate, key) as (certificate_file, key_file):
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        message = f"{settings.tls_cert} with {settings.tls_key}: {exc}"
        raise ConfigError([Fault("api.tls_cert", message, "PEM files that belong together")]) from exc
    if settings.tls_client_ca is not None:
        _ask_clients(context, settings.tls_client_ca)
    return Served(context=context, ends=_end_of(certificate))


def stamp_of(settings: ApiSettings) -> Stamp:
    """What changes when a file is renewed; blocking."""
    files = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return tuple(_stamp(file) for file in files if file is not None)


def _ask_clients(context: ssl.SSLContext, authorities: Path) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        text = _read(authorities).decode("ascii", errors="ignore")
        if not text.strip():
            raise ValueError("there is no certificate in it")
        context.load_verify_locations(cadata=text)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError; nothing in it at all a ValueError
        message = f"{authorities}: {exc}"
        raise ConfigError([Fault("api.tls_client_ca", message, "a file of PEM certificates")]) from exc


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES)


@contextmanager
def _as_files(*contents: bytes) -> Iterator[tuple[str, ...]]:
    """Names under which OpenSSL finds them, in memory only."""
    with ExitStack() as stack:
        names = []
        for content in contents:
            file = stack.enter_context(os.fdopen(os.memfd_create("pem", os.MFD_CLOEXEC), "wb"))
            file.write(content)
            file.flush()
            names.append(f"/proc/self/fd/{file.fileno()}")
        yield tuple(names)


def _no_password() -> str:
    raise ssl.SSLError("the key is locked with a password, which nobody is there to type")


def _end_of(certificate: bytes) -> datetime | None:
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        return None


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
