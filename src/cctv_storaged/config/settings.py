"""The settings as frozen types: one class per block of the file, one field per key.

A field's description is what the reference prints. What two keys may not say together is in `rules`.
"""

from collections.abc import Mapping
from datetime import timedelta, tzinfo
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from cctv_storaged.config.milestone import Milestone
from cctv_storaged.config.section import Section
from cctv_storaged.config.values import (
    AgeLimit,
    BackendWord,
    Bucket,
    CameraFolder,
    Count,
    Duration,
    Endpoint,
    File,
    Folder,
    Host,
    HostId,
    KeyPrefix,
    Level,
    ListenPort,
    ModeWord,
    Port,
    PostgresHost,
    Rate,
    Secret,
    Share,
    Size,
    Span,
    Text,
    Url,
    Uuid,
    Window,
    Zone,
)
from cctv_storaged.config.window import zone_named
from cctv_storaged.model import BackendKind, Camera, Mode, camera_id_for

DEFAULT_LAYOUT = "{camera}/%Y-%m-%d/%H-%M-%S.ts"


class Api(Section):
    """The REST API and the metrics."""

    host: Host = "127.0.0.1"
    """Address the REST API listens on."""
    port: ListenPort = 8082
    """TCP port of the REST API; 0 takes any free one."""
    auth: Literal["token", "none"] = "token"
    """`token` asks for a bearer token, on loopback once there is one; `none` is allowed on loopback only."""
    tls_cert: File | None = None
    """Certificate chain (PEM). Left out: plain HTTP."""
    tls_key: File | None = None
    """Private key (PEM) that belongs to `tls_cert`."""
    tls_client_ca: File | None = None
    """CA certificates (PEM): with them every client needs a certificate of theirs, besides its token."""
    protect_metrics: bool = False
    """Ask for a token at /health, /ready and /metrics too."""
    requests_per_minute: Annotated[int, Field(ge=60, le=10_000_000)] = 12_000
    """Requests of one token, or of one address without a token, above which 429 is answered."""
    failed_logins_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 30
    """Wrong tokens from one address above which 429 is answered; a right one is let in all the same."""
    allowed_paths: Annotated[tuple[Folder, ...], Field(strict=False)] = ()
    """Folders besides the recorders' from which `POST /segments` may register files."""


class Recorder(Section):
    """One folder tree; a list of them. Without any: `recordings` below `data_dir`."""

    path: Folder
    """The folder tree that recorders write into."""
    layout: Text = DEFAULT_LAYOUT
    """Where files lie below it: `{camera}`, `{camera_id}`, strftime fields, `%z %s %f`, `*` and `**`."""
    timezone: Zone = "UTC"
    """IANA zone of the times in file names."""
    watch: Literal["auto", "inotify", "poll"] = "auto"
    """How new files are noticed; `auto` polls where the folder is a network mount."""
    scan_interval: Span = timedelta(seconds=30)
    """How often the folders are looked through for what events missed."""

    @property
    def zone(self) -> tzinfo:
        return zone_named(self.timezone)


class ConfiguredCamera(Section):
    """A camera with an id or name of its own; a list of them. Other folders become cameras by themselves."""

    folder: CameraFolder
    """What stands for `{camera}` in the recorder's layout."""
    id: Uuid | None = None
    """UUID of the camera. Left out: derived from host and folder, as for unlisted folders."""
    name: Text | None = None
    """Name for people. Left out: the folder."""


class Filesystem(Section):
    """The backend FILESYSTEM."""

    path: Folder
    """Folder that the FILESYSTEM backend keeps segments in."""
    link: bool = True
    """Link instead of copying where source and store share a file system: both are then the same bytes until
    the source is pruned, and a recorder that writes into a closed file again changes both. `false`, or a
    store on another disk, gives a real second copy."""


class Minio(Section):
    """The backend MINIO, which needs endpoint and both keys."""

    endpoint: Endpoint = ""
    """`host:port` of the server."""
    access_key: Secret = SecretStr("")
    """Access key."""
    secret_key: Secret = SecretStr("")
    """Secret key."""
    use_ssl: bool = False
    """Speak HTTPS."""
    ca_file: File | None = None
    """CA certificates (PEM). Left out: the system's."""
    region: Text | None = None
    """Region. Left out: the client asks the server."""
    bucket_recordings: Bucket = "cctv-recordings"
    """Bucket for segments."""
    bucket_exports: Bucket = "cctv-exports"
    """Bucket for exports; made where it is missing."""
    bucket_thumbnails: Bucket = "cctv-thumbnails"
    """Bucket for thumbnails; made where it is missing."""
    prefix: KeyPrefix = ""
    """Put before every object key; folders that end with `/`."""
    readback_share: Share = 0.01
    """Share of segments read back and hashed after the put, besides the server's own check."""


