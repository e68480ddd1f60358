"""A span's segments become an HLS playlist (RFC 8216). Pure: rows in, text out.

Two decisions are made here. Which segments are shown: together all footage there is, and as little of the
time twice as whole segments allow. And where a player has to begin anew (EXT-X-DISCONTINUITY): where a
segment does not play on from the one before. docs/reference/playback.md tells both to users.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import TypeVar

from cctv_storaged.clock import EPOCH
from cctv_storaged.model import SegmentFlag
from cctv_storaged.mpegts.track import WRAP

Piece = tuple[int, int, str, int | None, bytes | None, bytes]
"""A segment: start and end in microseconds since 1970-01-01T00:00Z, its flags (words with spaces between),
ticks and fingerprint of its `StreamStart` (None where nobody knows), its id.

A plain tuple, just as the journal has it: a day has 8640, and names for the parts took a third of the time.
"""

Parts = tuple[int, int, int | None, bytes | None]
"""What decides whether a segment is shown: start and end, ticks and fingerprint, as of a `Piece`."""

AnyPiece = TypeVar("AnyPiece")

VERSION = 3
"""The lowest that permits fractions of a second in EXTINF (RFC 8216, 7)."""

_CLOCK_SLACK_TICKS = 45_000
"""How far from its place a stream's clock may go on: how long a segment's last frame stands is a guess."""
_TWICE_SLACK_TICKS = 2 * _CLOCK_SLACK_TICKS
_GAP_US = 1_000_000
"""Recorders cut at whole seconds in the name and at key frames in the stream: less than this is no gap."""
_LENGTHS_OF_NEWS = 50
"""What adds less than a fiftieth of itself adds nothing: one span measured in two ways."""
_BEFORE_ALL_US = -(2**62)
_SECOND_US = 1_000_000
_MINUTE_US = 60_000_000
_SECONDS = [f":{second:02d}." for second in range(60)]
_THOUSANDTHS = [f"{thousandth:03d}Z\n#EXTINF:" for thousandth in range(1000)]
_OWN_ADDRESS = b"########-####-####-####-############/content.ts\n"
_DIGITS = tuple(at for at, byte in enumerate(_OWN_ADDRESS) if byte == ord("#"))


def shown(
    pieces: Iterable[AnyPiece],
    parts: Callable[[AnyPiece], Parts] = attrgetter("start_us", "end_us", "ticks", "fingerprint"),
) -> Iterator[AnyPiece]:
    """Of segments ordered by their start, those to be shown; `parts` takes them apart.

    Of several that begin where something is shown already (or together) the one that reaches farthest is
    taken, and the others only where it leaves something of them over. Where the stream's own clock goes on
    a segment is new, whatever the time in its name says.
    """
    last: Parts | None = None
    best: tuple[AnyPiece, Parts] | None = None  # not given out yet: another may reach farther
    best_start_us = best_end_us = 0
    reach_us = _BEFORE_ALL_US  # the end of what was given out
    for piece in pieces:
        start_us, end_us, _, _ = facts = parts(piece)
        if best is not None and start_us > best_start_us and start_us > reach_us:
            yield best[0]
            last, best, reach_us = best[1], None, best_end_us
        if 0 < end_us - start_us < (end_us - reach_us) * _LENGTHS_OF_NEWS:
            if best is None or end_us > best_end_us:
                best, best_start_us, best_end_us = (piece, facts), start_us, end_us
        elif best is None and last is not None and start_us < end_us and _clock_goes_on(last, facts):
            yield piece
            last = facts
    if best is not None:
        yield best[0]


def chosen(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """As `shown`; a camera with one recorder mostly has one segment after the other, and then it is all."""
    reach_us = _BEFORE_ALL_US
    for start_us, end_us, _, _, _, _ in pieces:
        if not reach_us <= start_us < end_us:
            return list(shown(pieces, of_tuple))
        reach_us = end_us
    return pieces


of_tuple: Callable[[Piece], Parts] = itemgetter(0, 1, 3, 4)


def remuxed(piece: Piece, shown_us: tuple[int, int] | None = None) -> Piece:
    """The segment as it is where it is read back: another stream, which plays on from none of the recorder's.

    `shown_us`: from when to when it shows, where that is known; what leads to its start is left aside.
    It goes by the recorder's clock, or else by one that began in 1970 (`vms.readback`), and begins with a
    key picture.
    """
    start_us, end_us, flags, ticks, fingerprint, id_ = piece
    flags = " ".join(flag for flag in flags.split() if flag != SegmentFlag.NO_KEYFRAME)
    if ticks is None:
        ticks = start_us * 9 // 100 % WRAP
    if shown_us is not None:
        from_us = min(max(start_us, shown_us[0]), end_us - 1)
        # A picture that was taken before the segment and stands for it is as long as it is.
        until_us = shown_us[1] if shown_us[1] > from_us else from_us + shown_us[1] - shown_us[0]
        ticks = (ticks + (from_us - start_us) * 9 // 100) % WRAP
        start_us, end_us = from_us, min(end_us, until_us)
    return start_us, end_us, flags, ticks, b"remuxed" + (fingerprint or b""), id_


def written(pieces: Sequence[Piece], elsewhere: Mapping[bytes, str], from_us: int) -> str:
    """The playlist of these pieces, at least one, to be played from a moment on (or from its begin).

    A segment is at `ID/content.ts`, seen from the playlist, unless `elsewhere` has an address for its id.
    """
    lengths: dict[int, tuple[str, int]] = {}  # as text and in ticks; few differ, of these and of the next
    moments: dict[int, str] = {}
    lines: list[str] = []
    minute_us, minute = _BEFORE_ALL_US, ""
    due_us, due_ticks, due_print = pieces[0][0], pieces[0][3], pieces[0][4]
    addresses = _addresses([piece[5] for piece in pieces], elsewhere)
    for (start_us, end_us, _, ticks, fingerprint, _), address in zip(pieces, addresses, strict=True):
        plays_on = (
            ticks is not None
            and due_ticks is not None
            and fingerprint == due_print
            and (ticks - due_ticks + _CLOCK_SLACK_TICKS) % WRAP <= _TWICE_SLACK_TICKS
            and -_GAP_US <= start_us - due_us <= _GAP_US
        )
        if not plays_on and lines:
            lines.append("#EXT-X-DISCONTINUITY\n")
        length_us = end_us - start_us
        length, length_ticks = lengths.get(length_us) or lengths.setdefault(length_us, _length(length_us))
        rest_us = start_us - minute_us
        if not 0 <= rest_us < _MINUTE_US:
            rest_us = start_us % _MINUTE_US
            minute_us = start_us - rest_us
            minute = f"#EXT-X-PROGRAM-DATE-TIME:{_minute(minute_us)}"
        moment = moments.get(rest_us) or moments.setdefault(rest_us, _within_minute(rest_us))
        lines += (minute, moment, length, address)
        due_us, due_print = end_us, fingerprint
        due_ticks = None if ticks is None else ticks + length_ticks
    return "".join((*_head(pieces, max(lengths), from_us), *lines, "#EXT-X-ENDLIST\n"))


def _addresses(ids: Sequence[bytes], elsewhere: Mapping[bytes, str]) -> Sequence[str]:
    """Where each is, as a line."""
    if not elsewhere:
        return _own_addresses(ids)
    own = iter(_own_addresses([id_ for id_ in ids if id_ not in elsewhere]))
    return [f"{elsewhere[id_]}\n" if id_ in elsewhere else next(own) for id_ in ids]


def _own_addresses(ids: Sequence[bytes]) -> list[str]:
    """`UUID/content.ts` of each as a line: one copy for each digit of all, not some for each of them."""
    digits, width = b"".join(ids).hex().encode(), len(_OWN_ADDRESS)
    lines = bytearray(_OWN_ADDRESS * len(ids))
    for number, at in enumerate(_DIGITS):
        lines[at::width] = digits[number :: len(_DIGITS)]
    text = lines.decode()
    return [text[at : at + width] for at in range(0, len(text), width)]


def _clock_goes_on(before: Parts, piece: Parts) -> bool:
    """Whether the stream's clock starts where that of `before` ended, and a decoder goes on as it was."""
    start_us, end_us, begun_ticks, fingerprint = before
    if begun_ticks is None or piece[2] is None or fingerprint != piece[3]:
        return False
    due_ticks = begun_ticks + (end_us - start_us) * 9 // 100  # 90 kHz
    return (piece[2] - due_ticks + _CLOCK_SLACK_TICKS) % WRAP <= 2 * _CLOCK_SLACK_TICKS


def _head(pieces: Sequence[Piece], longest_us: int, from_us: int) -> list[str]:
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{-(-longest_us // _SECOND_US)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
    ]
    if not any(SegmentFlag.NO_KEYFRAME in flags for flags in {piece[2] for piece in pieces}):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    first_us, first_end_us = pieces[0][:2]
    if first_us < from_us < first_end_us:
        lines.append(f"#EXT-X-START:TIME-OFFSET={_seconds(from_us - first_us)},PRECISE=YES")
    return [f"{line}\n" for line in lines]


def _seconds(microseconds: int) -> str:
    whole, rest = divmod(microseconds, _SECOND_US)
    return f"{whole}.{rest:06d}"


def _length(microseconds: int) -> tuple[str, int]:
    """The rest of EXTINF, and so many ticks of 90 kHz."""
    return f"{_seconds(microseconds)},\n", microseconds * 9 // 100


def _within_minute(microseconds: int) -> str:
    """The rest of a moment, and what stands before the length."""
    second, fraction_us = divmod(microseconds, _SECOND_US)
    return _SECONDS[second] + _THOUSANDTHS[fraction_us // 1000]


@lru_cache(maxsize=4096)
def _minute(microseconds: int) -> str:
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat()[:16]
