"""What a recorder's port 7563 sends, built by hand: for tests of hostile and of well-formed bytes."""

import struct
from collections.abc import Mapping, Sequence

END = b"\r\n\r\n"
BOUNDARY = "B0undary"
GENERIC = "application/x-genericbytedata-octet-stream"
H264, H265 = 0x000A, 0x000E
_HEADER = struct.Struct(">HIHHHQQI")


def packet(
    time_ms: int,
    data: bytes = b"\0\0\0\1\x65picture",
    *,
    key: bool = True,
    codec: int = H264,
    kind: int = 0x10,
    length_off_by: int = 0,
) -> bytes:
    """GenericByteData of one picture."""
    length = 32 + len(data) + length_off_by
    return _HEADER.pack(kind, length, codec, 0, int(key), time_ms, time_ms, 0) + data


def several(*packets: bytes) -> bytes:
    """The wrapper 0xFEF0."""
    return struct.pack(">HI10x", 0xFEF0, 16 + sum(map(len, packets))) + b"".join(packets)


def head(headers: Mapping[str, object]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"


def single(body: bytes, *, length: int | None = None, end: bytes = END, **headers: object) -> bytes:
    """An image response of one body. Headers by their names, with `_` for `-`."""
    told = {"RequestId": 1, "Prev": 1, "Current": 2, "Next": 3, "Content-type": GENERIC}
    told |= {"Content-length": len(body) if length is None else length}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    return b"ImageResponse\r\n" + head(told) + body + end


def multipart(
    bodies: Sequence[bytes], *, boundary: str = BOUNDARY, end: bytes = END, **headers: object
) -> bytes:
    """An image response of many bodies."""
    told: dict[str, object] = {"RequestId": 1, "Prev": 1, "Current": 2, "Next": 3}
    told |= {"Content-type": f'multipart/related; boundary={boundary}; type="{GENERIC}"'}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    parts = b"".join(part(body, boundary=boundary) for body in bodies)
    return b"ImageResponse\r\n" + head(told) + parts + f"--{boundary}--".encode() + end


def part(body: bytes, *, boundary: str = BOUNDARY, length: int | None = None) -> bytes:
    told = {"Content-length": len(body) if length is None else length, "Content-type": GENERIC}
    return f"--{boundary}\r\n".encode() + head(told) + body + b"\r\n"


def connected(number: int, yes: str = "yes", reason: str = "Success", method: str = "connect") -> bytes:
    """The answer to `connect` and `connectupdate`."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><methodresponse>'
        f"<requestid>{number}</requestid><methodname>{method}</methodname>"
        f"<connected>{yes}</connected><errorreason>{reason}</errorreason></methodresponse>"
    ).encode() + END


_STATUS = b'<status><statusitem id="5" value="1"/></status>'
LIVE_PACKAGE = b'<?xml version="1.0"?><livepackage>' + _STATUS + b"</livepackage>" + END
