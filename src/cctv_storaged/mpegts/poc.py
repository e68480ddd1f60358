"""In which order coded pictures are shown: the picture order count of H.264 (8.2.1) and H.265 (8.3.1).

Access units in decoding order in, a place in the order of presentation out. Bytes may be hostile: nothing is
read beyond its end, no number is longer than 32 bits, and what makes no sense has no place. Not followed is
memory_management_control_operation 5 of H.264, which no camera is known to use.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

_START_CODE = re.compile(rb"\x00\x00\x01")
_LONGEST_SET = 4096  # parameter sets are short
_FIRST_LOOK = 64 * 1024  # how far the first slice of a picture is looked for
_MOST_UNITS = 64  # before it
_MOST_SETS = 256  # different sequence parameter sets of one stream: cameras have one, or change among a few
_TAIL = 64  # how near the end of a picture the end of a sequence is looked for
_SLICE_LOOK = 96  # of a slice, its first fields
_LONGEST_CYCLE = 255  # num_ref_frames_in_pic_order_cnt_cycle
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})

Place = tuple[int, int]
"""Compares as pictures are shown: the coded video sequence, counted from the first, and the count in it."""


class PictureOrder:
    """One stream; ask of each picture in decoding order."""

    def __init__(self, codec: str) -> None:
        """`codec` as ffmpeg names it; of others than h264 and hevc nothing is known."""
        self._coding: _Coding = _CODINGS.get(codec, _Unknown)()

    def of(self, data: bytes) -> Place | None:
        """The place of the picture in these bytes of Annex B; None where they do not tell."""
        try:
            return self._coding.of(data)
        except _Senseless:
            return None


class _Coding(Protocol):
    def of(self, data: bytes) -> Place | None: ...


class _Senseless(Exception):
    """What was read cannot be."""


class _Unknown:
    def of(self, data: bytes) -> Place | None:
        return None


class _Bits:
    """Numbers from bits, most significant first (H.264 7.2, 9.1)."""

    def __init__(self, data: bytes) -> None:
        self._data = data.replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def u(self, count: int) -> int:
        end = self._at + count
        if end > 8 * len(self._data):
            raise _Senseless
        last = (end + 7) // 8
        value = int.from_bytes(self._data[self._at // 8 : last], "big") >> (8 * last - end)
        self._at = end
        return value & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        self.u(count)

    def ue(self) -> int:
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 31:
                raise _Senseless
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)

    def limited(self, most: int) -> int:
        """A ue(v) that the standard bounds."""
        value = self.ue()
        if value > most:
            raise _Senseless
        return value


def _units(data: bytes) -> Iterator[bytes]:
    """The first bytes of each NAL unit, as far as the first slice may be."""
    for found in islice(_START_CODE.finditer(data, 0, _FIRST_LOOK), _MOST_UNITS):
        end = data.find(b"\0\0\1", found.end(), found.end() + _LONGEST_SET)
        unit = data[found.end() : end if end >= 0 else found.end() + _LONGEST_SET]
        if unit and not unit[0] & 0x80:  # forbidden_zero_bit
            yield unit


_Set = TypeVar("_Set")


class _Sets(Generic[_Set]):
    """Sequence parameter sets by their ids, each text of one read once: streams repeat them all the time."""

    def __init__(self, read: Callable[[bytes], tuple[int, _Set]]) -> None:
        self._read = read
        self._by_text: dict[bytes, tuple[int, _Set] | None] = {}  # None: makes no sense
        self._by_id: dict[int, _Set] = {}

    def take(self, text: bytes) -> None:
        """One more in the stream. Raises _Senseless, also where there were more than any camera sends."""
        if text not in self._by_text:
            if len(self._by_text) >= _MOST_SETS:
                raise _Senseless
            self._by_text[text] = None
            self._by_text[text] = self._read(text)
        found = self._by_text[text]
        if found is None:
            raise _Senseless
        self._by_id[found[0]] = found[1]

    def get(self, id_: int) -> _Set | None:
        return self._by_id.get(id_)


# H.264


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sequence:
    """Of a sequence parameter set (7.3.2.1.1)."""

    separate_planes: bool
    frame_num_bits: int
    kind: int  # pic_order_cnt_type
    lsb_bits: int = 0
    always_zero: bool = True  # delta_pic_order_always_zero_flag
    offset_non_ref: int = 0
    cycle: tuple[int, ...] = ()
    frames_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """The first fields of a slice header (7.3.3)."""

    reference: bool
    idr: bool
    frame_num: int
    lsb: int
    delta: int


class _H264:
    def __init__(self) -> None:
        self._sequences = _Sets(lambda text: _sequence(_Bits(text)))
        self._pictures: dict[int, int] = {}  # picture parameter set → sequence parameter set
        self._epoch = 0
        self._decoded = 0
        self._previous: tuple[int, int] | None = None  # msb and lsb of the last reference picture
        self._frame_num = self._frame_num_offset = 0

    def of(self, data: bytes) -> Place | None:
        for unit in _units(data):
            kind = unit[0] & 0x1F
            if kind == 7:
                self._sequences.take(unit[1:])
            elif kind == 8:
                bits = _Bits(unit[1:])
                picture = bits.limited(255)
                self._pictures[picture] = bits.limited(31)
            elif kind in {1, 2, 5}:
                return self._place(unit)
        return None

    def _place(self, unit: bytes) -> Place | None:
        bits = _Bits(unit[1:_SLICE_LOOK])
        bits.ue()  # first_mb_in_slice
        bits.ue()  # slice_type
        sequence = self._sequences.get(self._pictures.get(bits.limited(255), -1))
        if sequence is None:
            return None
        header = _slice(bits, unit[0], sequence)
        if header.idr:
            self._epoch += 1
            self._previous = (0, 0)
        self._decoded += 1
        if sequence.kind == 0:
            return self._epoch, self._by_lsb(header, sequence)
        if sequence.kind == 1:
            return self._epoch, self._by_cycle(header, sequence)
        return self._epoch, self._decoded  # type 2: shown as they are decoded

    def _by_lsb(self, header: _Slice, sequence: _Sequence) -> int:
        msb = _msb(header.lsb, self._previous, 1 << sequence.lsb_bits)
        if header.reference or self._previous is None:
            self._previous = (msb, header.lsb)
        return msb + header.lsb

    def _by_cycle(self, header: _Slice, sequence: _Sequence) -> int:
        """8.2.1.2."""
        if header.idr:
            self._frame_num_offset = 0
        elif self._frame_num > header.frame_num:
            self._frame_num_offset += 1 << sequence.frame_num_bits
        self._frame_num = header.frame_num
        cycle = sequence.cycle
        number = self._frame_num_offset + header.frame_num if cycle else 0
        number -= not header.reference and number > 0
        count = 0
        if number > 0:
            rounds, rest = divmod(number - 1, len(cycle))
            count = rounds * sum(cycle) + sum(cycle[: rest + 1])
        return count + (0 if header.reference else sequence.offset_non_ref) + header.delta


def _slice(bits: _Bits, first: int, sequence: _Sequence) -> _Slice:
    """From frame_num on."""
    if sequence.separate_planes:
        bits.skip(2)
    frame_num = bits.u(sequence.frame_num_bits)
    if not sequence.frames_only and bits.u(1):
        bits.skip(1)  # bottom_field_flag
    idr = first & 0x1F == 5
    if idr:
        bits.ue()  # idr_pic_id
    lsb = bits.u(sequence.lsb_bits) if sequence.kind == 0 else 0
    delta = bits.se() if sequence.kind == 1 and not sequence.always_zero else 0
    return _Slice(reference=bool(first & 0x60), idr=idr, frame_num=frame_num, lsb=lsb, delta=delta)


def _sequence(bits: _Bits) -> tuple[int, _Sequence]:
    profile = bits.u(8)
    bits.skip(16)  # constraints, level
    id_ = bits.limited(31)
    separate = False
    if profile in _HIGH_PROFILES:
        chroma = bits.limited(3)
        separate = chroma == 3 and bool(bits.u(1))
        bits.ue()  # bit depths
        bits.ue()
        bits.skip(1)
        if bits.u(1):
            _skip_scaling(bits, 12 if chroma == 3 else 8)
    frame_num_bits = bits.limited(12) + 4
    kind = bits.limited(2)
    lsb_bits, always_zero, offset = 0, True, 0
    cycle: tuple[int, ...] = ()
    if kind == 0:
        lsb_bits = bits.limited(12) + 4
    elif kind == 1:
        always_zero = bool(bits.u(1))
        offset = bits.se()
        bits.se()  # offset_for_top_to_bottom_field
        cycle = tuple([bits.se() for _ in range(bits.limited(_LONGEST_CYCLE))])
    bits.ue()  # max_num_ref_frames
    bits.skip(1)
    bits.ue()  # width and height
    bits.ue()
    return id_, _Sequence(
        separate_planes=separate,
        frame_num_bits=frame_num_bits,
        kind=kind,
        lsb_bits=lsb_bits,
        always_zero=always_zero,
        offset_non_ref=offset,
        cycle=cycle,
        frames_only=bool(bits.u(1)),
    )


def _skip_scaling(bits: _Bits, lists: int) -> None:
    """Scaling lists (7.3.2.1.1.1): six of 16 numbers, the others of 64."""
    for number in range(lists):
        if not bits.u(1):
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                following = (last + bits.se()) % 256
            last = following or last


# H.265

_BLA_TO_RESERVED = range(16, 24)
_IDR = (19, 20)
_ENDS = (36, 37)  # end of sequence, end of bitstream
_LEADING_OR_UNUSED = frozenset({0, 2, 4, 6, 7, 8, 9, 10, 12, 14})
"""RADL, RASL, and pictures that none of their own sub-layer refer to: no anchor of the count (8.3.1)."""


@dataclass(frozen=True, slots=True)
class _HevcSequence:
    lsb_bits: int
    separate_planes: bool


@dataclass(frozen=True, slots=True)
class _HevcPicture:
    sequence: int
    output_flag: bool
    extra_bits: int


class _Hevc:
    def __init__(self) -> None:
        self._sequences = _Sets(lambda text: _hevc_sequence(_Bits(text)))
        self._pictures: dict[int, _HevcPicture] = {}
        self._epoch = 0
        self._previous: tuple[int, int] | None = None

    def of(self, data: bytes) -> Place | None:
        for unit in _units(data):
            if len(unit) < 3 or unit[0] & 1 or unit[1] & 0xF8:  # another layer
                continue
            kind = unit[0] >> 1
            if kind == 33:
                self._sequences.take(unit[2:])
            elif kind == 34:
                bits = _Bits(unit[2:])
                id_ = bits.limited(63)
                sequence_id = bits.limited(15)
                bits.skip(1)  # dependent_slice_segments_enabled_flag
                self._pictures[id_] = _HevcPicture(sequence_id, bool(bits.u(1)), bits.u(3))
            elif kind in _ENDS:
                self._previous = None
            elif kind < 32:
                place = self._place(unit, kind)
                if _ends_sequence(data):
                    self._previous = None
                return place
        return None

    def _place(self, unit: bytes, kind: int) -> Place | None:
        bits = _Bits(unit[2:_SLICE_LOOK])
        if not bits.u(1):  # first_slice_segment_in_pic_flag
            return None
        if kind in _BLA_TO_RESERVED:
            bits.skip(1)
        picture = self._pictures.get(bits.limited(63))
        sequence = None if picture is None else self._sequences.get(picture.sequence)
        if picture is None or sequence is None:
            return None
        bits.skip(picture.extra_bits)
        bits.ue()  # slice_type
        bits.skip(picture.output_flag + 2 * sequence.separate_planes)
        lsb = 0 if kind in _IDR else bits.u(sequence.lsb_bits)
        if kind in _IDR or 16 <= kind <= 18 or self._previous is None:
            self._epoch += 1
            self._previous = (0, lsb)
        msb = _msb(lsb, self._previous, 1 << sequence.lsb_bits)
        if unit[1] & 7 == 1 and kind not in _LEADING_OR_UNUSED:
            self._previous = (msb, lsb)
        return self._epoch, msb + lsb


def _ends_sequence(data: bytes) -> bool:
    """Whether the last units of a picture say that the next one begins a sequence (7.4.2.4.4)."""
    tail = data[-_TAIL:]
    starts = (found.end() for found in _START_CODE.finditer(tail))
    return any(tail[at] >> 1 in _ENDS for at in starts if at < len(tail))


def _hevc_sequence(bits: _Bits) -> tuple[int, _HevcSequence]:
    """Of a sequence parameter set (7.3.2.2.1)."""
    bits.skip(4)
    sub_layers = bits.u(3)
    bits.skip(1 + 96)  # general profile, tier and level (7.3.3)
    if sub_layers:
        present = [(bits.u(1), bits.u(1)) for _ in range(sub_layers)]
        bits.skip(2 * (8 - sub_layers))
        for profile, level in present:
            bits.skip(88 * profile + 8 * level)
    id_ = bits.limited(15)
    separate = bits.limited(3) == 3 and bool(bits.u(1))
    bits.ue()  # width and height
    bits.ue()
    for _ in range(4 * bits.u(1)):
        bits.ue()  # conformance window
    bits.ue()  # bit depths
    bits.ue()
    return id_, _HevcSequence(bits.limited(12) + 4, separate)


def _msb(lsb: int, previous: tuple[int, int] | None, most: int) -> int:
    """The part of the count that is not sent (H.264 8-3, H.265 8-1)."""
    if previous is None:
        return 0
    msb, before = previous
    if lsb < before and before - lsb >= most // 2:
        return msb + most
    if lsb > before and lsb - before > most // 2:
        return msb - most
    return msb


_CODINGS: dict[str, Callable[[], _Coding]] = {"h264": _H264, "hevc": _Hevc}
