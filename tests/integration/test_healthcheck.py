"""The container's health check, against listeners as the settings may ask for them."""

import asyncio
import ssl
import sys
from pathlib import Path

import pytest
from aiohttp import web

from tests.integration.api.test_certificates import Pki, pki

CHECK = Path(__file__).parents[2] / "packaging" / "oci" / "healthcheck"
__all__ = ["pki"]


def patient_check() -> str:
    """The check itself, but that two seconds of a busy machine do not pass for no answer."""
    text = CHECK.read_text()
    assert text.count("\nTIMEOUT_S = 2\n") == 1
    return text.replace("\nTIMEOUT_S = 2\n", "\nTIMEOUT_S = 60\n")


async def healthy(
    host: str, *, status: int = 200, tls: ssl.SSLContext | None = None, told: str | None = None
) -> bool:
    """Of a daemon that listens on `host`; `told`: what HOST says."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({}, status=status)

    app = web.Application()
    app.router.add_get("/health", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0, ssl_context=tls).start()
        environ = {"PORT": str(runner.addresses[0][1]), "HOST": host if told is None else told}
        checked = await asyncio.create_subprocess_exec(sys.executable, "-c", patient_check(), env=environ)
        return await checked.wait() == 0
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1"])
async def test_it_asks_where_the_daemon_listens(host: str) -> None:
    assert await healthy(host)


@pytest.mark.parametrize(("status", "well"), [(401, True), (403, True), (429, True), (500, False)])
async def test_a_refusal_is_an_answer(status: int, well: bool) -> None:
    assert await healthy("127.0.0.1", status=status) is well


async def test_who_asks_for_a_certificate_is_alive(tmp_path: Path, pki: Pki) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki.cert, pki.key)
    assert await healthy("127.0.0.1", tls=context)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pki.authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    assert await healthy("127.0.0.1", tls=context)
