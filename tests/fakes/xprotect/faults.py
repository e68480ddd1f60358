"""What goes wrong, settable at run time through the control port. `Faults()` is a healthy site.

`…_next` fields count down: so many further answers of the kind are spoilt.
"""

from dataclasses import dataclass, field
from typing import Literal

from tests.fakes.xprotect.settable import Settable

Away = Literal["no", "refused", "unavailable", "silent"]
"""no; connections are refused; HTTP 503 (port 7563: closed at once); accepted and never answered."""
Certificate = Literal["good", "self_signed", "wrong_name"]
"""Of the site's own authority, for its host; of nobody's; of the authority, for `other.example`."""
Edition = Literal["Corporate", "Expert", "Professional+", "Express+", "Essential+"]


@dataclass(slots=True, kw_only=True)
class Faults(Settable):
    """Read at every request."""

    # -- identity and tokens
    token_lifetime_s: float = 3600.0
    """`expires_in` of the OAuth tokens that are given from now on."""
    expire_tokens: bool = False
    """Every OAuth token given so far has just expired; goes back to False by itself."""
    unauthorized_next: int = 0
    """REST and SOAP answer 401, though the token is good."""
    corporate_lifetime_s: float = 14_400.0
    """`TimeToLive` of the recorder's tokens that are given from now on."""
    expire_corporate_tokens: bool = False
    """Every recorder's token given so far has just expired; goes back to False by itself."""
    # -- management server
    management: Away = "no"
    bad_gateway_next: int = 0
    """Any request is answered `bad_gateway_status`, as while the gateway's pool is recycled."""
    bad_gateway_status: Literal[502, 503, 504] = 502
    lose_answer_next: int = 0
    """A POST to REST is done, and the connection is cut before its answer."""
    slow_s: float = 0.0
    """Each answer of the management server comes so much later."""
    clock_skew_s: float = 0.0
    """Its clock minus the host's."""
    certificate: Certificate = "good"
    """For connections made from now on; only where the site speaks TLS."""
    edition: Edition = "Corporate"
    """Evidence locks: Corporate. Retrieval: Corporate, Expert, Professional+."""
    version: str = "25.2.5600.1"
    """`ProductVersion`: YY.R.build. Bookmarks and locks by REST since 24.2."""
    # -- cameras, storage, retention
    disabled_cameras: list[str] = field(default_factory=list)
    """GUIDs; beside those that are set up as disabled."""
    deleted_cameras: list[str] = field(default_factory=list)
    not_recording_cameras: list[str] = field(default_factory=list)
    not_edge_cameras: list[str] = field(default_factory=list)
    """Those whose `edgeStorageEnabled` is off."""
    hardware_disabled: bool = False
    """All hardware: left out of lists that do not ask for what is disabled."""
    recorder_disabled: bool = False
    retain_minutes: int | None = None
    """Of storage and archive; None: as the site is set up."""
    storage_available: bool = True
    storage_full: bool = False
    """`usedSpace` is `maxSize`; what is retrieved cannot be written (task Error)."""
    web_server_host: str | None = None
    """The host in `webServerUri`, where it is not the true one: a Windows name that does not resolve."""
    eat_after_sequences: int = 0
    """After so many further answers on sequences, what they told is purged: retention eats it."""
    # -- tasks
    task_error: int | None = None
    """Retrievals end in Error with this code, such as 60277."""
    task_polls: int = 2
    """How often a task says that it is in progress before it ends."""
    tasks_hang: bool = False
    """Tasks stay in progress."""
    retrieves_nothing: bool = False
    """Retrievals end in Success, and no footage came."""
    tasks_forgotten: bool = False
    """No task is known any more, as after a restart of the management server; goes back by itself."""
    partial_locks: bool = False
    """An evidence lock leaves out the last of its cameras."""
    # -- the recorder's port, 7563
    recorder: Away = "no"
    recorder_certificate: Certificate = "good"
    recorder_slow_s: float = 0.0
    """Each answer of the ImageServer and of RecorderCommandService comes so much later."""
    refuse_connect: str | None = None
    """`connected` is no, with this as `errorreason`."""
    split_every_byte: bool = False
    """Each byte of an answer is a write of its own."""
    split_at: int | None = None
    """Each answer is written in two parts, cut at this byte."""
    wrong_content_length: int = 0
    """Added to each announced `Content-length`."""
    half_close_after: int | None = None
    """The sending side closes after so many bytes of one connection."""
    hang_after: int | None = None
    """Nothing more is sent after so many bytes of one connection, and it stays open."""
    drop_next: int = 0
    """Connections that are cut in the middle of an image response."""
    video_block: bool = False
    """Pictures come in the legacy form, whatever was asked for."""
    wrong_picture_type: bool = False
    """A bare JPEG under the type of generic byte data."""
    bodiless_next: int = 0
    """Groups that are there are answered without a body."""
    database_empty: bool = False
    """Prev, Current and Next are 0, without a body."""
    database_delay_s: float = 0.0
    """How long after it was added footage is not yet readable; about 1 on a real recorder."""
    sequences_fault: int | None = None
    """SequencesGet answers a SOAP fault with this ErrorNumber."""

    def take(self, name: str) -> bool:
        """Counts one of the `…_next` fields down; whether it was to be spoilt."""
        left: int = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0
