"""A group's key picture as JPEG, as a recorder transcodes it. By ffmpeg."""

import asyncio

from tests.fakes.xprotect.pictures import Group

_FORMATS = {"h264": "h264", "h265": "hevc"}


async def jpeg_of(group: Group) -> bytes:
    """The picture that a group begins with."""
    argv = ["-nostdin", "-v", "error", "-f", _FORMATS[group.codec], "-i", "pipe:0"]
    argv += ["-frames:v", "1", "-f", "mjpeg", "pipe:1"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("ffmpeg", *argv, stdin=pipe, stdout=pipe, stderr=pipe)
    data, errors = await process.communicate(group.pictures[0].data)
    if not data.startswith(b"\xff\xd8"):
        raise RuntimeError(f"ffmpeg made no JPEG: {errors.decode(errors='replace')}")
    return data
