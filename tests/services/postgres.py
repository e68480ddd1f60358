"""A real PostgreSQL for tests: a throw-away cluster in a temporary folder, never as root, always stopped.

One cluster per pytest process (with xdist: per worker), so that a test may stop, crash or freeze its server
without another test noticing: inside one process tests run one after the other, and `postgres_cluster` is
handed out running. Each test gets a database of its own by `postgres_database`.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.services.ports import free_port

ROLE = "cctv"
PASSWORD = "correct horse battery staple"
SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
START_TIMEOUT_S = 60.0
LONGEST_SOCKET_PATH = 107  # bytes; sockaddr_un, unix(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase:
    """One database of a cluster and the way to it; owned by `user` unless made otherwise."""

    cluster: "PostgresCluster" = field(repr=False)
    host: str
    port: int
    name: str
    user: str = ROLE
    password: str = field(default=PASSWORD, repr=False)

    def sql(self, text: str) -> list[list[str]]:
        """What the superuser gets for one or more statements: rows of texts, NULL as an empty text."""
        return self.cluster.sql(text, database=self.name)

    def dump(self) -> str:
        """The whole schema as `pg_dump` writes it, without what changes from dump to dump."""
        text = self.cluster.tool("pg_dump", "--schema-only", "--no-owner", "-U", SUPERUSER, self.name)
        return "\n".join(line for line in text.splitlines() if not line.startswith(("\\", "--")))


class PostgresCluster:
    """A cluster of its own: `initdb` once, then start, stop, crash and freeze at will.

    TCP on 127.0.0.1 asks for the password (scram-sha-256); the unix socket trusts, for the superuser's use.
    `fsync` is off: what a killed server has written survives in the page cache, only a power cut would show.
    """

    def __init__(self) -> None:
        self.binaries = newest_binaries()
        self._as_user = _drop_rights()
        self.folder = _reachable_folder(self._as_user)
        self.port = free_port()
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgres-starter")
        self._server: subprocess.Popen[bytes] | None = None
        self._databases = 0

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def socket_folder(self) -> Path:
        return self.folder

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def create(self) -> None:
        """Make the cluster, start it, and make the role the daemon would have."""
        self._run(
            [
                str(self.binaries / "initdb"),
                *("--pgdata", str(self.data), "--username", SUPERUSER, "--encoding", "UTF8", "--no-locale"),
                *("--auth-local", "trust", "--auth-host", "scram-sha-256", "--no-sync"),
            ]
        )
        self.start()
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")

    def start(self, *settings: str) -> None:
        """Start the server and wait until it takes connections; `settings` as in `name=value`."""
        assert not self.running, "the server runs already"
        # The server dies with the thread that began it (prctl(2), PR_SET_PDEATHSIG), hence one that stays.
        self._server = self._starter.submit(self._begin, settings).result()
        wait_until(self._accepts, START_TIMEOUT_S, lambda: f"PostgreSQL does not start:\n{self.log[-4000:]}")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server as `pg_ctl stop -m MODE` would: smart, fast or immediate (a crash)."""
        if self._server is None:
            return
        how = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self.running:
            self.thaw()
            self._server.send_signal(how)
        self._server.wait(START_TIMEOUT_S)
        self._server = None

    def restart(self, mode: str = "fast", *settings: str) -> None:
        self.stop(mode)
        self.start(*settings)

    def take_over(self) -> None:
        """Let the server end as a standby does that becomes the primary: on a new timeline."""
        self.stop()
        (self.data / "standby.signal").touch()
        self.start()
        self.sql("SELECT pg_promote()")
        self.sql("CHECKPOINT")

    def ensure_running(self) -> None:
        """Whatever the test before did to the server: it runs again, with its usual settings."""
        if self.running:
            self.thaw()
        else:
            self._server = None
            self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server neither answers nor hangs up: all its processes stopped by SIGSTOP."""
        for process in (*self._processes()[:1], *self._processes()):  # the server first: it begins no more
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            self.thaw()

    def install(self, file: Path, name: str) -> None:
        """Put a file into the cluster's folder, owned as the server wants its secrets to be."""
        installed = self.data / name
        shutil.copyfile(file, installed)
        owner = self.data.stat()
        os.chown(installed, owner.st_uid, owner.st_gid)
        installed.chmod(0o600)

    def thaw(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def destroy(self) -> None:
        self.stop("immediate")
        self._starter.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, text: str, *, database: str = "postgres") -> list[list[str]]:
        """Statements by the superuser over the unix socket; rows of texts."""
        answer = self.tool(
            "psql",
            "-XqAt",
            "-F",
            "\x1f",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            SUPERUSER,
            "-d",
            database,
            "-c",
            text,
        )
        return [line.split("\x1f") for line in answer.splitlines()]

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of PostgreSQL's own programs against this cluster; its standard output."""
        return self._run(
            [str(self.binaries / name), "-h", str(self.socket_folder), "-p", str(self.port), *arguments]
        )

    def create_database(self, *, owner: str = ROLE, template: str = "template0") -> PostgresDatabase:
        self._databases += 1
        name = f"test_{self._databases}"
        self.sql(f"CREATE DATABASE {name} OWNER {owner} TEMPLATE {template}")
        return self.database(name)

    def database(self, name: str, *, user: str = ROLE, password: str = PASSWORD) -> PostgresDatabase:
        """A way to a database that need not exist."""
        return PostgresDatabase(
            cluster=self, host=self.host, port=self.port, name=name, user=user, password=password
        )

    def drop_database(self, name: str) -> None:
        self.ensure_running()

        def dropped() -> bool:
            try:
                self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            except RuntimeError as exc:  # the server gives its sessions five seconds to go
                if "being accessed by other users" in str(exc):
                    return False
                raise
            return True

        wait_until(dropped, START_TIMEOUT_S, lambda: f"{name} cannot be dropped")

    def _begin(self, settings: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [*self._as_user, *self._server_command(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def _server_command(self, settings: Sequence[str]) -> list[str]:
        usual = (
            *(f"port={self.port}", f"listen_addresses={self.host}"),
            f"unix_socket_directories={self.socket_folder}",
            *("fsync=off", "full_page_writes=off", "max_connections=40", "shared_buffers=64MB"),
        )
        return [
            *(str(self.binaries / "postgres"), "-D", str(self.data)),
            *(part for setting in (*usual, *settings) for part in ("-c", setting)),
        ]

    def _accepts(self) -> bool:
        assert self._server is not None
        if self._server.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended at start:\n{self.log[-4000:]}")
        command = [str(self.binaries / "pg_isready"), "-q", "-h", self.host, "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _processes(self) -> list[psutil.Process]:
        if self._server is None:
            return []
        try:
            server = psutil.Process(self._server.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            [*self._as_user, *command], capture_output=True, text=True, cwd=self.folder, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr or done.stdout}")
        return done.stdout


def newest_binaries() -> Path:
    """Where the newest installed server's programs are; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    in_path = shutil.which("postgres")
    if found:
        return found[-1].parent
    if in_path:
        return Path(in_path).resolve().parent
    raise RuntimeError("no PostgreSQL server found: install the package `postgresql`")


def wait_until(condition: Callable[[], bool], timeout_s: float, complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint())
        time.sleep(0.02)


def _drop_rights() -> list[str]:
    """The command in front of every command: PostgreSQL refuses to run as root.

    With it the kernel also ends the server (SIGINT: fast stop) when this process dies.
    """
    guard = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() != 0:
        return guard
    account = pwd.getpwnam(UNPRIVILEGED)
    return [*guard, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


def _reachable_folder(as_user: Sequence[str]) -> Path:
    """A new folder that belongs to the server's user, on a path that this user may walk."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        folder = Path(tempfile.mkdtemp(prefix="pg-", dir=parent))
        if os.geteuid() == 0:
            account = pwd.getpwnam(UNPRIVILEGED)
            os.chown(folder, account.pw_uid, account.pw_gid)
        short = len(os.fsencode(folder / ".s.PGSQL.65535.lock")) <= LONGEST_SOCKET_PATH
        walks = subprocess.run([*as_user, "test", "-w", folder], check=False, cwd="/").returncode == 0
        if short and walks:
            return folder
        folder.rmdir()
    raise RuntimeError(f"no temporary folder that {UNPRIVILEGED} may use")


@pytest.fixture(scope="session")
def _cluster_of_the_session() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster()
    try:
        cluster.create()
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture
def postgres_cluster(_cluster_of_the_session: PostgresCluster) -> Iterator[PostgresCluster]:
    """A running server, with no trace of what a test before did to it."""
    _cluster_of_the_session.ensure_running()
    yield _cluster_of_the_session
    _cluster_of_the_session.ensure_running()


@pytest.fixture
def postgres_database(postgres_cluster: PostgresCluster) -> Iterator[PostgresDatabase]:
    """An empty database of the role `cctv`, gone after the test."""
    database = postgres_cluster.create_database()
    yield database
    postgres_cluster.drop_database(database.name)
