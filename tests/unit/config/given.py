"""A settings file and an environment, given as text, and what comes of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cctv_storaged.config import ExtraCheck, Settings, load_settings
from cctv_storaged.errors import ConfigError, Fault


def load(
    folder: Path, text: str = "", environ: Mapping[str, str] | None = None, checks: Sequence[ExtraCheck] = ()
) -> Settings:
    """The settings from a file `config.yaml` of this text."""
    path = folder / "config.yaml"
    path.write_text(text)
    return load_settings(path, environ or {}, checks)


def faults_of(
    folder: Path, text: str = "", environ: Mapping[str, str] | None = None, checks: Sequence[ExtraCheck] = ()
) -> tuple[Fault, ...]:
    """The faults the same is refused with; their places without the folder."""
    with pytest.raises(ConfigError) as refused:
        load(folder, text, environ, checks)
    return tuple(
        Fault(fault.where.replace(f"{folder}/", ""), fault.message, fault.hint)
        for fault in refused.value.faults
    )


def only_fault(folder: Path, text: str = "", environ: Mapping[str, str] | None = None) -> Fault:
    """The fault, where there is exactly one."""
    (fault,) = faults_of(folder, text, environ)
    return fault
