"""Which configuration is in force, as a fleet asks: its name, its hash, and what waits for a restart."""

import logging
from dataclasses import dataclass

from cctv_storaged.config import Settings, fingerprint_of
from cctv_storaged.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One that is in force."""

    version: str | None  # as the settings name it
    hash: str  # see `fingerprint_of`
    waiting: tuple[str, ...] = ()  # settings that were reloaded and wait for a restart

    @property
    def told(self) -> str:
        return f"{self.version or 'without a version'}, hash {self.hash[:12]}"


class ConfigurationInForce:
    """The one of this process; a reload changes it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self.now = self._take(settings, ())

    def change(self, settings: Settings, waiting: frozenset[str]) -> None:
        """These settings are in force from now on; `waiting` were read and are not."""
        self.now = self._take(settings, tuple(sorted(waiting)))

    def _take(self, settings: Settings, waiting: tuple[str, ...]) -> Configuration:
        taken = Configuration(version=settings.config_version, hash=fingerprint_of(settings), waiting=waiting)
        self._metrics.config_info.clear()
        self._metrics.config_info.labels(taken.version or "", taken.hash).set(1)
        self._metrics.config_waiting.set(len(waiting))
        log.info("configuration in force: %s", taken.told)
        return taken
