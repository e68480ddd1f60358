"""Hosts with a network of their own: a namespace each, one cable (veth) to this machine, which can be pulled.

What listens on this machine's loopback is reached through a relay at this end of the cable. As root only.
"""

import contextlib
import ctypes
import errno
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
CHUNK_BYTES = 64 * 1024
POLL_S = 0.2
PATIENCE_S = 60.0


class Network:
    """One namespace with its cable."""

    def __init__(self, number: int) -> None:
        self._name = f"cs{os.getpid() % 10**7}n{number}"  # 15 characters at most
        self.here = f"10.213.{number}.1"
        self.there = f"10.213.{number}.2"
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 3600"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"
        self.inside = ("nsenter", "--net", "--target", str(self._keeper.pid), "--")
        self._relays: list[Relay] = []
        self._thread = ThreadPoolExecutor(max_workers=1, initializer=_enter, initargs=(self._keeper.pid,))

    def lay(self) -> None:
        """The cable, plugged in."""
        other = f"{self._name}p"[-15:]
        _ip("link", "add", self._name, "type", "veth", "peer", "name", other)
        _ip("link", "set", other, "netns", str(self._keeper.pid))
        _ip("addr", "add", f"{self.here}/30", "dev", self._name)
        self.plug()
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{self.there}/30", "dev", other),
            ("link", "set", other, "up"),
        ):
            subprocess.run([*self.inside, "ip", *words], check=True, timeout=20)

    @property
    def path(self) -> str:
        """The namespace, as a file."""
        return f"/proc/{self._keeper.pid}/ns/net"

    def relay(self, port: int, as_port: int | None = None) -> None:
        """This machine's loopback port, under the same number or another at our end of the cable."""
        self._relays.append(Relay(self.here, port if as_port is None else as_port, port))

    def pull(self) -> None:
        """From now on every packet is lost, without a word to anybody."""
        _ip("link", "set", self._name, "down")

    def plug(self) -> None:
        _ip("link", "set", self._name, "up")

    def ask(self, work: Callable[[], T]) -> T:
        """What the work gives when its sockets are made inside."""
        return self._thread.submit(work).result(120)

    def close(self) -> None:
        self._thread.shutdown()
        for relay in self._relays:
            relay.close()
        subprocess.run(["ip", "link", "del", self._name], check=False, stderr=subprocess.DEVNULL, timeout=20)
        self._keeper.kill()
        self._keeper.wait(20)
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()


@contextlib.contextmanager
def networks(names: Mapping[str, int], *ports: int) -> Iterator[dict[str, Network]]:
    """One for each name, by number; each reaches these ports of ours."""
    made: dict[str, Network] = {}
    try:
        for name, number in names.items():
            made[name] = Network(number)
            made[name].lay()
            for port in ports:
                made[name].relay(port)
        yield made
    finally:
        for network in made.values():
            network.close()


def _listening(address: str, port: int) -> socket.socket:
    """A port of one's own choice may be somebody's for a moment: one that is just leaving."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_server((address, port))
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


class Relay:
    """Carries connections to `port` on to one of the loopback."""

    def __init__(self, address: str, port: int, target: int) -> None:
        self._port = target
        self._listener = _listening(address, port)
        self._listener.settimeout(POLL_S)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(20)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):  # or who connected is gone already
                client, _ = self._listener.accept()
                carrier = threading.Thread(target=self._carry, args=(client,), daemon=True)
                self._threads.append(carrier)
                carrier.start()

    def _carry(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), 20) as server,
            selectors.DefaultSelector() as waiting,
        ):
            waiting.register(client, selectors.EVENT_READ, server)
            waiting.register(server, selectors.EVENT_READ, client)
            for each in (client, server):
                each.settimeout(20)
            while not self._closing.is_set():
                for key, _ in waiting.select(POLL_S):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(CHUNK_BYTES)
                    if not data:
                        return
                    key.data.sendall(data)


def _enter(pid: int) -> None:
    """Only this thread: a network belongs to a thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20)
