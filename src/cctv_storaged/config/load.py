"""Settings from file and environment: laid over one another, checked, with every fault told at once."""

import copy
import math
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cctv_storaged.config.draft import Draft
from cctv_storaged.config.explain import explain, how_to_set, key_of, nearest_key
from cctv_storaged.config.places import KeyPath, Places, key_path
from cctv_storaged.config.rules import Finding, findings
from cctv_storaged.config.settings import Settings
from cctv_storaged.config.shape import key_at
from cctv_storaged.config.sources import lay_over
from cctv_storaged.config.yamlfile import read_draft
from cctv_storaged.errors import ConfigError, Fault

ExtraCheck = Callable[[Settings], Iterable[Fault]]
"""A check by a part unknown here. The place of its faults is a key, as in `recorders[0].layout`."""

MOST_ROUNDS = 5


def load_settings(
    path: Path | None, environ: Mapping[str, str], extra_checks: Sequence[ExtraCheck] = ()
) -> Settings:
    """The settings in force for this file (None: no file) and environment.

    Reads that file, the files that `<VARIABLE>_FILE`, credentials and `password_file` name, and nothing else.
    Raises ConfigError with every fault that can be told without the others being mended first.
    """
    draft = Draft(Places(file=None)) if path is None else read_draft(str(path))
    lay_over(draft, environ)
    settings = _validated(draft, environ)
    if settings is not None and () not in draft.faulty:
        _cross_check(draft, settings, extra_checks)
    if draft.faults or settings is None:
        raise ConfigError(_in_order(draft))
    return settings


def _in_order(draft: Draft) -> tuple[Fault, ...]:
    """Each fault once: the file's from top to bottom, then those of the environment."""
    line = re.compile(rf"{re.escape(draft.places.file or '')}:(\d+)(?::|$)")

    def place(fault: Fault) -> float:
        found = line.match(fault.where)
        return math.inf if found is None else int(found[1])

    return tuple(sorted(dict.fromkeys(draft.faults), key=place))


def _validated(draft: Draft, environ: Mapping[str, str]) -> Settings | None:
    """The settings, or as much of them as is free of faults, so that the rest can be checked as well.

    What lacks a key it must have goes as a whole.
    """
    remaining = draft
    for _ in range(MOST_ROUNDS):
        _fill_in(remaining, environ)
        try:
            return Settings.model_validate(remaining.tree)
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
        for error in errors:
            _note(draft, error)
        going = {_whole_of(error) for error in errors}
        for key in going:
            draft.faulty.add(key)
        remaining = _without(remaining, going)
    return None


def _fill_in(draft: Draft, environ: Mapping[str, str]) -> None:
    """Defaults that follow from the host or from other settings."""
    draft.put_if_lacking(("host_id",), socket.gethostname())
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd.exec(5): a list, ours is the first
    draft.put_if_lacking(("data_dir",), state or "var")
    data_dir = draft.get(("data_dir",))
    usable = isinstance(data_dir, str) and "\0" not in data_dir  # its fault is not to be told three times
    base = str(data_dir) if usable else "var"
    draft.put_if_lacking(("filesystem", "path"), os.path.join(base, "store"))
    if ("recorders",) not in draft.places.lines or draft.lacks(("recorders",)):
        draft.put_if_lacking(("recorders", 0, "path"), os.path.join(base, "recordings"))


def _note(draft: Draft, error: ErrorDetails) -> None:
    """A fault, unless it only follows from another one that is told."""
    key = key_of(error)
    if () in draft.faulty and key not in draft.places.names:
        return  # the file could not be read: only what the environment says can be judged
    if draft.faulty.touches(key):
        return
    draft.faults.append(explain(error, draft.places))
    draft.faulty.add(key)
    nearest = nearest_key(key) if error["type"] == "extra_forbidden" else None
    if nearest is not None and draft.lacks(nearest):
        draft.faulty.add(nearest)  # it is not missing, it is misspelt


def _without(draft: Draft, keys: Iterable[KeyPath]) -> Draft:
    """A copy that lacks these keys."""
    rest = Draft(draft.places, copy.deepcopy(draft.tree))
    for key in keys:
        _remove(rest, key)
    return rest


def _whole_of(error: ErrorDetails) -> KeyPath:
    """What has to go with the fault: of a list everything, as what remained would have other places."""
    key = key_of(error)
    if error["type"] == "missing":
        key = key[:-1]
    while key and isinstance(key[-1], int):
        key = key[:-1]
    return key


def _remove(draft: Draft, key: KeyPath) -> None:
    if not key:
        return
    holder = draft.get(key[:-1])
    if isinstance(holder, dict):
        holder.pop(key[-1], None)
    else:
        _remove(draft, key[:-1])


def _cross_check(draft: Draft, settings: Settings, extra_checks: Sequence[ExtraCheck]) -> None:
    for finding in findings(settings):
        _report(draft, finding)
    for check in extra_checks:
        for fault in check(settings):
            key = key_path(fault.where)
            if key_at(key) is None:
                draft.faults.append(fault)
            else:
                _report(draft, Finding((key,), fault.message, fault.hint))


def _report(draft: Draft, finding: Finding) -> None:
    if any(draft.faulty.touches(key) for key in finding.keys):
        return
    key = finding.keys[0]
    hint = finding.hint or (how_to_set(key) if draft.lacks(key) else "")
    draft.faults.append(Fault(draft.places.where(key), finding.message, hint))
