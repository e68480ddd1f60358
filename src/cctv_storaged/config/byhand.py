"""Settings for what is run by hand beside the service, whose secrets may be credentials of its unit.

systemd.exec(5), LoadCredential=: only the unit's own processes are told where they are. While the unit runs
they lie in a folder named after it, which root and the unit's user may read.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cctv_storaged.config.explain import how_to_set
from cctv_storaged.config.load import ExtraCheck, load_settings
from cctv_storaged.config.settings import Settings
from cctv_storaged.config.sources import VARIABLES
from cctv_storaged.errors import ConfigError, Fault

UNIT_FOLDER = Path("/run/credentials/cctv-storaged.service")
KEPT_IN = Path("/etc/cctv-storaged/credentials")
"""Where the guide has them kept, for root alone."""


def load_by_hand(
    path: Path | None,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
    extra_checks: Sequence[ExtraCheck] = (),
) -> Settings:
    """As `load_settings`, with the credentials of the running unit where none are given and they may be read.

    `tell` hears of that. Raises ConfigError; of a secret that is missing it says how a credential is had.
    """
    if environ.get("CREDENTIALS_DIRECTORY"):
        return load_settings(path, environ, extra_checks)
    if _why_unread() is None:
        tell(f"credentials are those of the running unit, {UNIT_FOLDER}")
        return load_settings(path, {**environ, "CREDENTIALS_DIRECTORY": str(UNIT_FOLDER)}, extra_checks)
    try:
        return load_settings(path, environ, extra_checks)
    except ConfigError as exc:
        raise ConfigError([_with_remedy(fault, environ) for fault in exc.faults]) from None


def credential_remedy(name: str, environ: Mapping[str, str]) -> str:
    """How a credential of the unit is had by hand; empty where those that there are have been read."""
    why = None if environ.get("CREDENTIALS_DIRECTORY") else _why_unread()
    if why is None:
        return ""
    if isinstance(why, FileNotFoundError):
        return (
            "is it a credential of the unit, which does not run now: systemd-run --pipe --wait "
            f"-p LoadCredential={name}:{KEPT_IN / name} cctv-storaged …"
        )
    return f"is it a credential of the unit: sudo, as {UNIT_FOLDER} cannot be read: {why.strerror}"


def _why_unread() -> OSError | None:
    try:
        os.listdir(UNIT_FOLDER)
    except OSError as exc:
        return exc
    return None


def _with_remedy(fault: Fault, environ: Mapping[str, str]) -> Fault:
    for variable in VARIABLES:
        if variable.credential is not None and fault.hint == how_to_set(variable.key):
            return replace(fault, hint=f"{fault.hint}; {credential_remedy(variable.credential, environ)}")
    return fault
