"""What comes from port 7563, taken apart as it arrives: XML documents and image responses. No I/O.

Either is ended by CR LF CR LF. An image response is lines of headers, an empty line, and a body: of
`Content-length` bytes, or multipart/related, whose parts have lengths of their own. Sources: MIP SDK,
"ImageServer request/response"; vendor sample `ImageServerConnection.cs`; multipart as seen on 2025 R3.
A length that is not true is seen by what does not follow it.
"""

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field

from cctv_storaged.backends.milestone.answers import Unreadable, plain
from cctv_storaged.backends.milestone.xmltree import MOST_BYTES as MOST_XML_BYTES
from cctv_storaged.errors import BackendUnavailable, ObjectRejected

_END = b"\r\n\r\n"
_MOST_HEADER_BYTES = 16 * 1024
_LATEST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
_NUMBER = re.compile(r"[0-9]{1,15}")
_BOUNDARY = re.compile(r"""boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))""", re.I)  # RFC 2046 5.1.1


_LARGE_BYTES = 1024 * 1024
"""A body of so many bytes is handed on as it lies in memory, and not copied."""

Body = bytes | bytearray


class AnswerTooLarge(ObjectRejected):
    """One group of pictures is larger than is read here."""


class Room:
    """Bytes of memory that all answers share which are in hand at the same time."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.taken_bytes = 0

    def take(self, by_bytes: int) -> None:
        """BackendUnavailable where others have too much of it: whoever waits in mid-answer would hold on to
        what the others wait for.
        """
        if self.taken_bytes + by_bytes > self._most_bytes:
            raise BackendUnavailable(
                f"too much footage is read at the same time for {by_bytes} bytes more: ask later",
                reason="space",
            )
        self.taken_bytes += by_bytes

    def give_back(self, by_bytes: int) -> None:
        self.taken_bytes -= by_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """The most that is taken in. Bytes and counts."""

    part_bytes: int = 16 * 1024 * 1024
    parts: int = 4096
    header_lines: int = 64
    xml_bytes: int = MOST_XML_BYTES
    answer_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class XmlDocument:
    """As it came, without the ending."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResponse:
    """One unit: a group of pictures, or a picture."""

    request_id: int | None
    previous_ms: int | None
    current_ms: int
    next_ms: int | None
    bodies: tuple[Body, ...] = field(repr=False)  # none: the database is empty

    @property
    def is_jpeg(self) -> bool:
        """By its first bytes: a bare JPEG may come under the generic type (vendor sample, comment)."""
        return any(body.startswith(b"\xff\xd8") for body in self.bodies)


Message = XmlDocument | ImageResponse

_Need = Generator[None, None, Message]
"""Parses one message; yields where it needs more bytes."""


