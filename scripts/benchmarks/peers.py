"""The other programs: how each is told to copy a folder into a bucket, four requests at a time."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.machine import first_line
from scripts.benchmarks.results import FOLDER
from scripts.benchmarks.server import REGION, Store

PARALLEL = 4
_VENV = FOLDER / "peers"  # made by scripts/bench
_S5CMD = next(_VENV.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"), _VENV / "s5cmd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program that copies folders into buckets."""

    name: str
    version: Callable[[], str]
    command: Callable[[Path, Store, str], list[str]]
    environ: Callable[[Store, Path], dict[str, str]]


def _s5cmd(folder: Path, store: Store, bucket: str) -> list[str]:
    """One part at a time for each of the four files, as the daemon does."""
    return [
        *(str(_S5CMD), "--log", "error", "--endpoint-url", store.url, "--numworkers", str(PARALLEL)),
        *("cp", "--concurrency", "1", f"{folder}/", f"s3://{bucket}/"),
    ]


def _rclone(folder: Path, store: Store, bucket: str) -> list[str]:
    return [
        *("rclone", "copy", "--transfers", str(PARALLEL), "--checkers", str(PARALLEL)),
        *("--s3-upload-concurrency", "1", "--s3-no-check-bucket", str(folder), f"bench:{bucket}"),
    ]


def _aws(folder: Path, store: Store, bucket: str) -> list[str]:
    return [
        *(str(_VENV / "bin" / "aws"), "--endpoint-url", store.url, "s3", "cp", "--recursive"),
        *("--only-show-errors", str(folder), f"s3://{bucket}/"),
    ]


def _keys(store: Store, scratch: Path) -> dict[str, str]:
    """The environment of every peer: keys, and no settings of this user's."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }


def _aws_environ(store: Store, scratch: Path) -> dict[str, str]:
    config = scratch / "aws-config"
    config.write_text(f"[default]\ns3 =\n  max_concurrent_requests = {PARALLEL}\n  addressing_style = path\n")
    return {**_keys(store, scratch), "AWS_CONFIG_FILE": str(config)}


def rclone_environ(store: Store, scratch: Path) -> dict[str, str]:
    """With a remote named `bench`."""
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": store.url,
        "REGION": REGION,
        "ACCESS_KEY_ID": store.access_key,
        "SECRET_ACCESS_KEY": store.secret_key,
    }
    settings = {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in remote.items()}
    return {**_keys(store, scratch), **settings, "RCLONE_CONFIG": "/notfound"}


PEERS = (
    Peer(
        name="s5cmd cp",
        version=lambda: f"s5cmd {first_line([str(_S5CMD), 'version'])}",
        command=_s5cmd,
        environ=_keys,
    ),
    Peer(
        name="rclone copy",
        version=lambda: first_line(["rclone", "version"]),
        command=_rclone,
        environ=rclone_environ,
    ),
    Peer(
        name="aws s3 cp",
        version=lambda: first_line([str(_VENV / "bin" / "aws"), "--version"]).split()[0],
        command=_aws,
        environ=_aws_environ,
    ),
)
