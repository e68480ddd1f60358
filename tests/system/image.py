"""The recipe of the image, followed step by step where no registry is, by systemd-nspawn.

It knows the instructions that packaging/oci/Containerfile uses, and fails at any other.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.system.machine import again, child_of, printed

QUIET = ("systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--resolv-conf=off")


@dataclass(slots=True)
class Image:
    """What a build gives."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    folder: str = "/"
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


class Builder:
    """Follows a recipe. `base` is what each FROM begins with, `wheels` what pip finds instead of an index."""

    def __init__(self, context: Path, base: Path, wheels: Path, folder: Path) -> None:
        self._context = folder / "context"
        _sent(context, self._context)
        self._base, self._wheels, self._folder = base, wheels, folder
        self._stages: dict[str, Image] = {}
        self._image = Image(Path("/nowhere"))

    def build(self, recipe: Path) -> Image:
        for line in recipe.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                word, _, rest = line.partition(" ")
                getattr(self, f"_{word.lower()}")(rest.strip())
        return self._image

    def _arg(self, rest: str) -> None:
        assert rest.startswith("DEBIAN=")

    def _from(self, rest: str) -> None:
        words = rest.split()
        assert words[0] == "${DEBIAN}"
        name = words[2] if len(words) == 3 else f"stage{len(self._stages)}"
        root = self._folder / name
        subprocess.run(["cp", "-a", "--reflink=auto", str(self._base), str(root)], check=True)
        self._image = self._stages[name] = Image(root)

    def _run(self, rest: str) -> None:
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "DEBIAN_FRONTEND": "noninteractive"}
        settings = [f"--setenv={key}={value}" for key, value in (self._image.environment | offline).items()]
        command = [
            *(*QUIET, "--pipe", "--directory", str(self._image.root), *settings),
            *(f"--bind-ro={self._wheels}:/wheels", "/bin/sh", "-c", rest),
        ]
        if rest.startswith("apt-get update"):
            again(lambda: printed(command))
        else:
            printed(command)

    def _copy(self, rest: str) -> None:
        words = shlex.split(rest)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = self._stages[options["from"]].root if "from" in options else self._context
        for source in sources:
            found = origin / source.lstrip("/")
            assert found.exists(), f"COPY {rest}: {source} is not in the context"
            to = self._image.root / target.lstrip("/")
            if target.endswith("/"):
                to /= found.name
            to.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(found, to)
            if "chmod" in options:
                to.chmod(int(options["chmod"], 8))

    def _env(self, rest: str) -> None:
        self._image.environment |= dict(word.split("=", 1) for word in shlex.split(rest))

    def _workdir(self, rest: str) -> None:
        self._image.folder = rest

    def _volume(self, rest: str) -> None:
        self._image.volumes += json.loads(rest)

    def _expose(self, rest: str) -> None:
        self._image.ports.append(rest)

    def _user(self, rest: str) -> None:
        self._image.user = rest

    def _stopsignal(self, rest: str) -> None:
        assert rest == "SIGTERM"

    def _healthcheck(self, rest: str) -> None:
        self._image.health = json.loads(rest.partition(" CMD ")[2])

    def _entrypoint(self, rest: str) -> None:
        self._image.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self._image.command = json.loads(rest)


@dataclass(slots=True)
class Container:
    """One that runs: a read-only root, volumes, a network of its own, and no rights."""

    process: subprocess.Popen[bytes]
    image: Image
    log_file: Path
    volumes: Mapping[str, Path]

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def pid(self) -> int | None:
        """Of its first process."""
        return child_of(self.process.pid)

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in it, as `docker exec` would."""
        pid = self.pid
        assert pid is not None, self.log
        user, group = self.image.user.split(":")
        settings = [f"{key}={value}" for key, value in self.image.environment.items()]
        return subprocess.run(
            [
                *("nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", f"--setgid={group}"),
                *(f"--setuid={user}", "--", "env", "-i", *settings, *words),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def stop(self) -> int:
        """As `docker stop` does; its exit code."""
        pid = self.pid
        assert pid is not None, self.log
        os.kill(pid, signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def run(
    image: Image, folder: Path, environment: Mapping[str, str], *, network: str, hosts: str
) -> Iterator[Container]:
    """`docker run --read-only --tmpfs /tmp`, with fresh volumes that have what the image has there."""
    volumes = {place: folder / place.strip("/").replace("/", "-") for place in image.volumes}
    for place, volume in volumes.items():
        subprocess.run(["cp", "-a", str(image.root / place.lstrip("/")), str(volume)], check=True)
    (folder / "hosts").write_text(hosts)
    (image.root / "etc/hosts").touch()  # every runtime brings one
    settings = [f"--setenv={key}={value}" for key, value in {**image.environment, **environment}.items()]
    user = _name_of(image)
    log_file = folder / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [
                *(*QUIET, "--console=pipe", "--read-only", "--no-new-privileges=yes", "--tmpfs=/tmp"),
                *("--directory", str(image.root), f"--user={user}", f"--chdir={image.folder}"),
                *(f"--bind={volume}:{place}" for place, volume in volumes.items()),
                *(f"--bind-ro={folder / 'hosts'}:/etc/hosts", f"--network-namespace-path={network}"),
                *(f"--machine=oci-{os.getpid()}", *settings, *image.entrypoint, *image.command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Container(process, image, log_file, volumes)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)


def _name_of(image: Image) -> str:
    """systemd-nspawn wants the user by name."""
    uid = image.user.partition(":")[0]
    accounts = [line.split(":") for line in (image.root / "etc/passwd").read_text().splitlines()]
    return next(account[0] for account in accounts if account[2] == uid)


def _sent(tree: Path, to: Path) -> None:
    """The context as a builder gets it by our .containerignore: all out, some in, some out again."""
    rules = [line for line in (tree / ".containerignore").read_text().splitlines() if line]
    rules = [line for line in rules if not line.startswith("#")]
    assert rules[0] == "*"
    wanted = [rule[1:] for rule in rules if rule.startswith("!")]
    unwanted = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]

    def out(_: str, names: Sequence[str]) -> list[str]:
        return [name for name in names if any(fnmatch(name, rule) for rule in unwanted)]

    for name in wanted:
        place = to / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (tree / name).is_dir():
            shutil.copytree(tree / name, place, ignore=out)
        else:
            shutil.copy2(tree / name, place)
