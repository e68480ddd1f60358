"""What is answered of the fleet; as in models.py."""

from cctv_storaged.api.models import Moment, Outgoing


class HostAlarmAnswer(Outgoing):
    """An alarm that stands at a host."""

    name: str
    subject: str
    text: str
    since: str


class FleetHostAnswer(Outgoing):
    """A host by its last word."""

    host_id: str
    journal_id: str
    """Of its journal: the hash that its ledger begins with. Empty where that was lost."""
    twin: bool
    """Another journal speaks in its name: two hosts have one host_id."""
    stale: bool
    """It said nothing for `stale_after_seconds`: it is cut off or stands still, and what follows is old."""
    seen_at: Moment
    seen_seconds_ago: float
    """Both by the clock of the catalog."""
    started_at: Moment
    version: str
    config_version: str | None
    config_hash: str
    """Equal on hosts that are set alike but for their host_id and secrets."""
    config_waiting: list[str]
    """Settings that were reloaded there and wait for a restart."""
    mode: str
    backend: str
    cameras: int
    backlog_segments: int
    """Not yet verified, over all its backends."""
    backlog_bytes: int
    copies_failed: int
    oldest_undelivered: Moment | None
    disk_days_left: float | None
    """Of the disk that is full first; null: none ever is."""
    alarms: list[HostAlarmAnswer]
    """The first ones."""
    alarms_standing: int


class FleetAnswer(Outgoing):
    """Every host that ever spoke."""

    at: Moment
    """When the catalog was asked: whoever asks again within two seconds gets the same answer."""
    stale_after_seconds: float
    complete: bool
    """False: there are more hosts than fit into an answer."""
    hosts: list[FleetHostAnswer]
