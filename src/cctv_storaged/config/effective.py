"""Settings for people and for filters: what is in force with secrets starred, and the secrets themselves."""

import hashlib
import json
from collections.abc import Iterator

import yaml
from pydantic import BaseModel, SecretStr

from cctv_storaged.config.settings import Settings


def effective(settings: Settings) -> str:
    """The settings in force as YAML, in the order of the reference; a secret that is set shows as stars.

    Without secrets the text is a settings file that gives the same settings again.
    """
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def fingerprint_of(settings: Settings) -> str:
    """SHA-256, hex, of the settings in force: equal on hosts that are set alike, whatever wrote their files.

    Without what names the host or the roll-out; of a secret only whether there is one.
    """
    said = settings.model_dump(mode="json", exclude={"host_id", "config_version"})
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def secrets_of(settings: Settings) -> frozenset[str]:
    """Every secret value that is set, for the filter that keeps them out of the log."""
    return frozenset(secret for secret in _secrets(settings) if secret)


def _secrets(section: BaseModel) -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets(value)
