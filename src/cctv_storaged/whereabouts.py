"""Where a segment's source is now: there, another file, truly gone, or out of reach. Looks only; blocking.

An unmounted disk makes every file of it vanish. That is no loss, and nothing may be marked for it, so "gone"
is said only when the root is the one that the journal knows (guarding/), and the folder the file lay in, or
the nearest one left above it, is on the disk it was on.
"""

import os
from dataclasses import replace
from enum import Enum

from cctv_storaged.errors import NotASegment, WrongDisk
from cctv_storaged.guarding.roots import UNGUARDED, Roots
from cctv_storaged.model import FileIdentity, Segment, SourceFile, identity_of
from cctv_storaged.recorder.source import open_folder


class Whereabouts(Enum):
    """What stands where the source was."""

    HERE = "here"  # a file of its size and time
    ANOTHER = "another"  # a file of the same name with other bytes
    GONE = "gone"  # nothing, on the very disk it was on
    AWAY = "away"  # its root or its disk is not there
    UNREACHABLE = "unreachable"  # something else is in the way: rights, a link, a broken disk


def whereabouts(segment: Segment, roots: Roots = UNGUARDED) -> Whereabouts:
    """Looks; follows no link below the root."""
    try:
        with roots.opened(segment.source.root) as root:
            return _beneath(replace(segment.source, root=root))
    except WrongDisk:
        return Whereabouts.AWAY


def _beneath(source: SourceFile) -> Whereabouts:
    folder, name = os.path.split(source.path)
    try:
        with open_folder(source.root, folder) as parent:
            found = identity_of(os.stat(name, dir_fd=parent, follow_symlinks=False))
    except FileNotFoundError:
        return _without_the_file(source)
    except (NotASegment, OSError):
        return Whereabouts.UNREACHABLE if _root_is_there(source.root) else Whereabouts.AWAY
    return Whereabouts.HERE if same_version(source.identity, found) else Whereabouts.ANOTHER


def same_version(registered: FileIdentity, found: FileIdentity) -> bool:
    """Whether it is the registered version of the file, wherever it lies now.

    Device and inode change when a disk is replaced and its files are copied back.
    """
    return (registered.size_bytes, registered.mtime_ns) == (found.size_bytes, found.mtime_ns)


def _without_the_file(source: SourceFile) -> Whereabouts:
    folder = os.path.dirname(source.path)
    while True:
        try:
            with open_folder(source.root, folder) as nearest:
                on_its_disk = os.fstat(nearest).st_dev == source.identity.device
                return Whereabouts.GONE if on_its_disk else Whereabouts.AWAY
        except FileNotFoundError:
            if not folder:
                return Whereabouts.AWAY
            folder = os.path.dirname(folder)
        except (NotASegment, OSError):
            return Whereabouts.UNREACHABLE


def _root_is_there(root: str) -> bool:
    try:
        with open_folder(root, ""):
            return True
    except OSError:
        return False
