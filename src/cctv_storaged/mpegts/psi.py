"""What a transport stream says about itself: program association and program map (ISO/IEC 13818-1, 2.4.4).

Packets in, a `Program` out. Every section is believed only with a right CRC. Knows nothing of time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from cctv_storaged.mpegts.packets import Window

_PAT_PID, _PAT_TABLE, _PMT_TABLE = 0, 0x00, 0x02
_LONGEST_SECTION = 1024  # of these tables
_MOST_PROGRAMS = 16  # a recorder writes one
_MOST_SECTIONS = 64  # where so many are damaged the next one will be: a bound on what garbage can cost
_NO_PID = 0x1FFF  # a PCR PID of this value: the program has no clock reference

_VIDEO = {
    0x01: "mpeg1video",
    0x02: "mpeg2video",
    0x10: "mpeg4",
    0x1B: "h264",
    0x24: "hevc",
    0x33: "vvc",
    0x42: "cavs",
    0xD2: "avs2",
    0xD4: "avs3",
    0xEA: "vc1",
}
_AUDIO = {
    0x03: "mp2",
    0x04: "mp2",
    0x0F: "aac",
    0x11: "aac_latm",
    0x1C: "aac",
    0x81: "ac3",
    0x82: "dts",
    0x84: "eac3",
    0x87: "eac3",
}
_PRIVATE_DATA = 0x06
_REGISTRATION = 0x05  # descriptor that names a private stream's format by four letters
_PRIVATE_VIDEO = {b"HEVC": "hevc", b"AV01": "av1", b"VC-1": "vc1", b"drac": "dirac"}
_PRIVATE_AUDIO = {b"AC-3": "ac3", b"EAC3": "eac3", b"Opus": "opus", b"BSSD": "s302m"}
_AUDIO_DESCRIPTORS = {0x6A: "ac3", 0x7A: "eac3", 0x7B: "dts", 0x7C: "aac"}  # ETSI EN 300 468


@dataclass(frozen=True, slots=True)
class Stream:
    """One elementary stream. Codecs are named as ffmpeg names them."""

    pid: int
    codec: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What belongs together: at most one picture matters to a recorder, any number of sounds may."""

    pcr_pid: int | None
    video: Stream | None = None
    audio: tuple[Stream, ...] = field(default=())


def map_pids(window: Window) -> tuple[int, ...]:
    """PIDs of the program maps, as the first association table says; empty where there is none."""
    for body in _tables(window, _PAT_PID, _PAT_TABLE):
        entries = (body[at : at + 4] for at in range(0, len(body) - 3, 4))
        # Program number 0 is the network table.
        if pids := tuple(_pid(entry[2:]) for entry in entries if entry[:2] != b"\0\0"):
            return pids
    return ()


def read_program(window: Window, pids: tuple[int, ...]) -> Program | None:
    """The first program with a picture, else the first one; None where no map lies in the window."""
    first: Program | None = None
    for pid in pids[:_MOST_PROGRAMS]:
        program = _first_map(window, pid)
        if program is not None and program.video:
            return program
        first = first or program
    return first


def _first_map(window: Window, pid: int) -> Program | None:
    for body in _tables(window, pid, _PMT_TABLE):
        if len(body) >= 4:
            return _program(body)
    return None


def _program(body: bytes) -> Program:
    pcr_pid = _pid(body)
    streams = [stream for entry in _entries(body) if (stream := _stream(*entry)) is not None]
    video = [stream for is_video, stream in streams if is_video]
    audio = [stream for is_video, stream in streams if not is_video]
    return Program(
        pcr_pid=None if pcr_pid == _NO_PID else pcr_pid,
        video=video[0] if video else None,
        audio=tuple(audio),
    )


def _entries(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Stream type, PID and descriptors of each stream of a program map (2.4.4.9)."""
    at = 4 + _length(body[2:4])
    while at + 5 <= len(body):
        end = at + 5 + _length(body[at + 3 : at + 5])
        yield body[at], _pid(body[at + 1 :]), body[at + 5 : end]
        at = end


def _stream(kind: int, pid: int, descriptors: bytes) -> tuple[bool, Stream] | None:
    """Whether it is a picture, and the stream; None where it is neither picture nor sound."""
    if kind in _VIDEO:
        return True, Stream(pid, _VIDEO[kind])
    if kind in _AUDIO:
        return False, Stream(pid, _AUDIO[kind])
    return _private(pid, descriptors) if kind == _PRIVATE_DATA else None


def _private(pid: int, descriptors: bytes) -> tuple[bool, Stream] | None:
    for tag, value in _descriptors(descriptors):
        name = value[:4] if tag == _REGISTRATION else b""
        if name in _PRIVATE_VIDEO:
            return True, Stream(pid, _PRIVATE_VIDEO[name])
        if codec := _PRIVATE_AUDIO.get(name) or _AUDIO_DESCRIPTORS.get(tag):
            return False, Stream(pid, codec)
    return None


def _descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(data):
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]


def _tables(window: Window, pid: int, table: int) -> Iterator[bytes]:
    """Bodies (between the eight header bytes and the CRC) of the PID's valid sections of one table."""
    for section in islice(_sections(window, pid), _MOST_SECTIONS):
        # Bit 0 of byte 5 is current_next_indicator: a table that applies later is not ours to read.
        fits = 12 <= len(section) <= _LONGEST_SECTION and section[0] == table and section[5] & 1
        if fits and crc32(section) == 0:
            yield section[8:-4]


def _sections(window: Window, pid: int) -> Iterator[bytes]:
    """Sections as they complete, also those spread over several packets (2.4.4.1, pointer_field)."""
    pending: bytes | None = None  # None until the first unit starts
    for starts, payload in window.payloads(pid):
        if not starts:
            pending = None if pending is None else pending + payload
        elif payload:
            pointer = payload[0] + 1
            if pending is not None:
                yield from _complete(pending + payload[1:pointer])[0]
            pending = payload[pointer:]
        if pending is not None:
            done, pending = _complete(pending)
            yield from done


def _complete(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole sections data begins with, and the rest; 0xFF is stuffing to the end."""
    done: list[bytes] = []
    while len(data) >= 3 and data[0] != 0xFF:
        end = 3 + _length(data[1:3])
        if len(data) < end:
            break
        done.append(data[:end])
        data = data[end:]
    return done, data


def _length(two_bytes: bytes) -> int:
    """The twelve-bit length in the low bits of two bytes."""
    return int.from_bytes(two_bytes, "big") & 0xFFF


def _pid(data: bytes) -> int:
    return int.from_bytes(data[:2], "big") & 0x1FFF


def _crc_row(value: int) -> int:
    crc = value << 24
    for _ in range(8):
        crc = crc << 1 ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    return crc


_CRC_TABLE = tuple(_crc_row(value) for value in range(256))


def crc32(data: bytes) -> int:
    """CRC-32 of ISO/IEC 13818-1 Annex A (not reflected, unlike zlib's); 0 over a section with its CRC."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc << 8 & 0xFFFFFFFF ^ _CRC_TABLE[crc >> 24 ^ byte]
    return crc
