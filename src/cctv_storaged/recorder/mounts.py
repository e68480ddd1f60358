"""Which kind of file system a path lies on: events of other hosts' writes do not reach inotify."""

import os
from dataclasses import dataclass
from pathlib import Path

NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs", "lustre", "ocfs2", "gfs2"}
)
SHARED_TYPES = frozenset({"virtiofs", "vboxsf", "vmhgfs", "prl_fs", "beegfs", "gpfs", "orangefs", "autofs"})
"""Folders that a virtual machine shares with its host, clusters, and what mounts itself when it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5))."""

    point: str
    type: str
    source: str = ""  # what is mounted: a device, or a host and what it exports

    @property
    def remote(self) -> bool:
        """Whether others can change files here without this kernel knowing; FUSE may, so it counts."""
        return self.type in NETWORK_TYPES | SHARED_TYPES or self.type.startswith("fuse")


def mount_of(path: str, mountinfo: str | None = None) -> Mount:
    """The mount that holds `path` (resolved); the last one mounted there counts."""
    text = (
        Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape") if mountinfo is None else mountinfo
    )
    resolved = os.path.realpath(path)
    best = Mount(point="/", type="unknown")
    for line in text.splitlines():
        mount = _parsed(line)
        if mount is not None and _holds(mount.point, resolved) and len(mount.point) >= len(best.point):
            best = mount
    return best


def _parsed(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    fields, kind = before.split(" "), after.split(" ")
    if not separator or len(fields) < 5 or len(kind) < 2:
        return None
    return Mount(point=_unescaped(fields[4]), type=kind[0], source=_unescaped(kind[1]))


def _unescaped(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _holds(point: str, path: str) -> bool:
    return point in ("/", path) or path.startswith(point + "/")
