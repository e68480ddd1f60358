"""Removing objects that are files, folder by folder: each folder is synchronised once, however many go."""

import contextlib
import os
from collections.abc import Mapping, Sequence

from cctv_storaged.backends.folders import Base, folder, remove_empty, split
from cctv_storaged.backends.oserrors import translated
from cctv_storaged.errors import BackendError, BackendUnavailable


def unlink_object(base: Base, path: str) -> None:
    """One that is not there is success. Raises BackendError. Blocking."""
    for failure in unlink_objects(base, [path]).values():
        raise failure


def unlink_objects(base: Base, paths: Sequence[str]) -> Mapping[str, BackendError]:
    """What is not gone, and why. Raises BackendUnavailable where the base is away. Blocking."""
    folders: dict[tuple[str, ...], dict[str, str]] = {}
    failures: dict[str, BackendError] = {}
    for path in paths:
        try:
            names, name = split(path)
        except BackendError as exc:
            failures[path] = exc
        else:
            folders.setdefault(names, {})[name] = path
    for names, inside in folders.items():
        failures |= _unlink_below(base, names, inside)
    return failures


def _unlink_below(base: Base, names: tuple[str, ...], paths: Mapping[str, str]) -> dict[str, BackendError]:
    """`paths` by the name in the folder."""
    failures: dict[str, BackendError] = {}
    try:
        with translated(f"delete in {'/'.join(names)} below {base}"):
            failures = _unlink_in(base, names, paths)
    except BackendUnavailable as exc:
        if exc.reason != "auth":
            raise
        failures = dict.fromkeys(paths.values(), exc)
    except BackendError as exc:
        failures = dict.fromkeys(paths.values(), exc)
    remove_empty(base, names)
    return failures


def _unlink_in(base: Base, names: tuple[str, ...], paths: Mapping[str, str]) -> dict[str, BackendError]:
    failures: dict[str, BackendError] = {}
    gone = False
    with contextlib.suppress(FileNotFoundError), folder(base, names) as inside:
        for name, path in paths.items():
            try:
                with translated(f"delete {path} below {base}"), contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=inside)
                    gone = True
            except BackendError as exc:
                failures[path] = exc
        if gone:
            os.fsync(inside)
    return failures
