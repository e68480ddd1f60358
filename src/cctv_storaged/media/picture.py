"""Still pictures: one access unit of footage → JPEG, many JPEGs → one sheet of tiles.

What flows through: bytes of one picture in, bytes of another out. It does not know when or where it was
taken. A child is made for each; what it may take is little, since one frame is all it decodes.
"""

import struct
from collections.abc import AsyncIterator, Iterator, Sequence

from cctv_storaged.errors import MediaBroken
from cctv_storaged.media.ffmpeg import TRANSPORT_STREAM, Limits, run

LIMITS = Limits(wall_s=20.0, cpu_s=10, memory_bytes=2**30, output_bytes=16 * 2**20)
TILE_WIDTH, TILE_HEIGHT = 160, 90
COLUMNS = 10
MOST_TILES = 100
_TILE_BYTES = TILE_WIDTH * TILE_HEIGHT * 3 // 2  # yuv420p: one luma sample a pixel, two of colour for four
BLACK = b"\0" * (TILE_WIDTH * TILE_HEIGHT) + b"\x80" * (TILE_WIDTH * TILE_HEIGHT // 2)
_ONE_THREAD = ("-threads", "1", "-filter_threads", "1")
_AS_JPEG = ("-frames:v", "1", "-c:v", "mjpeg", "-flags:v", "+bitexact", *_ONE_THREAD, "-f", "mjpeg", "pipe:1")
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SIZED = frozenset({0xC0, 0xC1, 0xC2})  # start of frame: baseline, extended, progressive (ITU-T T.81)


async def jpeg_of(stream: bytes, width: int) -> bytes:
    """The picture of a transport stream that holds one access unit, as JPEG; pixels become square.

    Raises MediaBroken where there is none to be decoded, MediaToolMissing.
    """
    height = f"max(2,min(4*{width},trunc({width}/dar/2)*2))"
    arguments = (
        *(*_ONE_THREAD, *TRANSPORT_STREAM, "-i", "pipe:0", "-map", "0:v:0", "-an", "-sn", "-dn"),
        *("-vf", f"scale=w={width}:h='{height}':out_range=full,setsar=1,format=yuvj420p", "-q:v", "5"),
        *_AS_JPEG,
    )
    return _whole(await run(arguments, _fed(stream), LIMITS))


async def sheet_of(pictures: Sequence[bytes | None]) -> bytes:
    """JPEGs as the tiles of one JPEG, row by row, `COLUMNS` to a row; None is a black one.

    Each is fitted into `TILE_WIDTH` by `TILE_HEIGHT`, its shape kept. Raises MediaBroken, MediaToolMissing.
    """
    tiles = await _tiles([picture for picture in pictures if picture is not None])
    drawn = [BLACK if picture is None else next(tiles) for picture in pictures]
    rows = -(-len(drawn) // COLUMNS)
    drawn += [BLACK] * (rows * COLUMNS - len(drawn))
    arguments = (
        *("-f", "rawvideo", "-pixel_format", "yuvj420p", "-video_size", f"{TILE_WIDTH}x{TILE_HEIGHT}"),
        *("-protocol_whitelist", "pipe", "-i", "pipe:0", "-vf", f"tile={COLUMNS}x{rows}", "-q:v", "6"),
        *_AS_JPEG,
    )
    return _whole(await run(arguments, _fed(*drawn), LIMITS))


def commented(jpeg: bytes, text: str) -> bytes:
    """The JPEG with a comment (COM, ITU-T T.81, B.2.4.5) of ASCII right behind its start."""
    comment = text.encode("ascii")
    return _JPEG_START + struct.pack(">2sH", b"\xff\xfe", len(comment) + 2) + comment + jpeg[2:]


def comment_of(jpeg: bytes) -> str | None:
    """What `commented` wrote."""
    if jpeg[2:4] != b"\xff\xfe" or len(jpeg) < 6:
        return None
    (length,) = struct.unpack_from(">H", jpeg, 4)
    return jpeg[6 : 4 + length].decode("ascii", "replace")


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height of a JPEG; (0, 0) where it does not tell (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = struct.unpack_from(">BH", jpeg, at + 1)
        if marker in _SIZED:
            height, width = struct.unpack_from(">HH", jpeg, at + 5)
            return width, height
        at += 2 + length
    return 0, 0


def is_whole(jpeg: bytes) -> bool:
    """Whether the bytes begin and end as a JPEG does."""
    return jpeg.startswith(_JPEG_START) and jpeg.endswith(_JPEG_END) and size_of(jpeg) != (0, 0)


async def _tiles(pictures: Sequence[bytes]) -> Iterator[bytes]:
    """Each as raw samples of a tile's size; a child takes those of one size, as its filters cannot change."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for place, picture in enumerate(pictures):
        by_size.setdefault(size_of(picture), []).append(place)
    drawn: dict[int, bytes] = {}
    for places in by_size.values():
        alike = await _tiles_alike([pictures[place] for place in places])
        drawn |= dict(zip(places, alike, strict=True))
    return (drawn[place] for place in range(len(pictures)))


async def _tiles_alike(pictures: Sequence[bytes]) -> list[bytes]:
    size = f"{TILE_WIDTH}:{TILE_HEIGHT}"
    fit = f"scale={size}:force_original_aspect_ratio=decrease:out_range=full,format=yuvj420p"
    arguments = (
        *(*_ONE_THREAD, "-protocol_whitelist", "pipe", "-f", "mjpeg", "-i", "pipe:0"),
        *("-vf", f"{fit},pad={size}:(ow-iw)/2:(oh-ih)/2,setsar=1"),
        *(*_ONE_THREAD, "-f", "rawvideo", "pipe:1"),
    )
    samples = await run(arguments, _fed(*pictures), LIMITS)
    if len(samples) != len(pictures) * _TILE_BYTES:
        raise MediaBroken(f"{len(pictures)} pictures became {len(samples) / _TILE_BYTES:g} tiles")
    return [samples[at : at + _TILE_BYTES] for at in range(0, len(samples), _TILE_BYTES)]


def _whole(jpeg: bytes) -> bytes:
    if not is_whole(jpeg):
        raise MediaBroken("no picture came out")
    return jpeg


async def _fed(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
