"""A peer that says back whatever it was sent, as an error: over HTTP, and as a PostgreSQL server.

Whoever puts a peer's words into a log, an answer or a metric puts its own secrets there with them.
"""

import json
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote_plus


class Heard:
    """What peers were sent, for a test to see that the secrets got there."""

    def __init__(self) -> None:
        self.text = ""


class _Http(BaseHTTPRequestHandler):
    heard: ClassVar[Heard]

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode(errors="replace") if length < 100_000 else ""
        said = f"{self.command} {self.path} {dict(self.headers)} {body} {unquote_plus(body)}"
        self.heard.text += said
        if self.path.endswith("/uris"):  # XProtect's addresses, without which nobody would log in
            here = f"http://{self.headers['Host']}"
            told = {
                "ProductVersion": "25.2.1",
                "IdentityProvider": f"{here}/IDP",
                "ApiGateways": [f"{here}/API/"],
            }
            self._send(200, "application/json", json.dumps(told).encode())
            return
        text = said.replace("&", " ").replace("<", " ").replace(">", " ")
        xml = f"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>{text}</Message></Error>"
        self._send(403, "application/xml", xml.encode(errors="replace"))

    def _send(self, status: int, kind: str, sent: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # whatever the method
            return self.answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Nothing: what is of interest is in `heard`."""


class _Postgres(socketserver.BaseRequestHandler):
    heard: ClassVar[Heard]

    def handle(self) -> None:
        length = self._length()
        if length == 8:  # SSLRequest
            self.request.recv(4)
            self.request.sendall(b"N")
            length = self._length()
        self.request.recv(length - 4)
        self.request.sendall(b"R" + struct.pack(">II", 8, 3))  # AuthenticationCleartextPassword
        if self.request.recv(1) == b"p":
            password = self.request.recv(self._length() - 4).rstrip(b"\0")
            self.heard.text += password.decode()
            fields = b"SFATAL\0VFATAL\0C28P01\0Mthe password " + password + b" is wrong\0\0"
            self.request.sendall(b"E" + struct.pack(">I", 4 + len(fields)) + fields)

    def _length(self) -> int:
        given = self.request.recv(4)
        return int(struct.unpack(">I", given)[0]) if len(given) == 4 else 4


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def echoing() -> Iterator[tuple[int, int, Heard]]:
    """The ports of the HTTP and of the PostgreSQL peer, and what they heard."""
    heard = Heard()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Http", (_Http,), {"heard": heard}))
    postgres = _Server(("127.0.0.1", 0), type("Postgres", (_Postgres,), {"heard": heard}))
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in (http, postgres)]
    for thread in threads:
        thread.start()
    try:
        yield http.server_address[1], postgres.server_address[1], heard
    finally:
        for server in (http, postgres):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