class S3(Section):
    """The backend S3, which needs a bucket."""

    endpoint_url: Url | None = None
    """URL of the server. Left out: AWS."""
    region: Text = "us-east-1"
    """Region."""
    access_key: Secret = SecretStr("")
    """Access key. Left out with `secret_key`: found as the AWS tools find it."""
    secret_key: Secret = SecretStr("")
    """Secret key."""
    session_token: Secret = SecretStr("")
    """Token that goes with temporary keys."""
    ca_file: File | None = None
    """CA certificates (PEM). Left out: the system's."""
    bucket_recordings: Bucket = ""
    """Bucket for segments."""
    bucket_exports: Bucket | None = None
    """Bucket for exports; made where it is missing. Left out: `exports/` in the segments' bucket."""
    bucket_thumbnails: Bucket | None = None
    """Bucket for thumbnails; made where it is missing. Left out: `thumbnails/` in the segments' bucket."""
    prefix: KeyPrefix = ""
    """Put before every object key; folders that end with `/`."""
    readback_share: Share = 0.01
    """Share of segments read back and hashed after the put, besides the server's own check."""


class Postgres(Section):
    """The catalog: an index that many hosts share. Without this block there is none, and none is needed."""

    host: PostgresHost
    """Host of the PostgreSQL server, or the folder of its socket."""
    port: Port = 5432
    """Its TCP port."""
    db: Text = "cctv"
    """Database."""
    user: Text = "cctv"
    """User."""
    password: Secret = SecretStr("")
    """Password."""
    ssl: Literal["disable", "prefer", "require", "verify-full"] = "prefer"
    """TLS, in libpq's words; only `verify-full` proves that the server is the right one."""
    ca_file: File | None = None
    """CA certificates (PEM), for `verify-full`. Left out: the system's."""


class Delivery(Section):
    """How segments are brought to the backend."""

    workers: Annotated[int, Field(ge=1, le=64)] = 4
    """Segments put at the same time."""
    rate_limit: Rate | None = None
    """Most bytes per second for all puts together. Left out: no limit."""
    window: Window | None = None
    """Daily hours of delivery, as `22:00-06:00` or `22:00-06:00 Europe/Oslo`; UTC without a zone.
    Left out: always."""
    backlog_newest_share: Share = 0.3
    """Share of backlog deliveries that take the newest segment first instead of the oldest."""


class Source(Section):
    """When the recorder's own files may go."""

    prune: Literal["after_verified", "never"] = "after_verified"
    """Whether a source may be removed once every copy of it is verified."""
    grace: Duration = timedelta(hours=24)
    """How long after that it stays all the same."""
    keep: Duration = timedelta(0)
    """Age of the footage below which its source stays whatever was delivered."""


class RetentionRule(Section):
    """What a rule does not say is no limit."""

    at_least: AgeLimit | None = None
    """Never deleted before this age without an alarm."""
    desired: AgeLimit | None = None
    """Kept this long while there is room."""
    at_most: AgeLimit | None = None
    """Deleted everywhere at this age. Left out of a rule that is given: no limit."""
    priority: Literal["low", "normal", "high"] = "normal"
    """Whose footage gives way first when room is needed and only what is past `at_least` is left."""


class Retention(Section):
    """How long footage is kept."""

    default: RetentionRule = RetentionRule(at_most=timedelta(days=30))
    """For every camera without a rule of its own. `at_most: 30d` only while it is left out altogether."""
    per_camera: Mapping[str, RetentionRule] = {}
    """Camera id or folder to a rule that takes the whole place of the default."""


class Capacity(Section):
    """What happens when volumes fill up. A level begins at its free share, or with so much time left at the
    measured rate of recording, whichever comes first."""

    warn_free: Share = 0.2
    """Free share of a volume below which it is reported."""
    warn_left: Duration = timedelta(hours=6)
    """Time left below which it is reported; 0: the share alone counts, here and below."""
    clean_free: Share = 0.1
    """Free share below which footage that may go is deleted early, until half as much again is free."""
    clean_left: Duration = timedelta(hours=2)
    """Time left below which it is."""
    emergency_free: Share = 0.05
    """Free share below which `on_full` decides."""
    emergency_left: Duration = timedelta(minutes=30)
    """Time left below which it does."""
    reserve: Size = 250_000_000
    """Room kept back so that the journal can write on a full disk."""
    on_full: Literal["refuse", "delete_oldest_undelivered"] = "refuse"
    """With nothing left that may go: `refuse` keeps all and alarms; `delete_oldest_undelivered` loses the
    oldest and writes each loss into the ledger."""


