"""Whoever cannot prove to be the management server gets no password."""

import ssl
from pathlib import Path

import pytest

from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.backends.milestone.tls import management_trust, recorder_trust
from cctv_storaged.backends.milestone.xprotect import XProtect
from cctv_storaged.clock import SystemClock
from cctv_storaged.errors import BackendUnavailable, ConfigError
from tests.unit.milestone.scripted import CA, CERTIFICATES, Reply, scripted, xprotect

SITES = "GET /api/rest/v1/sites"
SITE = Reply({"array": [{"id": "5219cb7c-cd3d-5577-9861-95a14f061fe2", "name": "Here"}]})


def of_server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    return context


async def test_a_server_whose_authority_is_named_is_believed() -> None:
    async with scripted(of_server()) as server, xprotect(server, ca_file=CA, allow_plain_http=False) as vms:
        server.say(SITES, SITE)
        assert (await vms.site()).name == "Here"


async def test_a_server_may_be_named_by_its_own_certificate(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text(ssl.DER_cert_to_PEM_cert(_der_of(CERTIFICATES / "server.pem")))
    async with scripted(of_server()) as server, xprotect(server, ca_file=str(own)) as vms:
        server.say(SITES, SITE)
        assert (await vms.site()).name == "Here"


def _der_of(path: Path) -> bytes:
    text = path.read_text()
    begin = text.index("-----BEGIN CERTIFICATE-----")
    end = text.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(text[begin:end])


async def test_a_server_of_an_unknown_authority_is_not_asked_anything() -> None:
    async with scripted(of_server()) as server, xprotect(server, ca_file=None) as vms:
        with pytest.raises(BackendUnavailable, match=r"certificate.*ca_file") as caught:
            await vms.site()
        assert not server.asked
    assert caught.value.reason == "tls"


async def test_a_certificate_for_another_name_is_not_believed() -> None:
    async with scripted(of_server(), "127.0.0.2") as server, xprotect(server, ca_file=CA) as vms:
        with pytest.raises(BackendUnavailable) as caught:
            await vms.site()
        assert not server.asked
    assert caught.value.reason == "tls"


async def test_verification_ends_only_when_told_so_and_then_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted(of_server()) as server:
        with caplog.at_level("WARNING"):
            async with xprotect(server, verify_tls=False) as vms:
                server.say(SITES, SITE)
                assert (await vms.site()).name == "Here"
    (warning,) = [each for each in caplog.records if "not verified" in each.getMessage()]
    assert vars(warning)["setting"] == "milestone.verify_tls"


def target(**changes: str) -> MilestoneTarget:
    facts: dict[str, str] = {"url": "https://mgmt.example", "username": "u", "password": "p"}
    return MilestoneTarget(**(facts | changes))  # type: ignore[arg-type]


def test_both_kinds_of_servers_are_verified_by_default() -> None:
    management = management_trust(target())
    for trust in (management, recorder_trust(target(), management)):
        assert trust.context.verify_mode is ssl.CERT_REQUIRED
        assert trust.context.check_hostname
        assert trust.context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_recorders_have_an_authority_and_a_name_of_their_own() -> None:
    settings = target(recorder_ca_file=CA, recorder_server_name="recorder.example")
    trust = recorder_trust(settings, management_trust(settings))
    assert trust.server_name == "recorder.example"
    assert len(trust.context.get_ca_certs()) == 1
    shared = target(ca_file=CA)
    assert len(recorder_trust(shared, management_trust(shared)).context.get_ca_certs()) == 1


@pytest.mark.parametrize("setting", ["ca_file", "recorder_ca_file"])
@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, setting: str, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        XProtect(target(**{setting: str(path)}), SystemClock())
    (fault,) = caught.value.faults
    assert fault.where == f"milestone.{setting}"
    assert str(path) in fault.message
