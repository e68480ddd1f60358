"""Every Prometheus metric: name, labels, help text. One instance a process; tests make their own.

Labels come from known cameras, configured backends and fixed words only, so that no file name can make
the number of series grow.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

# Else a "_created" stands beside every series, which no reader of the text format asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class Metrics:
    """The metrics of one daemon, in a registry of their own."""

    def __init__(self) -> None:  # noqa: PLR0915 - a statement a metric
        registry = CollectorRegistry()
        self.registry = registry
        self.segments_stored = Counter(
            "storage_segments_stored",
            "Segments whose copy at the backend was verified",
            ("backend", "mode"),
            registry=registry,
        )
        self.segments_retrieved = Counter(
            "storage_segments_retrieved", "Segments read for a client", ("backend",), registry=registry
        )
        self.segments_deleted = Counter(
            "storage_segments_deleted", "Copies deleted on purpose", ("backend",), registry=registry
        )
        self.exports_created = Counter(
            "storage_exports_created", "Exports that reached this status", ("status",), registry=registry
        )
        self.export_duration = Histogram(
            "storage_export_duration_seconds",
            "Time an export took, by how it ended",
            ("status",),
            buckets=LATENCY_S,
            registry=registry,
        )
        self.bytes_used = Gauge(
            "storage_bytes_used",
            "Bytes this host keeps at the backend",
            ("backend", "bucket"),
            registry=registry,
        )
        self.segments_count = Gauge(
            "storage_segments_count",
            "Segments of the camera in the journal",
            ("camera_id",),
            registry=registry,
        )
        self.errors = Counter(
            "storage_errors", "Failures, by what was being done", ("operation", "backend"), registry=registry
        )
        self.backlog_segments = Gauge(
            "storage_upload_backlog_segments",
            "Segments not yet verified there",
            ("backend",),
            registry=registry,
        )
        self.backlog_bytes = Gauge(
            "storage_upload_backlog_bytes", "Bytes not yet verified there", ("backend",), registry=registry
        )
        self.oldest_undelivered = Gauge(
            "storage_oldest_undelivered_seconds",
            "Age of the oldest segment not yet verified there; 0 with none",
            ("backend",),
            registry=registry,
        )
        self.copies_failed = Gauge(
            "storage_copies_failed", "Copies that wait for a human", ("backend",), registry=registry
        )
        self.ingest_seconds = Histogram(
            "storage_ingest_seconds",
            "From a file's close to its journal row",
            buckets=LATENCY_S,
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "storage_delivery_seconds",
            "From a file's close to its verified copy",
            ("backend",),
            buckets=LATENCY_S,
            registry=registry,
        )
        self.segments_quarantined = Gauge(
            "storage_segments_quarantined", "Files set aside now", ("reason",), registry=registry
        )
        self.segments_lost = Counter(
            "storage_segments_lost", "Segments lost (each is in the ledger)", ("cause",), registry=registry
        )
        self.scan_found = Counter(
            "storage_scan_found",
            "Closed files that a scan found and no event had announced",
            registry=registry,
        )
        self.scan_seconds = Gauge(
            "storage_scan_seconds", "Duration of the root's last scan", ("root",), registry=registry
        )
        self.watcher_overflows = Counter(
            "storage_watcher_overflows", "Times the kernel dropped inotify events", registry=registry
        )
        self.watcher_up = Gauge(
            "storage_watcher_up",
            "1 while events of the root arrive, 0 while it is polled",
            ("root",),
            registry=registry,
        )
        self.root_up = Gauge(
            "storage_root_up", "1 while the recorder root can be read", ("root",), registry=registry
        )
        self.folders_unreadable = Gauge(
            "storage_folders_unreadable",
            "Folders of the root that refuse to be read: their segments are not registered",
            ("root",),
            registry=registry,
        )
        self.files_unreadable = Gauge(
            "storage_files_unreadable",
            "Files of the root that refuse to be read: they are not registered",
            ("root",),
            registry=registry,
        )
        self.backend_up = Gauge(
            "storage_backend_up", "1 while the backend takes segments", ("backend",), registry=registry
        )
        self.catalog_up = Gauge("storage_catalog_up", "1 while PostgreSQL takes rows", registry=registry)
        self.catalog_lag = Gauge(
            "storage_catalog_lag_segments", "Segments PostgreSQL has yet to be told of", registry=registry
        )
        self.retention_achieved = Gauge(
            "storage_retention_achieved_days",
            "Days of the camera's footage kept, as the retention report counts them",
            ("camera_id",),
            registry=registry,
        )
        self.disk_free = Gauge(
            "storage_disk_free_bytes", "Free bytes on the root's disk", ("root",), registry=registry
        )
        self.place_ok = Gauge(
            "storage_place_ok",
            "1 while the root, folder or bucket is the one that the journal knows",
            ("kind", "location"),
            registry=registry,
        )
        self.disk_total = Gauge(
            "storage_disk_total_bytes",
            "Size of the root's disk, without what is kept back for the superuser",
            ("root",),
            registry=registry,
        )
        self.disk_days_left = Gauge(
            "storage_disk_days_left",
            "Days until the root's disk is full at the measured rate; +Inf where it never is",
            ("root",),
            registry=registry,
        )
        self.scrubbed_bytes = Counter(
            "storage_scrubbed_bytes",
            "Bytes of copies read back and found right",
            ("backend",),
            registry=registry,
        )
        self.scrub_mismatches = Counter(
            "storage_scrub_mismatches",
            "Copies that were read back twice and are damaged or missing",
            ("backend",),
            registry=registry,
        )
        self.scrub_age = Gauge(
            "storage_scrub_age_seconds",
            "Time since the copy that is next to be read back was last proven; 0 with none",
            ("backend",),
            registry=registry,
        )
        self.vms_gaps = Gauge(
            "storage_vms_gaps", "Copies that XProtect does not hold although it should", registry=registry
        )
        self.config_info = Gauge(
            "storage_config_info",
            "1 for the configuration in force: what the settings call it, and its hash",
            ("version", "hash"),
            registry=registry,
        )
        self.config_waiting = Gauge(
            "storage_config_waiting",
            "Settings that a reload has read and that wait for a restart",
            registry=registry,
        )
        self.segment_age = Gauge(
            "storage_segment_age_seconds",
            "Time, of that in which the daemon looked, since a new segment of the camera was registered",
            ("camera_id",),
            registry=registry,
        )
        self.alarms = Gauge("storage_alarms", "Alarms that sound now", ("alarm",), registry=registry)
        self.holds = Gauge("storage_holds", "Holds in force", registry=registry)
        self.vms_grade = Gauge(
            "storage_vms_condition",
            "XProtect: 0 well, 1 degraded, 2 coverage cannot be proven",
            registry=registry,
        )
        self.vms_clock_skew = Gauge(
            "storage_vms_clock_skew_seconds", "XProtect's clock minus ours", registry=registry
        )
        self.vms_coverage_lag = Gauge(
            "storage_vms_coverage_lag_seconds",
            "How far XProtect's recordings are behind the camera's newest footage here",
            ("camera_id",),
            registry=registry,
        )
        self.vms_cameras_unmapped = Gauge(
            "storage_vms_cameras_unmapped", "Cameras without a counterpart in XProtect", registry=registry
        )
        self.onvif_logins_failed = Counter(
            "storage_onvif_logins_failed",
            "Log-ins at the ONVIF device with a wrong name or password",
            ("side",),
            registry=registry,
        )
        self.of_vms = (
            *(self.vms_gaps, self.vms_grade, self.vms_clock_skew),
            *(self.vms_coverage_lag, self.vms_cameras_unmapped),
        )
        self.journal_full = Gauge(
            "storage_journal_full", "1 while the journal's disk has no room", registry=registry
        )
        self.journal_recovered = Counter(
            "storage_journal_recovered", "Times a damaged journal was put aside at start", registry=registry
        )
        self.sources_pruned = Counter(
            "storage_sources_pruned", "Sources unlinked after every copy was verified", registry=registry
        )
        self.thumbnails_made = Counter(
            "storage_thumbnails_made", "Thumbnails drawn from footage", ("occasion",), registry=registry
        )
        self.thumbnails_served = Counter(
            "storage_thumbnails_served",
            "Thumbnails given to clients, by where they came from",
            ("origin",),
            registry=registry,
        )
        self.thumbnail_failures = Counter(
            "storage_thumbnail_failures",
            "Thumbnails that could not be made or shelved",
            ("reason",),
            registry=registry,
        )
        self.thumbnails_skipped = Counter(
            "storage_thumbnails_skipped",
            "New segments left without a thumbnail until somebody asks for one",
            registry=registry,
        )
        self.http_requests = Histogram(
            "storage_http_request_seconds",
            "Time to answer an API request",
            ("route", "method", "status"),
            buckets=(0.001, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=registry,
        )
