"""Settings: the only reader of file and environment. Out come frozen, typed, checked values.

    file (yamlfile) ─► draft ◄─ environment, credentials (sources)
                         │
                         ▼ load: models (settings, milestone, values), rules ─► Settings, or every fault
                           (by hand: with the credentials of the running unit)

It does not know who uses a setting; whatever only another part can judge comes in as an extra check.
"""

from cctv_storaged.config.byhand import credential_remedy, load_by_hand
from cctv_storaged.config.effective import effective, fingerprint_of, secrets_of
from cctv_storaged.config.load import ExtraCheck, load_settings
from cctv_storaged.config.milestone import Milestone
from cctv_storaged.config.reload import ReloadPlan, reloadable_difference
from cctv_storaged.config.rules import folder_faults, is_loopback
from cctv_storaged.config.settings import (
    S3,
    Api,
    Capacity,
    ConfiguredCamera,
    Delivery,
    Exports,
    Filesystem,
    Minio,
    Postgres,
    Recorder,
    Retention,
    RetentionRule,
    Settings,
    Source,
    Thumbnails,
)
from cctv_storaged.config.window import TimeWindow

__all__ = [
    "S3",
    "Api",
    "Capacity",
    "ConfiguredCamera",
    "Delivery",
    "Exports",
    "ExtraCheck",
    "Filesystem",
    "Milestone",
    "Minio",
    "Postgres",
    "Recorder",
    "ReloadPlan",
    "Retention",
    "RetentionRule",
    "Settings",
    "Source",
    "Thumbnails",
    "TimeWindow",
    "credential_remedy",
    "effective",
    "fingerprint_of",
    "folder_faults",
    "is_loopback",
    "load_by_hand",
    "load_settings",
    "reloadable_difference",
    "secrets_of",
]
