"""Whether coded video begins with a picture that can be decoded by itself.

Elementary stream bytes in, a fact out. Start codes and unit types: ITU-T H.264 (Annex B, 7.4.1, D.1.8),
ITU-T H.265 (Annex B, 7.4.2.2), ISO/IEC 13818-2 (6.2.3), ISO/IEC 14496-2 (6.2.5).
"""

import re
from collections.abc import Callable

_START_CODE = re.compile(rb"\x00\x00\x01")
_LONGEST_LOOK = 2048  # supplemental information is short; of pictures only the first bytes are read
_SEI_RECOVERY_POINT = 6


def begins_with_key_picture(codec: str, data: bytes) -> bool | None:
    """Whether the first picture in `data` is a key picture; None where it holds no picture, or the codec is
    not one of h264, hevc, mpeg1video, mpeg2video, mpeg4.

    A key picture of H.264 is an IDR picture, or one announced as an exact recovery point: open groups of
    pictures begin with the latter, and players start there.
    """
    judge = _JUDGES.get(codec)
    return None if judge is None else _first_verdict(judge, data)


def begins_picture(codec: str, data: bytes) -> bool:
    """Whether the first unit in `data`, which starts with it, is the first of a picture of H.264 or H.265: a
    delimiter, parameters, information for what follows, or a first slice (H.264 7.4.1.2.3, H.265 7.4.2.4.4).
    """
    at = data.find(b"\1", 0, _LONGEST_START)
    if at < 2 or data[:at].strip(b"\0") or len(data) < at + 4:
        return False
    first = data[at + 1]
    if codec == "hevc":
        kind = first >> 1
        return bool(data[at + 3] & 0x80) if kind < 32 else kind in _HEVC_FIRST
    kind = first & 0x1F
    return bool(data[at + 2] & 0x80) if kind in {1, 2, 5} else kind in _H264_FIRST


_LONGEST_START = 16  # zeros may stand before a start code
_H264_FIRST = frozenset({6, 7, 8, 9, 14, 15, 16, 17, 18})
_HEVC_FIRST = frozenset({32, 33, 34, 35, 39, 41, 42, 43, 44, *range(48, 56)})


def sequence_parameters(codec: str, data: bytes) -> bytes:
    """The first sequence parameter set in `data`, for comparing; empty where there is none, or no such thing.

    H.264 7.3.2.1 (unit type 7), H.265 7.3.2.2 (33), ISO/IEC 13818-2 6.2.2.1 (sequence_header_code).
    """
    is_wanted = _PARAMETERS.get(codec)
    for found in _START_CODE.finditer(data) if is_wanted is not None else ():
        end = data.find(b"\0\0\1", found.end())
        unit = data[found.end() : end if end >= 0 else len(data)]
        if unit and is_wanted is not None and is_wanted(unit[0]):
            return unit.rstrip(b"\0")
    return b""


_PARAMETERS: dict[str, Callable[[int], bool]] = {
    "h264": lambda first: first & 0x1F == 7,
    "hevc": lambda first: first >> 1 == 33,
    "mpeg1video": lambda first: first == 0xB3,
    "mpeg2video": lambda first: first == 0xB3,
}

_Judge = Callable[[bytes], bool | None]
"""Says of the bytes after a start code: key picture, other picture, or (None) no picture: look further."""


def _first_verdict(judge: _Judge, data: bytes) -> bool | None:
    for found in _START_CODE.finditer(data):
        end = data.find(b"\0\0\1", found.end(), found.end() + _LONGEST_LOOK)
        unit = data[found.end() : end if end >= 0 else found.end() + _LONGEST_LOOK]
        if unit and (verdict := judge(unit)) is not None:
            return verdict
    return None


def _h264(unit: bytes) -> bool | None:
    kind = unit[0] & 0x1F
    if unit[0] & 0x80:  # forbidden_zero_bit
        return None
    if kind == 6:
        return True if _is_exact_recovery_point(_unescaped(unit[1:])) else None
    if 1 <= kind <= 5:
        return kind == 5
    return None


def _hevc(unit: bytes) -> bool | None:
    kind = unit[0] >> 1
    # Bit 7 is forbidden_zero_bit; types below 32 are pictures, 16 to 23 intra random access points, of which
    # 22 and 23 are reserved.
    return None if kind >= 32 else 16 <= kind <= 21


def _mpeg2(unit: bytes) -> bool | None:
    # picture_start_code, ten bits of temporal_reference, three of picture_coding_type: 1 is an I picture.
    return unit[2] >> 3 & 7 == 1 if unit[0] == 0 and len(unit) > 2 else None


def _mpeg4(unit: bytes) -> bool | None:
    # vop_start_code, two bits of vop_coding_type: 0 is an I-VOP.
    return unit[1] >> 6 == 0 if unit[0] == 0xB6 and len(unit) > 1 else None


_JUDGES: dict[str, _Judge] = {
    "h264": _h264,
    "hevc": _hevc,
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "mpeg4": _mpeg4,
}


def _unescaped(unit: bytes) -> bytes:
    """Without the emulation prevention bytes (H.264 7.3.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")


def _is_exact_recovery_point(messages: bytes) -> bool:
    """Whether SEI messages (H.264 7.3.2.3.1) hold a recovery point with recovery_frame_cnt 0."""
    at = 0
    while at < len(messages) and messages[at] != 0x80:  # 0x80: trailing bits
        kind, at = _sei_number(messages, at)
        size, at = _sei_number(messages, at)
        if kind == _SEI_RECOVERY_POINT:
            # ue(v) 0 is the single bit 1.
            return messages[at : at + 1] >= b"\x80"
        at += size
    return False


def _sei_number(messages: bytes, at: int) -> tuple[int, int]:
    """A number written as a row of 255s and a rest, and where the next one begins."""
    value = 0
    while messages[at : at + 1] == b"\xff":
        value, at = value + 255, at + 1
    return value + (messages[at] if at < len(messages) else 0), at + 1
