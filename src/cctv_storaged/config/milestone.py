"""The `milestone` block, typed and checked.

Keys that name their unit (`settle_s`, `max_bytes`) are plain numbers in that unit.
"""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr

from cctv_storaged.config.section import Section
from cctv_storaged.config.units import BadValueError
from cctv_storaged.config.values import Count, File, Folder, Host, Port, Seconds, Secret, Text, Url, Uuid


def _guid_or_name(value: str) -> str:
    """A GUID, or `name:` and the display name that is looked up at start."""
    if value.startswith("name:") and value.removeprefix("name:").strip():
        return value
    try:
        UUID(value)
    except ValueError:
        raise BadValueError(
            "must be the camera's GUID, or name: and its display name", "as in name:Gate"
        ) from None
    return value


VmsCamera = Annotated[str, AfterValidator(_guid_or_name)]


class MilestoneMarks(Section):
    """What is left in the VMS on held footage."""

    bookmark: bool = True
    """Mark held footage with a bookmark."""
    evidence_lock: Literal["auto", "always", "never"] = "auto"
    """Lock held footage as evidence; `auto` where edition and version allow it."""


class MilestoneTimeout(Section):
    """How long its servers are waited for."""

    connect_s: Seconds = 5.0
    """Seconds to reach a server."""
    request_s: Seconds = 30.0
    """Seconds for one request."""
    read_s: Seconds = 15.0
    """Seconds without a byte before a read is given up."""


class MilestoneRetry(Section):
    """How soon they are asked again."""

    initial_s: Seconds = 1.0
    """Seconds before the first retry; doubles from there."""
    max_s: Seconds = 300.0
    """Longest wait between two tries, in seconds."""


class MilestoneCache(Section):
    """Footage read back from the VMS."""

    dir: Folder | None = None
    """Folder for footage read back from the VMS. Left out: below `data_dir`."""
    max_bytes: Count = 2 * 1024**3
    """Most bytes kept there."""


class MilestoneOnvif(Section):
    """The ONVIF Profile G endpoint that the VMS retrieves footage from."""

    enabled: bool = False
    """Offer the ONVIF Profile G endpoint that retrieval reads from."""
    bind: Host = "0.0.0.0"
    """Address it listens on; the recording server must reach it."""
    http_port: Port = 8083
    """TCP port of its SOAP side."""
    rtsp_port: Port = 8554
    """TCP port of its RTSP side."""
    username: Text | None = None
    """User the recording server logs in as."""
    password: Secret = SecretStr("")
    """That user's password; better from `password_file`."""
    password_file: File | None = None
    """File that holds the password."""
    advertise_host: Host | None = None
    """Name or address the recording server reaches this host by."""


class Milestone(Section):
    """Milestone XProtect, for the modes MILESTONE and BOTH; in mode LOCAL what it holds is still read."""

    url: Url
    """The management server, such as https://mgmt.example."""
    username: Text | None = None
    """Basic user to log in as."""
    password: Secret = SecretStr("")
    """Its password; better from `password_file`."""
    password_file: File | None = None
    """File that holds the password."""
    client_id: Text = "GrantValidatorClient"
    """OAuth client id asked for at log-in."""
    ca_file: File | None = None
    """CA certificates (PEM). Left out: the system's."""
    verify_tls: bool = True
    """Refuse servers whose certificate cannot be verified."""
    allow_plain_http: bool = False
    """Allow a URL, and recording servers, without TLS: password and tokens are readable on the way."""
    recorder_host_override: Mapping[str, Host] = {}
    """Recording server name to the host it is reached by, for names that do not resolve."""
    recorder_server_name: Text | None = None
    """Name expected in the recording servers' certificates."""
    recorder_ca_file: File | None = None
    """CA certificates (PEM) for the recording servers. Left out: `ca_file`."""
    camera_map: Mapping[str, VmsCamera] = {}
    """Our camera (id or folder) to the VMS camera: its GUID, or `name:` and display name."""
    ingest: Literal["vms_recording", "edge_retrieval", "hybrid", "event_retrieval"] = "vms_recording"
    """How footage comes into the VMS."""
    settle_s: Seconds = 15.0
    """Seconds after a segment's end before the VMS is asked for it."""
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600.0
    """Seconds after which footage the VMS does not hold is called a gap."""
    window_max_s: Seconds = 900.0
    """Longest span asked for in one go, in seconds."""
    max_retrievals: Count = 2
    """Retrievals that run at the same time."""
    coverage_tolerance_ms: Annotated[int, Field(ge=0)] = 2000
    """Most milliseconds missing of what still counts as covered; and of a segment no more than a tenth."""
    sequences_api: Literal["auto", "rest", "soap"] = "auto"
    """Interface asked for sequences."""
    stream_id: Mapping[str, Uuid] = {}
    """Our camera (id or folder) to the stream to read. Left out: the default stream."""
    retrieval_event_id: Uuid | None = None
    """Event that starts a retrieval, for `ingest: event_retrieval`."""
    marks: MilestoneMarks = MilestoneMarks()
    min_retention_days: Annotated[int, Field(ge=0)] = 0
    """Days the VMS must keep footage; less is reported as ill health."""
    timeout: MilestoneTimeout = MilestoneTimeout()
    retry: MilestoneRetry = MilestoneRetry()
    cache: MilestoneCache = MilestoneCache()
    onvif: MilestoneOnvif = MilestoneOnvif()
