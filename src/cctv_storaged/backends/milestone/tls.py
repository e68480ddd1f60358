"""Whom to believe: the TLS of the management server and of the recorders, verified unless told otherwise."""

import logging
import ssl
from dataclasses import dataclass

from cctv_storaged.backends.milestone.target import MilestoneTarget
from cctv_storaged.errors import ConfigError, Fault

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trust:
    """A TLS context, and the name a certificate must bear; None: the host's that is connected to."""

    context: ssl.SSLContext
    server_name: str | None = None


def management_trust(target: MilestoneTarget) -> Trust:
    """For the management server: identity, REST and SOAP."""
    if not target.verify_tls:
        log.warning(
            "certificates of XProtect are not verified: whoever answers gets the password",
            extra={"setting": "milestone.verify_tls", "url": target.url},
        )
        return Trust(_believing_anyone())
    return Trust(_verifying(target.ca_file, "milestone.ca_file"))


def recorder_trust(target: MilestoneTarget, management: Trust | None = None) -> Trust:
    """For the recording servers: ImageServer and SOAP. As for `management`, unless set apart."""
    if target.verify_tls and target.recorder_ca_file is not None:
        context = _verifying(target.recorder_ca_file, "milestone.recorder_ca_file")
    else:
        context = (management or management_trust(target)).context
    return Trust(context, target.recorder_server_name)


def _verifying(ca_file: str | None, setting: str) -> ssl.SSLContext:
    """TLS 1.2 and newer. A server's own certificate may stand in the file instead of its authority's."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        fault = Fault(setting, f"{ca_file} cannot be used: {exc}", "a PEM file of CA certificates")
        raise ConfigError([fault]) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _believing_anyone() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
