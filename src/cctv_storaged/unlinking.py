"""Unlinking sources, one or many: each is checked, each folder synced once. No other code unlinks one."""

import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from cctv_storaged.errors import NotASegment, SegmentError, SourceChanged
from cctv_storaged.model import FileIdentity, Segment, identity_of
from cctv_storaged.recorder.source import open_folder

log = logging.getLogger(__name__)

Opened = Callable[[str], AbstractContextManager[str]]
"""By a recorder root: a path to it that leads to the right disk while the block lasts."""
IsIt = Callable[[FileIdentity, FileIdentity], bool]


def unlink_sources(segments: Sequence[Segment], is_it: IsIt, opened: Opened) -> Mapping[UUID, Exception]:
    """Removes them; of those that stay, why: SourceChanged where nothing, or another file, has the name,
    NotASegment with a link on the way, what `opened` raises, and OSError. Blocking.
    """
    folders: dict[tuple[str, str], list[Segment]] = {}
    for segment in segments:
        folder = os.path.dirname(segment.source.path)
        folders.setdefault((segment.source.root, folder), []).append(segment)
    failures: dict[UUID, Exception] = {}
    for (root, folder), inside in folders.items():
        try:
            with opened(root) as path, open_folder(path, folder) as parent:
                failures |= _unlink_in(parent, inside, is_it)
        except FileNotFoundError:
            failures |= {each.id: _not_there(each) for each in inside}
        except (SegmentError, OSError) as exc:
            failures |= dict.fromkeys((each.id for each in inside), exc)
    return failures


def _unlink_in(parent: int, segments: Sequence[Segment], is_it: IsIt) -> dict[UUID, Exception]:
    failures: dict[UUID, Exception] = {}
    for segment in segments:
        try:
            _unlink(parent, segment, is_it)
        except (SegmentError, OSError) as exc:
            failures[segment.id] = exc
    if len(failures) < len(segments):
        sync_folder(parent)
    return failures


def _unlink(parent: int, segment: Segment, is_it: IsIt) -> None:
    name = os.path.basename(segment.source.path)
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError as exc:
        raise _not_there(segment) from exc
    if not stat.S_ISREG(status.st_mode):
        raise NotASegment("not_a_file", f"{segment.source.path!r} is no regular file")
    found = identity_of(status)
    if not is_it(segment.source.identity, found):
        raise SourceChanged(f"the file is not the one that was registered ({found})")
    os.unlink(name, dir_fd=parent)


def _not_there(segment: Segment) -> SourceChanged:
    return SourceChanged(f"{segment.source.path!r} is not there (any more)")


def sync_folder(folder: int) -> None:
    """Makes unlinks durable. One that a power cut takes back is seen by the scan: no harm is done."""
    try:
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        log.warning("a folder could not be synchronised after an unlink: %s", exc)
