"""A Debian that boots its own systemd, in namespaces of its own, for tests of the package.

Made by debootstrap from the mirror that this machine's own apt sources name, booted by systemd-nspawn, and
entered by nsenter: neither registers with a service manager here, as there may be none. Its network is a
loopback of its own, so that its ports are nobody else's; what fetches packages for it has this machine's.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PACKAGES = "systemd,systemd-sysv,dbus,python3,curl,ca-certificates,procps"
RELEASE = "bookworm"
PATIENCE_S = 180.0
PAUSES_S = (5.0, 20.0)
ENVIRONMENT = (
    "env",
    "-i",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "DEBIAN_FRONTEND=noninteractive",
)


class Machine:
    """One that has booted."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._leader = leader

    def run(
        self, *words: str, check: bool = True, timeout_s: float = PATIENCE_S, fetches: bool = False
    ) -> str:
        """What a command in it prints; stderr goes along. `fetches`: it needs this machine's network."""
        own_network = () if fetches else ("-n",)
        into = ("nsenter", "-t", str(self._leader), "-m", "-u", "-i", *own_network, "-p", "-C", "--")
        done = subprocess.run(
            [*into, *ENVIRONMENT, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,  # whatever is signalled by mistake, it is not this test
        )
        assert not check or done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def shell(self, script: str, *, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check)

    def install(self, *words: str) -> None:
        """Packages: what they need is fetched first, and then `apt-get install` is all that is done."""
        install = ("apt-get", "-qq", "install", "-y", "--no-install-recommends")

        def fetch() -> None:
            self.run("apt-get", "-qq", "update", fetches=True)
            self.run(*install, "--download-only", *words, timeout_s=400, fetches=True)

        again(fetch)
        self.run(*install, *words)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.log()}"
            time.sleep(0.25)

    # The service

    @property
    def pid(self) -> str:
        """The daemon's, inside."""
        self.wait(lambda: self.show("MainPID") != "0" and self.get("/health"), "it runs")
        return self.show("MainPID")

    def show(self, what: str) -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "-P", what, "cctv-storaged").strip()

    def log(self, *options: str) -> str:
        return self.run(
            "journalctl", "-u", "cctv-storaged", "--no-pager", "-n", "3000", *options, check=False
        )

    def get(self, path: str) -> str:
        """The API's answer; empty where it gives none."""
        return self.run("curl", "-s", "--max-time", "20", f"http://127.0.0.1:8082{path}", check=False)

    @contextmanager
    def changed(self, settings: str) -> Iterator[None]:
        """The unit with a drop-in, restarted with it and, after the block, without."""
        folder = self.root / "etc/systemd/system/cctv-storaged.service.d"
        folder.mkdir(parents=True, exist_ok=True)
        drop_in = folder / "test.conf"
        drop_in.write_text(f"[Service]\n{settings}\n")
        try:
            self._restarted()
            yield
        finally:
            drop_in.unlink()
            self._restarted()

    def _restarted(self) -> None:
        """A start that fails is followed by another (Restart=): the one that lasts counts here."""
        self.shell("systemctl daemon-reload; systemctl restart cctv-storaged || true")
        self.wait(lambda: self.show("ActiveState") == "active" and self.get("/health"), "it runs again")

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file in it."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)


@contextmanager
def booted(folder: Path, files: Path) -> Iterator[Machine]:
    """A clean Debian, booted; the files of the folder `files` lie in its /root."""
    root = folder / "root"
    debian(root, PACKAGES)
    shutil.copytree(files, root / "root", dirs_exist_ok=True)
    with bus(), (folder / "console").open("wb") as console:
        nspawn = subprocess.Popen(
            [
                *("systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--console=pipe"),
                "--private-network",
                *("--directory", str(root), "--machine", f"nvr-{os.getpid()}", "--resolv-conf=off"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
        try:
            yield _up(root, nspawn, folder / "console")
        finally:
            nspawn.send_signal(signal.SIGTERM)  # an orderly shutdown of what runs in it
            try:
                nspawn.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(nspawn.pid, signal.SIGKILL)
                nspawn.wait(30)


def again(work: Callable[[], T]) -> T:
    """What comes from elsewhere may be away for a moment: it is asked three times."""
    for pause_s in PAUSES_S:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            return work()
        time.sleep(pause_s)
    return work()


def printed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints that makes something of what it fetches."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def debian(root: Path, packages: str = "") -> None:
    """A clean Debian below the folder, which reaches the mirror as this machine does."""
    made = ["debootstrap", "--variant=minbase", *([f"--include={packages}"] if packages else [])]

    def make() -> None:
        shutil.rmtree(root, ignore_errors=True)  # what is left of an attempt
        printed([*made, RELEASE, str(root), mirror()])

    again(make)
    for name in ("/etc/apt/apt.conf.d", "/etc/resolv.conf"):
        if Path(name).is_file():
            shutil.copy(name, root / name.lstrip("/"))


def mirror() -> str:
    """The address that this machine's own packages come from."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(place.read_text() for place in places if place.is_file())
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = re.search(r"(?:^URIs:|^deb(?: \[.*\])?) *(\S+)", "\n".join(lines), re.M)
    assert found is not None, "no apt source on this machine"
    return found[1]


@contextmanager
def bus() -> Iterator[None]:
    """A system bus, which systemd-nspawn asks for: one that is there is used."""
    if Path("/run/dbus/system_bus_socket").is_socket() and _answers():
        yield
        return
    Path("/run/dbus").mkdir(exist_ok=True)
    Path("/run/dbus/pid").unlink(missing_ok=True)
    bus = subprocess.Popen(["dbus-daemon", "--system", "--nofork", "--nopidfile"], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not _answers():
            assert time.monotonic() < deadline, "no system bus"
            time.sleep(0.1)
        yield
    finally:
        bus.terminate()
        bus.wait(30)


def _answers() -> bool:
    asked = [
        "dbus-send",
        "--system",
        "--print-reply",
        "--dest=org.freedesktop.DBus",
        "/",
        "org.freedesktop.DBus.ListNames",
    ]
    return subprocess.run(asked, capture_output=True, check=False, timeout=20).returncode == 0


def _up(root: Path, nspawn: subprocess.Popen[bytes], console: Path) -> Machine:
    """Waits until its systemd has started everything."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert nspawn.poll() is None, console.read_text(errors="replace")[-4000:]
        assert time.monotonic() < deadline, console.read_text(errors="replace")[-4000:]
        leader = child_of(nspawn.pid)
        if leader is not None and _comm(leader) == "systemd":  # before that it is on its way there
            machine = Machine(root, leader)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if machine.run("systemctl", "is-system-running", check=False).strip() in (
                    "running",
                    "degraded",
                ):
                    return machine
        time.sleep(0.5)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def child_of(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None
