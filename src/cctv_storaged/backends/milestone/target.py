"""Which XProtect site, as whom, and how carefully: all that the client needs of the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class SequencesApi(StrEnum):
    """Which interface is asked for recording sequences."""

    AUTO = "auto"  # REST, and SOAP where REST does not know the question
    REST = "rest"
    SOAP = "soap"


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneTarget:
    """One site. Files are paths; times are seconds."""

    url: str  # scheme, host and port of the management server, without a slash at the end
    username: str
    password: str = field(repr=False)
    client_id: str = "GrantValidatorClient"
    ca_file: str | None = None  # PEM; None: the system's authorities
    verify_tls: bool = True
    allow_plain_http: bool = False
    recorder_host_override: Mapping[str, str] = field(default_factory=dict)  # recorder's name or host → host
    recorder_server_name: str | None = None  # expected in recorders' certificates
    recorder_ca_file: str | None = None  # None: `ca_file`
    sequences_api: SequencesApi = SequencesApi.AUTO
    connect_s: float = 5.0
    request_s: float = 30.0
    read_s: float = 15.0
