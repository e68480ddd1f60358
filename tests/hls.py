"""A strict reader of HLS playlists: whatever RFC 8216 forbids, or leaves to a player's goodwill, is an error.

Written from the RFC, not from our writer: section numbers beside each rule. Knows what a VOD media playlist
may hold and nothing else.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

# 4.2: the value types of attributes; 4.3: which tags there are, once or for every segment.
_INTEGER = re.compile(r"[0-9]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_SIGNED_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_ATTRIBUTE = re.compile(r'(?P<name>[A-Z0-9-]+)=(?P<value>"[^"\r\n]*"|[^",\s]+)', re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_URI = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)  # RFC 3986, 2
_ONCE = {
    "EXTM3U",
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-START",
    "EXT-X-ENDLIST",
}
_OF_A_SEGMENT = ["EXT-X-DISCONTINUITY", "EXT-X-PROGRAM-DATE-TIME", "EXTINF"]
_BARE = {"EXTM3U", "EXT-X-INDEPENDENT-SEGMENTS", "EXT-X-ENDLIST", "EXT-X-DISCONTINUITY"}


class BadPlaylist(AssertionError):
    """What is wrong, with its section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSegment:
    """One media segment."""

    uri: str
    seconds: Fraction
    start: datetime
    discontinuity: bool

    @property
    def end(self) -> datetime:
        return self.start + timedelta(microseconds=round(self.seconds * 1_000_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlaylist:
    """A playlist that breaks no rule."""

    segments: tuple[ReadSegment, ...]
    target_s: int
    independent: bool
    begin_s: Fraction | None  # EXT-X-START

    @property
    def breaks(self) -> list[int]:
        """Before which segments there is a discontinuity."""
        return [at for at, segment in enumerate(self.segments) if segment.discontinuity]

    @property
    def uris(self) -> list[str]:
        return [segment.uri for segment in self.segments]


def read_playlist(body: bytes) -> ReadPlaylist:
    """The playlist. Raises BadPlaylist."""
    lines = _lines(body)
    once: dict[str, str] = {}
    tags: dict[str, str] = {}
    segments: list[ReadSegment] = []
    for line in lines:
        _require("EXT-X-ENDLIST" not in once, f"something follows the end: {line} (house rule)")
        if not line.startswith("#"):
            segments.append(_segment(line, tags))
            tags = {}
            continue
        name, value = _tag(line)
        if name in _ONCE:
            _require(name not in once, f"4.3: {name} twice")
            _require(not tags, f"{name} between the tags of a segment (house rule)")
            _require(name == "EXT-X-ENDLIST" or not segments, f"4.3.3: {name} after a segment")
            once[name] = value
        else:
            _require(name not in tags, f"4.3.2: {name} twice for one segment")
            _require(not tags or _rank(name) > _rank(next(reversed(tags))), f"order of {name} (house rule)")
            tags[name] = value
    _require(not tags, "4.3.2: tags of a segment without one")
    _require("EXT-X-ENDLIST" in once, "4.3.3.4: no end")
    return _checked(once, segments)


def _lines(body: bytes) -> list[str]:
    _require(not body.startswith(b"\xef\xbb\xbf"), "4.1: a byte order mark")
    text = body.decode("utf-8")
    _require(not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text), "4.1: control characters")
    _require(text.endswith("\n"), "4.1: the last line has no end")
    lines = text[:-1].split("\n")
    _require(lines[0] == "#EXTM3U", f"4.3.1.1: begins with {lines[0]!r}")
    _require(all(line and line == line.strip() for line in lines), "4.1: white space")
    return lines


def _tag(line: str) -> tuple[str, str]:
    name, colon, value = line[1:].partition(":")
    _require(name in _ONCE or name in _OF_A_SEGMENT, f"4.3: no tag of a VOD media playlist: {line}")
    _require(bool(colon) != (name in _BARE), f"4.3: a value too many or too few: {line}")
    return name, value


def _rank(name: str) -> int:
    return _OF_A_SEGMENT.index(name)


def _segment(uri: str, tags: dict[str, str]) -> ReadSegment:
    _require(_URI.fullmatch(uri) is not None, f"4.1: no URI: {uri}")
    _require("EXTINF" in tags, f"4.3.2.1: no EXTINF for {uri}")
    _require("EXT-X-PROGRAM-DATE-TIME" in tags, f"no time for {uri} (house rule)")
    length, comma, _title = tags["EXTINF"].partition(",")
    _require(comma == "," and _FLOAT.fullmatch(length) is not None, f"4.3.2.1: EXTINF:{tags['EXTINF']}")
    moment = tags["EXT-X-PROGRAM-DATE-TIME"]
    _require(_MOMENT.fullmatch(moment) is not None, f"4.3.2.6: {moment}")
    return ReadSegment(
        uri=uri,
        seconds=Fraction(length),
        start=datetime.fromisoformat(moment).astimezone(UTC),
        discontinuity="EXT-X-DISCONTINUITY" in tags,
    )


def _checked(once: dict[str, str], segments: list[ReadSegment]) -> ReadPlaylist:
    _require(bool(segments), "nothing to play (house rule)")
    _require(once.get("EXT-X-PLAYLIST-TYPE") == "VOD", "4.3.3.5: the type of the playlist")
    version, target = once.get("EXT-X-VERSION", "1"), once.get("EXT-X-TARGETDURATION", "")
    _require(_INTEGER.fullmatch(version) is not None, f"4.3.1.2: version {version}")
    fractions = any(segment.seconds.denominator != 1 for segment in segments)
    _require(int(version) <= 3, "7: nothing here needs a newer version (house rule)")
    _require(not fractions or int(version) >= 3, "7: fractions of a second need version 3")
    _require(_INTEGER.fullmatch(target) is not None, f"4.3.3.1: target duration {target!r}")
    longest = max(segment.seconds for segment in segments)
    _require(int(longest + Fraction(1, 2)) <= int(target), f"4.3.3.1: {float(longest)} s > {target}")
    _require(int(target) < longest + 1 and int(target) > 0, f"target {target} is too long (house rule)")
    _require(_INTEGER.fullmatch(once.get("EXT-X-MEDIA-SEQUENCE", "0")) is not None, "4.3.3.2")
    _require(all(segment.seconds > 0 for segment in segments), "a segment without length (house rule)")
    _require(not segments[0].discontinuity, "a break before the first segment (house rule)")
    for before, after in pairwise(segments):
        _require(before.start <= after.start, f"time runs backwards: {before}, {after} (house rule)")
    _require(len({segment.uri for segment in segments}) == len(segments), "a segment twice (house rule)")
    total = sum((segment.seconds for segment in segments), Fraction())
    return ReadPlaylist(
        segments=tuple(segments),
        target_s=int(target),
        independent="EXT-X-INDEPENDENT-SEGMENTS" in once,
        begin_s=_begin(once["EXT-X-START"], total) if "EXT-X-START" in once else None,
    )


def _begin(attributes: str, total: Fraction) -> Fraction:
    found = [each.groupdict() for each in _ATTRIBUTE.finditer(attributes)]
    whole = ",".join(f"{each['name']}={each['value']}" for each in found)
    _require(whole == attributes, f"4.2: no attribute list: {attributes}")
    values = {each["name"]: each["value"] for each in found}
    _require(len(values) == len(found), "4.2: an attribute twice")
    _require(values.keys() <= {"TIME-OFFSET", "PRECISE"}, f"4.3.5.2: {values}")
    _require(values.get("PRECISE", "NO") in {"YES", "NO"}, f"4.3.5.2: {values}")
    offset = values.get("TIME-OFFSET", "")
    _require(_SIGNED_FLOAT.fullmatch(offset) is not None, f"4.3.5.2: {values}")
    _require(abs(Fraction(offset)) <= total, "4.3.5.2: begins behind the end")
    return Fraction(offset)


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise BadPlaylist(complaint)
