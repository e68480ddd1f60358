"""Which of the sounds that a part announces there are: no file takes a track of which nothing is known.

Cameras announce a sound and send none while their microphone is switched off.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from cctv_storaged.media.pieces import Blocks
from cctv_storaged.media.splice import Splice
from cctv_storaged.mpegts.packets import PACKET_BYTES, PLAIN, Window
from cctv_storaged.mpegts.psi import Stream

LISTENED_BYTES = 4 * 2**20
"""So far into a part sounds are waited for; ffmpeg looks at 5 MB."""


async def heard(
    splice: Splice, blocks: Blocks
) -> tuple[tuple[Stream, ...], AsyncGenerator[bytes | bytearray]]:
    """The sounds that there are, in the order of the program, and all of the blocks."""
    taken: list[bytes | bytearray] = []
    silent = {sound.pid for sound in splice.program.audio}
    rest_bytes = LISTENED_BYTES
    while silent and rest_bytes > 0 and (block := await anext(blocks, None)) is not None:
        taken.append(block)
        rest_bytes -= len(block)
        silent -= _sounding(bytes(block), silent)
    sounds = tuple(sound for sound in splice.program.audio if sound.pid not in silent)
    return sounds, _again(taken, blocks)


def to_mp4(sounds: Sequence[Stream]) -> tuple[str, ...]:
    """AAC in the form that MP4 and Matroska want; a damaged frame of it is dropped and ends nothing."""
    numbers = [number for number, sound in enumerate(sounds) if sound.codec == "aac"]
    return tuple(word for number in numbers for word in (f"-bsf:a:{number}", "aac_adtstoasc"))


def _sounding(packets: bytes, pids: set[int]) -> set[int]:
    whole = range(0, len(packets) - PACKET_BYTES + 1, PACKET_BYTES)
    window = Window(packets, PLAIN, (whole,) if whole else ())
    return {pid for pid in pids if any(True for _ in window.unit_starts(pid))}


async def _again(taken: list[bytes | bytearray], blocks: Blocks) -> AsyncGenerator[bytes | bytearray]:
    async with aclosing(blocks):
        for block in taken:
            yield block
        taken.clear()
        async for block in blocks:
            yield block