class ImageWire:
    """Feed it bytes, take messages. After an error it must not be fed again."""

    def __init__(self, limits: WireLimits | None = None, room: Room | None = None) -> None:
        self._limits = limits or WireLimits()
        self._room = room or Room(self._limits.answer_bytes)
        self._taken_bytes = 0  # of the room, by the message that is in hand
        self._buffer = bytearray()
        self._parsing: _Need | None = None
        self._may_end = False  # whether one more CR LF CR LF may follow the last message

    @property
    def at_rest(self) -> bool:
        """Between two messages: whoever ends here has cut nothing."""
        return self._parsing is None and not self._buffer

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole with this. Unreadable, or AnswerTooLarge."""
        self._buffer += data
        while (message := self._step()) is not None:
            yield message

    def let_go(self) -> None:
        """Gives back the room of the message before; that of all with the connection's end."""
        self._room.give_back(self._taken_bytes)
        self._taken_bytes = 0

    def _step(self) -> Message | None:
        if self._parsing is None:
            self.let_go()
            if not self._at_message():
                return None
            self._parsing = self._message()
        try:
            next(self._parsing)
        except StopIteration as done:
            self._parsing = None
            message: Message = done.value
            return message
        return None

    def _at_message(self) -> bool:
        """Skips an ending that may be there or not: after no bytes, and after a multipart body."""
        if self._may_end and self._buffer:
            common = min(len(self._buffer), len(_END))
            if self._buffer[:common] == _END[:common]:
                if common < len(_END):
                    return False
                del self._buffer[:common]
            self._may_end = False
        return bool(self._buffer)

    def _message(self) -> _Need:
        if self._buffer.startswith(b"<"):
            found = yield from self._until(_END, self._limits.xml_bytes, "an XML document")
            return XmlDocument(found)
        head = yield from self._head("ImageResponse")
        return (yield from self._image(head))

    def _image(self, head: Mapping[str, str]) -> Generator[None, None, ImageResponse]:
        content_type = head.get("content-type", "")
        if content_type.lower().startswith("multipart/"):
            bodies = yield from self._multipart(content_type)
        else:
            bodies = yield from self._single(head)
        return ImageResponse(
            request_id=_number(head, "requestid"),
            previous_ms=_time(head, "prev"),
            current_ms=_required(_time(head, "current"), "Current"),
            next_ms=_time(head, "next"),
            bodies=bodies,
        )

    def _single(self, head: Mapping[str, str]) -> Generator[None, None, tuple[Body, ...]]:
        length = _required(_number(head, "content-length"), "Content-length")
        self._check_size(length, self._limits.answer_bytes)
        if length == 0:
            self._may_end = True
            return ()
        body = yield from self._take(length)
        yield from self._expect(_END, "the ending after an image: its Content-length is not true")
        return (body,)

    def _multipart(self, content_type: str) -> Generator[None, None, tuple[Body, ...]]:
        boundary = _boundary(content_type)
        bodies: list[Body] = []
        left = self._limits.answer_bytes
        while not self._buffer:
            yield
        if self._buffer[0] == ord("\r"):  # RFC 2046 lets a delimiter begin with a line end
            yield from self._expect(b"\r\n", "the first boundary")
        yield from self._expect(boundary, "the first boundary")
        while not (yield from self._last_boundary()):
            if len(bodies) == self._limits.parts:
                raise AnswerTooLarge(f"an image response of more than {self._limits.parts} parts")
            head = yield from self._headers("a part")
            length = _required(_number(head, "content-length"), "Content-length of a part")
            self._check_size(length, min(left, self._limits.part_bytes))
            left -= length
            bodies.append((yield from self._take(length)))
            yield from self._expect(
                b"\r\n" + boundary, "the boundary after a part: its Content-length is not true"
            )
        self._may_end = True
        return tuple(bodies)

    def _last_boundary(self) -> Generator[None, None, bool]:
        """What follows a boundary: CR LF before another part, `--` CR LF CR LF after the last."""
        while len(self._buffer) < 2:
            yield
        if self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
            return False
        yield from self._expect(b"--" + _END, "the end of a multipart body")
        return True

    def _head(self, first: str) -> Generator[None, None, Mapping[str, str]]:
        opening = first.encode() + b"\r\n"
        yield from self._expect(opening, "an image response or XML")
        return (yield from self._headers("an image response"))

    def _headers(self, what: str) -> Generator[None, None, Mapping[str, str]]:
        data = yield from self._until(_END, _MOST_HEADER_BYTES, f"the headers of {what}")
        lines = data.decode("latin-1").split("\r\n")
        if len(lines) > self._limits.header_lines:
            raise Unreadable(f"{what} has more than {self._limits.header_lines} header lines")
        return _parsed(lines, what)

    def _check_size(self, length: int, limit: int) -> None:
        if length > limit:
            raise AnswerTooLarge(f"an image response announces {length} bytes where {limit} are taken")
        self._room.take(length)
        self._taken_bytes += length

    def _take(self, length: int) -> Generator[None, None, Body]:
        while len(self._buffer) < length:
            yield
        if length >= _LARGE_BYTES:
            whole, self._buffer = self._buffer, self._buffer[length:]
            del whole[length:]
            return whole
        taken = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return taken

    def _expect(self, wanted: bytes, what: str) -> Generator[None, None, None]:
        """Fails at the first byte that is another, not only when all of them are there."""
        while True:
            common = min(len(self._buffer), len(wanted))
            if self._buffer[:common] != wanted[:common]:
                raise Unreadable(f"the recorder sends {_shown(self._buffer)} in place of {what}")
            if common == len(wanted):
                del self._buffer[:common]
                return
            yield

    def _until(self, ending: bytes, limit: int, what: str) -> Generator[None, None, bytes]:
        looked = 0
        while (at := self._buffer.find(ending, looked)) < 0:
            if len(self._buffer) >= limit + len(ending):
                raise Unreadable(f"{what}: more than {limit} bytes without an end")
            looked = max(0, len(self._buffer) - len(ending) + 1)
            yield
        if at > limit:
            raise Unreadable(f"{what}: more than {limit} bytes")
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(ending)]
        return found


def _parsed(lines: list[str], what: str) -> Mapping[str, str]:
    """Names in lower case. A name that comes twice with different values is nobody's to choose from."""
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.strip().lower()
        if not colon or not key:
            raise Unreadable(f"{what} has a header line that is none: {plain(line)[:80]!r}")
        if found.setdefault(key, value.strip()) != value.strip():
            raise Unreadable(f"{what} has two different values of {plain(name)[:80]!r}")
    return found


def _number(head: Mapping[str, str], name: str) -> int | None:
    text = head.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise Unreadable(f"an image response says {plain(text)[:80]!r} for {name}")
    return int(text)


def _time(head: Mapping[str, str], name: str) -> int | None:
    moment = _number(head, name)
    if moment is not None and moment > _LATEST_MS:
        raise Unreadable(f"an image response says {moment} ms for {name}")
    return moment


def _required(value: int | None, name: str) -> int:
    if value is None:
        raise Unreadable(f"an image response has no {name}")
    return value


def _boundary(content_type: str) -> bytes:
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise Unreadable(f"a multipart answer names no boundary: {plain(content_type)[:80]!r}")
    return b"--" + (found[1] or found[2]).encode("latin-1")


def _shown(data: bytearray) -> str:
    return repr(bytes(data[:16]))
