"""Which mount holds a path, and whether inotify is of use there."""

from pathlib import Path

import pytest

from cctv_storaged.recorder.mounts import mount_of

TABLE = r"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:40 / /mnt/nas rw - nfs4 nas:/export rw
31 21 0:41 / /mnt/my\040share rw - cifs //nas/x rw
32 21 0:42 / /mnt/nas/local rw - xfs /dev/sdb rw
33 21 0:43 / /mnt/cloud rw - fuse.rclone remote: rw
""".strip()


def test_the_longest_mount_point_counts() -> None:
    assert mount_of("/mnt/nas/cam1", TABLE).type == "nfs4"
    assert mount_of("/mnt/nas/local/cam1", TABLE).type == "xfs"
    assert mount_of("/mnt/nasty", TABLE).type == "ext4"


def test_names_with_blanks_are_understood() -> None:
    assert mount_of("/mnt/my share/cam", TABLE).type == "cifs"


def test_network_and_fuse_mounts_are_remote() -> None:
    assert mount_of("/mnt/nas", TABLE).remote
    assert mount_of("/mnt/my share", TABLE).remote
    assert mount_of("/mnt/cloud", TABLE).remote
    assert not mount_of("/mnt/nas/local", TABLE).remote


@pytest.mark.parametrize("kind", ["virtiofs", "vboxsf", "autofs"])
def test_folders_shared_with_a_host_and_automounts_are_remote(kind: str) -> None:
    """The host writes without this kernel knowing; what an automount will be, nobody knows yet."""
    assert mount_of("/rec/gate", f"1 2 0:40 / /rec rw - {kind} share rw").remote


def test_this_machine_has_a_root(tmp_path: Path) -> None:
    assert mount_of(str(tmp_path)).type != "unknown"