class Alerts(Section):
    """When somebody is told, by alarms with a begin and an end."""

    silent_intervals: Annotated[int, Field(ge=2, le=1000)] = 3
    """A camera is silent without a segment for so many times the interval at which they come, which is
    measured; never for less than two minutes."""
    silent_after: Mapping[str, Duration] = {}
    """Camera id, folder, or pattern of folders such as `yard/*`, to the silence that counts in place of the
    measured; `0` for a camera that records no longer."""
    undelivered: Duration = timedelta(hours=1)
    """For how long a segment may wait for its copy; the hours in which `delivery.window` is shut are added.
    `0`: never told."""
    undelivered_at: Mapping[Literal["MINIO", "S3", "FILESYSTEM", "MILESTONE"], Duration] = {}
    """The same for a backend of its own. MILESTONE, left out: `undelivered` and `milestone.deadline_s`."""
    down: Duration = timedelta(minutes=2)
    """For how long a backend or the catalog may be away."""
    disk_left: Duration = timedelta(days=3)
    """Time left before a volume is full, at the measured rate. `0`: never told."""
    loss: Duration = timedelta(hours=24)
    """For how long after the last loss of a camera's footage it is told. `0`: not at all."""


class Reconcile(Section):
    """How folders, journal, backend and catalog are compared by the clock; differences are an alarm."""

    every: Span = timedelta(hours=24)
    """Time from the end of one comparison to the next."""
    rate: Count = 2000
    """Most objects, files and rows looked at per second; a question about a single object counts as 20."""


class Ledger(Section):
    """The record of what became of footage."""

    keep: Span = timedelta(days=30)
    """Age at which its lines leave the journal for archives below `data_dir`, which are kept for good."""


class Scrub(Section):
    """Reading back what is stored, to find damage before somebody needs the footage."""

    rotation: Duration = timedelta(days=30)
    """Time in which every verified copy is read back and hashed once. `0s`: never."""
    rate_limit: Rate | None = None
    """Most bytes per second read for it. Left out: as many as the rotation needs."""


class Playback(Section):
    """How footage is looked at over the REST API."""

    segments: Literal["proxied", "presigned"] = "proxied"
    """Where playlists send players for segments: `proxied` to this API; `presigned` to the object store by
    URLs that work without a key for a while, where a verified copy is there, else to this API."""
    max_span: Span = timedelta(hours=24)
    """Longest span of one playlist."""
    max_clip: Span = timedelta(hours=1)
    """Longest span of one `clip.mp4`."""
    cache: Size = 2_000_000_000
    """Room for finished clips below `data_dir`, so that players can seek in them."""


class Exports(Section):
    """Clips and incident packages."""

    workers: Count = 2
    """Exports made at the same time."""
    queue: Count = 100
    """Exports that may wait; more are refused."""
    expire: Span = timedelta(days=7)
    """Age at which a finished export is deleted."""
    max_span: Span = timedelta(hours=24)
    """Longest span one export may cover."""
    download: Literal["presigned", "proxied"] = "presigned"
    """What `download_url` is: `presigned` by the object store, good for 15 minutes and for whoever has it, or
    this API's own address, which asks for a token. Without an object store it is the latter."""


class Thumbnails(Section):
    """Still pictures."""

    on_ingest: bool = True
    """Make one for each new segment, besides those asked for."""
    width: Annotated[int, Field(ge=16, le=3840)] = 320
    """Width in pixels."""


class Settings(Section):
    """All settings of one host, checked. `load_settings` is the way to have one."""

    host_id: HostId
    """Names this host in every row and object; not to be changed later."""
    config_version: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What whoever rolls these settings out calls them, told by /health, the metrics and the fleet."""
    data_dir: Folder
    """Journal, caches and work files; never on a network file system."""
    mode: ModeWord = Mode.LOCAL
    """Which copies a segment must have: at `backend`, in Milestone XProtect, or both."""
    backend: BackendWord = BackendKind.FILESYSTEM
    """Where modes LOCAL and BOTH put segments. The block of a former one stays in use for what lies there."""
    log_level: Level = "info"
    """Least weight of what is logged."""
    log_format: Literal["auto", "plain", "json", "journal"] = "auto"
    """Shape of the log; `auto` is the journal under systemd and plain lines elsewhere."""
    api: Api = Api()
    recorders: Annotated[tuple[Recorder, ...], Field(strict=False)]
    cameras: Annotated[tuple[ConfiguredCamera, ...], Field(strict=False)] = ()
    filesystem: Filesystem
    minio: Minio = Minio()
    s3: S3 = S3()
    postgres: Postgres | None = None
    milestone: Milestone | None = None
    delivery: Delivery = Delivery()
    source: Source = Source()
    retention: Retention = Retention()
    capacity: Capacity = Capacity()
    alerts: Alerts = Alerts()
    ledger: Ledger = Ledger()
    reconcile: Reconcile = Reconcile()
    scrub: Scrub = Scrub()
    playback: Playback = Playback()
    exports: Exports = Exports()
    thumbnails: Thumbnails = Thumbnails()

    def known_cameras(self) -> tuple[Camera, ...]:
        """The configured cameras with what was left out filled in."""
        return tuple(self._camera(listed) for listed in self.cameras)

    def _camera(self, listed: ConfiguredCamera) -> Camera:
        return Camera(
            id=listed.id or camera_id_for(self.host_id, listed.folder),
            name=listed.name or listed.folder,
            folder=listed.folder,
        )
