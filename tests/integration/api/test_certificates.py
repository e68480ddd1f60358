"""TLS of the API: renewed certificates are served without a restart, and clients may have to show theirs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cctv_storaged.alarms import AlarmName
from cctv_storaged.api import certificates
from cctv_storaged.errors import ConfigError
from tests.integration.api.harness import API, Host, description, running, until
from tests.services.pki import Authority, Issued


@dataclass(slots=True)
class Pki:
    """Where the daemon looks, and who signs what lies there."""

    folder: Path
    authority: Authority

    @property
    def cert(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    def renew(self, name: str, lasts: timedelta = timedelta(days=90)) -> None:
        self.authority.issue(name, lasts).write(self.cert, self.key)

    def settings(self, **more: str) -> dict[str, Any]:
        return {"api": {"tls_cert": str(self.cert), "tls_key": str(self.key), **more}}

    def trusting(self, shown: Issued | None = None) -> ssl.SSLContext:
        """What a client speaks with, and the certificate that it shows."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if shown is not None:
            shown.write(self.folder / "client.crt", self.folder / "client.key")
            context.load_cert_chain(self.folder / "client.crt", self.folder / "client.key")
        return context


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path, Authority("the site's"))
    made.renew("first")
    return made


async def served(host: Host, pki: Pki, shown: Issued | None = None) -> str:
    """The common name of the certificate that a new connection gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", host.parts.api.port, ssl=pki.trusting(shown))
    try:
        subject = writer.get_extra_info("peercert")["subject"]
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return str(dict(pair for part in subject for pair in part)["commonName"])


def alarms(host: Host) -> list[str]:
    standing = host.parts.upkeep.alarms.standing
    return [alarm.text for alarm in standing if alarm.name is AlarmName.CERTIFICATE]


@asynccontextmanager
async def asking(host: Host, pki: Pki, shown: Issued | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=pki.trusting(shown))
    async with aiohttp.ClientSession(host.url, connector=connector) as session:
        yield session


async def test_a_renewed_certificate_is_served_without_a_restart(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are looked at; and connections that are there stay, in the middle of an answer too."""
    monkeypatch.setattr(certificates, "LOOK_S", 0.05)
    async with running(tmp_path, pki.settings()) as host, asking(host, pki) as session:
        assert await served(host, pki) == "first"
        async with session.get(f"{API}/events") as stream:
            assert (await stream.content.readuntil(b"\n\n")).startswith(b"retry")
            port = host.parts.api.port
            pki.renew("second")

            async def is_served() -> bool:
                return await served(host, pki) == "second"

            await until(is_served)
            assert host.parts.api.port == port
            body = description(host.file())
            async with session.post(f"{API}/segments", json=body) as response:
                assert response.status == 201
            assert b"event: segment" in await stream.content.readuntil(b"\n\n")
        assert alarms(host) == []


async def test_a_damaged_renewal_keeps_the_old_one_and_is_told(tmp_path: Path, pki: Pki) -> None:
    async with running(tmp_path, pki.settings()) as host:
        other = pki.authority.issue("of another key")
        for damaged in (
            other.certificate,
            other.certificate[:200],
            b"",
        ):  # its key is not there yet; half; none
            pki.cert.write_bytes(damaged)
            await host.parts.api.renew_certificate()
            assert len(alarms(host)) == 1
            assert await served(host, pki) == "first"
        pki.cert.unlink()
        await host.parts.api.renew_certificate()
        assert await served(host, pki) == "first"
        pki.renew("second")
        await host.parts.api.renew_certificate()
        assert alarms(host) == []
        assert await served(host, pki) == "second"


async def test_a_certificate_that_ends_soon_is_told(tmp_path: Path, pki: Pki) -> None:
    pki.renew("short", timedelta(days=3))
    async with running(tmp_path, pki.settings()) as host:
        await host.parts.api.renew_certificate()
        assert [text for text in alarms(host) if "renew it" in text]
        pki.renew("long")
        await host.parts.api.renew_certificate()
        assert alarms(host) == []


async def test_clients_show_a_certificate_where_they_are_asked_for_one(tmp_path: Path, pki: Pki) -> None:
    """Besides the token, which says what they may; the audit says whose certificate it was."""
    clients, strangers = Authority("the clients'"), Authority("a stranger's")
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(clients.certificate)
    async with running(tmp_path, pki.settings(tls_client_ca=str(authorities))) as host:
        for shown in (None, strangers.issue("mallory")):
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                await served(host, pki, shown)
        control = clients.issue("control room")
        assert await served(host, pki, control) == "first"
        async with asking(host, pki, control) as session:
            body = {"name": "admin", "scopes": ["admin"]}
            async with session.post(f"{API}/tokens", json=body) as response:
                secret = (await response.json())["secret"]
            async with session.get(f"{API}/cameras") as response:
                assert response.status == 401, "a certificate is no token"
            headers = {"Authorization": f"Bearer {secret}"}
            async with session.get(f"{API}/audit", headers=headers) as response:
                [entry] = (await response.json())["entries"]
        assert (entry["what"], entry["certificate"]) == ("createToken", "control room")
        authorities.write_bytes(strangers.certificate)
        await host.parts.api.renew_certificate()
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await served(host, pki, control)


async def test_authorities_that_are_emptied_end_no_renewal(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `cat a b > clients.pem` does for a moment: told, and good again with the next look."""
    monkeypatch.setattr(certificates, "LOOK_S", 0.05)
    clients = Authority("the clients'")
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(clients.certificate)
    control = clients.issue("control room")
    async with running(tmp_path, pki.settings(tls_client_ca=str(authorities))) as host:
        for damaged in (b"", "žádný".encode()):
            authorities.write_bytes(damaged)
            await host.parts.api.renew_certificate()
            assert len(alarms(host)) == 1
            assert await served(host, pki, control) == "first"
        authorities.write_bytes(clients.certificate)
        pki.renew("second")

        async def is_served() -> bool:
            return await served(host, pki, control) == "second"

        await until(is_served)
        assert alarms(host) == []


async def test_a_look_that_fails_in_an_unforeseen_way_ends_no_renewal(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_S", 0.05)
    async with running(tmp_path, pki.settings()) as host:

        def broken(settings: object) -> None:
            raise RuntimeError("unforeseen")

        with monkeypatch.context() as patched:
            patched.setattr(certificates, "loaded", broken)
            pki.renew("second")

            async def is_told() -> bool:
                return bool(alarms(host))

            await until(is_told)

        async def is_served() -> bool:
            return await served(host, pki) == "second"

        await until(is_served)


@pytest.mark.parametrize("content", ["nothing", "", "žádný"])
async def test_authorities_that_are_none_are_refused_at_the_start(
    tmp_path: Path, pki: Pki, content: str
) -> None:
    (tmp_path / "none.pem").write_text(content)
    with pytest.raises(ConfigError, match="tls_client_ca"):
        async with running(tmp_path, pki.settings(tls_client_ca=str(tmp_path / "none.pem"))):
            pass
