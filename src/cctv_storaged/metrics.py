"""Every Prometheus metric: name, labels, help text. One instance a process; tests make their own.

Labels come from known cameras, configured backends and fixed words only, so that no file name can make
the number of series grow.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

# Else a "_created" stands beside every series, which no reader of the text format asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

M = TypeVar("M", bound=MetricWrapperBase)


class _Declared(Generic[M]):
    """A line of the table below. Each `Metrics` has a metric of its own in its place."""

    def __init__(self, make: Callable[[CollectorRegistry], M]) -> None:
        self.make = make

    def __get__(self, metrics: object, of: type) -> M:
        """Tells type checkers what stands in its place; whoever has an instance never comes here."""
        raise AttributeError("metrics are those of an instance: Metrics()")


def _counter(name: str, told: str, *labels: str) -> _Declared[Counter]:
    return _Declared(lambda registry: Counter(name, told, labels, registry=registry))


def _gauge(name: str, told: str, *labels: str) -> _Declared[Gauge]:
    return _Declared(lambda registry: Gauge(name, told, labels, registry=registry))


def _histogram(
    name: str, told: str, *labels: str, buckets: Sequence[float] = LATENCY_S
) -> _Declared[Histogram]:
    return _Declared(lambda registry: Histogram(name, told, labels, buckets=buckets, registry=registry))


class Metrics:
    """The metrics of one daemon, in a registry of their own; in the order in which they are exposed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for name, declared in vars(Metrics).items():
            if isinstance(declared, _Declared):
                vars(self)[name] = declared.make(self.registry)

    @property
    def of_vms(self) -> tuple[Gauge, ...]:
        """Those that only a host with XProtect has."""
        return (
            self.vms_gaps,
            self.vms_grade,
            self.vms_clock_skew,
            self.vms_coverage_lag,
            self.vms_cameras_unmapped,
        )

    # What is stored, read, deleted and exported

    segments_stored = _counter(
        "storage_segments_stored", "Segments whose copy at the backend was verified", "backend", "mode"
    )
    segments_retrieved = _counter("storage_segments_retrieved", "Segments read for a client", "backend")
    segments_deleted = _counter("storage_segments_deleted", "Copies deleted on purpose", "backend")
    exports_created = _counter("storage_exports_created", "Exports that reached this status", "status")
    export_duration = _histogram(
        "storage_export_duration_seconds", "Time an export took, by how it ended", "status"
    )
    bytes_used = _gauge("storage_bytes_used", "Bytes this host keeps at the backend", "backend", "bucket")
    segments_count = _gauge("storage_segments_count", "Segments of the camera in the journal", "camera_id")
    errors = _counter("storage_errors", "Failures, by what was being done", "operation", "backend")

    # On the way to a verified copy

    backlog_segments = _gauge("storage_upload_backlog_segments", "Segments not yet verified there", "backend")
    backlog_bytes = _gauge("storage_upload_backlog_bytes", "Bytes not yet verified there", "backend")
    oldest_undelivered = _gauge(
        "storage_oldest_undelivered_seconds",
        "Age of the oldest segment not yet verified there; 0 with none",
        "backend",
    )
    copies_failed = _gauge("storage_copies_failed", "Copies that wait for a human", "backend")
    ingest_seconds = _histogram("storage_ingest_seconds", "From a file's close to its journal row")
    delivery_seconds = _histogram(
        "storage_delivery_seconds", "From a file's close to its verified copy", "backend"
    )

    # Set aside, and lost

    segments_quarantined = _gauge("storage_segments_quarantined", "Files set aside now", "reason")
    segments_lost = _counter("storage_segments_lost", "Segments lost (each is in the ledger)", "cause")

    # The recorder's side

    scan_found = _counter("storage_scan_found", "Closed files that a scan found and no event had announced")
    scan_seconds = _gauge("storage_scan_seconds", "Duration of the root's last scan", "root")
    watcher_overflows = _counter("storage_watcher_overflows", "Times the kernel dropped inotify events")
    watcher_up = _gauge(
        "storage_watcher_up", "1 while events of the root arrive, 0 while it is polled", "root"
    )
    root_up = _gauge("storage_root_up", "1 while the recorder root can be read", "root")
    folders_unreadable = _gauge(
        "storage_folders_unreadable",
        "Folders of the root that refuse to be read: their segments are not registered",
        "root",
    )
    files_unreadable = _gauge(
        "storage_files_unreadable",
        "Files of the root that refuse to be read: they are not registered",
        "root",
    )

    # Backends and the catalog

    backend_up = _gauge("storage_backend_up", "1 while the backend takes segments", "backend")
    catalog_up = _gauge("storage_catalog_up", "1 while PostgreSQL takes rows")
    catalog_lag = _gauge("storage_catalog_lag_segments", "Segments PostgreSQL has yet to be told of")

    # Age, room, and the disks that have it

    retention_achieved = _gauge(
        "storage_retention_achieved_days",
        "Days of the camera's footage kept, as the retention report counts them",
        "camera_id",
    )
    disk_free = _gauge("storage_disk_free_bytes", "Free bytes on the root's disk", "root")
    place_ok = _gauge(
        "storage_place_ok",
        "1 while the root, folder or bucket is the one that the journal knows",
        "kind",
        "location",
    )
    disk_total = _gauge(
        "storage_disk_total_bytes",
        "Size of the root's disk, without what is kept back for the superuser",
        "root",
    )
    disk_days_left = _gauge(
        "storage_disk_days_left",
        "Days until the root's disk is full at the measured rate; +Inf where it never is",
        "root",
    )

    # Read back, and asked again

    scrubbed_bytes = _counter(
        "storage_scrubbed_bytes", "Bytes of copies read back and found right", "backend"
    )
    scrub_mismatches = _counter(
        "storage_scrub_mismatches", "Copies that were read back twice and are damaged or missing", "backend"
    )
    scrub_age = _gauge(
        "storage_scrub_age_seconds",
        "Time since the copy that is next to be read back was last proven; 0 with none",
        "backend",
    )
    vms_gaps = _gauge("storage_vms_gaps", "Copies that XProtect does not hold although it should")

    # Settings, cameras, alarms and holds

    config_info = _gauge(
        "storage_config_info",
        "1 for the configuration in force: what the settings call it, and its hash",
        "version",
        "hash",
    )
    config_waiting = _gauge(
        "storage_config_waiting", "Settings that a reload has read and that wait for a restart"
    )
    segment_age = _gauge(
        "storage_segment_age_seconds",
        "Time, of that in which the daemon looked, since a new segment of the camera was registered",
        "camera_id",
    )
    alarms = _gauge("storage_alarms", "Alarms that sound now", "alarm")
    holds = _gauge("storage_holds", "Holds in force")

    # XProtect, and the device that it retrieves from

    vms_grade = _gauge("storage_vms_condition", "XProtect: 0 well, 1 degraded, 2 coverage cannot be proven")
    vms_clock_skew = _gauge("storage_vms_clock_skew_seconds", "XProtect's clock minus ours")
    vms_coverage_lag = _gauge(
        "storage_vms_coverage_lag_seconds",
        "How far XProtect's recordings are behind the camera's newest footage here",
        "camera_id",
    )
    vms_cameras_unmapped = _gauge("storage_vms_cameras_unmapped", "Cameras without a counterpart in XProtect")
    onvif_logins_failed = _counter(
        "storage_onvif_logins_failed", "Log-ins at the ONVIF device with a wrong name or password", "side"
    )

    # The journal, and the sources it lets go

    journal_full = _gauge("storage_journal_full", "1 while the journal's disk has no room")
    journal_recovered = _counter(
        "storage_journal_recovered", "Times a damaged journal was put aside at start"
    )
    sources_pruned = _counter("storage_sources_pruned", "Sources unlinked after every copy was verified")

    # Thumbnails

    thumbnails_made = _counter("storage_thumbnails_made", "Thumbnails drawn from footage", "occasion")
    thumbnails_served = _counter(
        "storage_thumbnails_served", "Thumbnails given to clients, by where they came from", "origin"
    )
    thumbnail_failures = _counter(
        "storage_thumbnail_failures", "Thumbnails that could not be made or shelved", "reason"
    )
    thumbnails_skipped = _counter(
        "storage_thumbnails_skipped", "New segments left without a thumbnail until somebody asks for one"
    )

    # The API

    http_requests = _histogram(
        "storage_http_request_seconds",
        "Time to answer an API request",
        "route",
        "method",
        "status",
        buckets=(0.001, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    )
