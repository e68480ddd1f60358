"""What a segment's path says: which camera, and when it began. Pure: names in, facts out.

A layout is a pattern over the path below a recorder root, such as `{camera}/%Y-%m-%d/%H-%M-%S.ts`:

    {camera}      the camera's folder: one path component, or the part of one that other text leaves
    {camera_id}   the camera's UUID
    %Y %y %m %d %j %H %I %p %M %S   as in strftime(3); %F is %Y-%m-%d, %T is %H:%M:%S, %% a percent sign
    %f            digits of a fraction of a second
    %z            offset from UTC: +0200, +02:00, +02 or Z (ISO 8601)
    %s            seconds since 1970-01-01T00:00Z
    *             anything within one path component
    **            any number of whole components

A field may occur twice where both occurrences say the same; beside %s other times are not read. Knows nothing
of files: what lies under a name, and when it was closed, others have looked up. Names are os.fsdecode'd, so
any bytes survive.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise, takewhile
from uuid import UUID
from zoneinfo import ZoneInfo

from cctv_storaged.clock import EPOCH
from cctv_storaged.errors import ConfigError, Fault, NotASegment
from cctv_storaged.model import SegmentFlag

_SHAPES = {
    "*": "[^/]*",
    "camera": "[^/]+",
    "camera_id": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "Y": "[0-9]{4}",
    "j": "[0-9]{3}",
    **dict.fromkeys("ymdHIMS", "[0-9]{2}"),
    "p": "[AaPp][Mm]",
    "f": "[0-9]+",
    "z": "Z|[+-][0-9]{2}(?::?[0-9]{2})?",
    "s": "[0-9]{1,12}",
}
_NAMES = {
    **{f"%{name}": name for name in _SHAPES if len(name) == 1 and name != "*"},
    "{camera}": "camera",
    "{camera_id}": "camera_id",
    "*": "*",
}
_SHORTHANDS = {"%F": ("%Y", "-", "%m", "-", "%d"), "%T": ("%H", ":", "%M", ":", "%S")}
_FREE = frozenset({"*", "camera"})
_OF_ANY_WIDTH = _FREE | {"f", "z", "s"}
_TOKEN = re.compile(r"(?s)\*+|%.?|\{[^{}]*\}|[^*%{}]+|.")
_LEAST_TOLERANCE = timedelta(seconds=60)  # clocks of recorders, and names of whole minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMatch:
    """What a path says. Exactly one of `instant` and `wall` is known."""

    camera_folder: str  # what {camera} stands for, or the UUID's text where the layout has only {camera_id}
    camera_id: UUID | None
    instant: datetime | None  # aware UTC, from %s or %z: exact
    wall: datetime | None  # naive: what a clock on a wall in `zone` showed
    zone: ZoneInfo
    precision: timedelta  # the smallest unit the name gives


@dataclass(frozen=True, slots=True)
class ResolvedStart:
    """When a segment began, and what a reader should know about how we know."""

    start: datetime  # aware UTC
    flags: frozenset[SegmentFlag]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A pattern made ready. Made by `parse`."""

    pattern: str
    zone: ZoneInfo
    extension: str  # with its dot: a path that ends otherwise never matches
    static_prefix: str  # the leading components without any field: nothing outside can match; "" for none
    precision: timedelta  # the smallest unit the pattern names
    _strict: re.Pattern[str] = field(repr=False)
    _loose: re.Pattern[str] | None = field(repr=False)  # where a field occurs twice: they may differ

    @classmethod
    def parse(cls, pattern: str, zone: ZoneInfo) -> "Layout":
        """The layout of a pattern; ConfigError carries everything that is wrong with it."""
        components = [_tokens(text) for text in pattern.split("/")]
        if faults := [Fault(f"layout {pattern!r}", *fault) for fault in _faults(components)]:
            raise ConfigError(faults)
        names = [token.name for component in components for token in component if token.name in _SHAPES]
        fields = [name for name in names if name != "*"]
        return cls(
            pattern=pattern,
            zone=zone,
            extension="." + components[-1][-1].text.rpartition(".")[2],
            static_prefix="/".join(_literal_prefix(components)),
            precision=_precision(set(fields)),
            _strict=_compiled(components, "(?P=%s)"),
            _loose=_compiled(components, "") if len(fields) > len(set(fields)) else None,
        )

    def match(self, relative_path: str) -> PathMatch | None:
        """What a path below the recorder root says; None where it is not of this layout's shape.

        Raises NotASegment: `impossible_time` for the 13th month, `contradictory_name` where a field that
        occurs twice has two values.
        """
        # The first look is for speed: a scanner asks about every file.
        if not relative_path.endswith(self.extension) or not _is_plain(relative_path):
            return None
        if found := self._strict.fullmatch(relative_path):
            return self._path_match(found.groupdict(), relative_path)
        if self._loose and self._loose.fullmatch(relative_path):
            raise NotASegment("contradictory_name", f"the name says two things: {relative_path!a}")
        return None

    def _path_match(self, values: Mapping[str, str], path: str) -> PathMatch:
        uuid = values.get("camera_id")
        try:
            instant, wall = _moments(values)
        except (ValueError, OverflowError) as exc:
            raise NotASegment("impossible_time", f"{path!a}: {exc}") from exc
        return PathMatch(
            camera_folder=values.get("camera") or uuid or "",
            camera_id=UUID(uuid) if uuid else None,
            instant=instant,
            wall=wall,
            zone=self.zone,
            precision=self.precision,
        )


def resolve_start(match: PathMatch, *, closed_at: datetime, duration: timedelta) -> ResolvedStart:
    """When the segment began, by its name; `closed_at` (aware, the file's mtime) decides what the name
    leaves open, and puts it in doubt where the two differ by more than a segment (TIME_SUSPECT).

    A local time that occurs twice is the one nearer to `closed_at - duration` (TIME_AMBIGUOUS). One that
    never occurs is read with the offset before the gap, as in PEP 495 (TIME_SUSPECT).
    """
    expected = closed_at.astimezone(UTC) - duration
    start, flags = _read(match, expected)
    if abs(start - expected) > max(duration, match.precision, _LEAST_TOLERANCE):
        flags |= {SegmentFlag.TIME_SUSPECT}
    return ResolvedStart(start, flags)


def _read(match: PathMatch, expected: datetime) -> tuple[datetime, frozenset[SegmentFlag]]:
    if match.instant is not None:
        return match.instant, frozenset()
    assert match.wall is not None
    early, late = (match.wall.replace(tzinfo=match.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early == late:
        return early, frozenset()
    if early > late:  # PEP 495: in a gap the two readings come in the other order
        return early, frozenset({SegmentFlag.TIME_SUSPECT})
    nearest = min(early, late, key=lambda start: abs(start - expected))
    return nearest, frozenset({SegmentFlag.TIME_AMBIGUOUS})


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of one path component: literal text where `name` is None, else a field or `*`.

    A name that is not in _SHAPES is a fault, unless the token is ** and a component of its own.
    """

    text: str
    name: str | None = None


def _tokens(component: str) -> tuple[_Token, ...]:
    texts = (_SHORTHANDS.get(text, (text,)) for text in _TOKEN.findall(component))
    return tuple(_token(text) for several in texts for text in several)


def _token(text: str) -> _Token:
    if text == "%%":
        return _Token("%")
    if text[0] not in "%{}*":
        return _Token(text)
    return _Token(text, _NAMES.get(text, text))


_Fault = tuple[str, str]
_Component = Sequence[_Token]


def _faults(components: Sequence[_Component]) -> Iterator[_Fault]:
    """Message and hint of everything that is wrong with a pattern."""
    yield from _path_faults(components)
    deep = [component for component in components if _is_deep(component)]
    if len(deep) > 1:
        yield "has ** more than once", "a path could be read in several ways"
    flat = [component for component in components if not _is_deep(component)]
    for component in flat:
        yield from _component_faults(component)
    yield from _field_faults({token.name for component in flat for token in component if token.name})


def _path_faults(components: Sequence[_Component]) -> Iterator[_Fault]:
    texts = ["".join(token.text for token in component) for component in components]
    if any(text in {"", ".", ".."} for text in texts):
        yield "has an empty, . or .. component", "write it relative to the recorder's path"
    if any("\0" in text for text in texts):
        yield "holds a NUL character", ""
    last = components[-1][-1] if components[-1] else _Token("")
    if last.name or not last.text.rpartition(".")[1] or last.text.endswith("."):
        yield "does not end in an extension", "end it in .ts, or whatever the recorder's files end in"


def _component_faults(component: _Component) -> Iterator[_Fault]:
    for token in component:
        if token.text.startswith("**"):
            yield f"has {token.text} beside other text", "** stands between two slashes, or at the start"
        elif token.name and token.name not in _SHAPES:
            yield f"has an unknown placeholder {token.text}", "known: {camera} {camera_id} %Y … %s %z %f * **"
    for before, after in pairwise(component):
        names = {before.name, after.name}
        if names <= _OF_ANY_WIDTH and (after.name != "z" or names & _FREE):
            yield f"does not say where {before.text} ends and {after.text} begins", "put text between them"
    yield from _separation_faults(component)


def _separation_faults(component: _Component) -> Iterator[_Fault]:
    """Two pieces of free text need more between them than text which either may hold as well."""
    free = [index for index, token in enumerate(component) if token.name in _FREE]
    for first, second in pairwise(free):
        between = component[first + 1 : second]
        named, literal = any(token.name for token in between), any(not token.name for token in between)
        if between and not (named and literal):
            texts = component[first].text, component[second].text
            yield (
                f"does not say where {texts[0]} ends and {texts[1]} begins",
                "put a time and text between them",
            )


def _field_faults(names: set[str]) -> Iterator[_Fault]:
    if not names & {"camera", "camera_id"}:
        yield "does not name the camera", "put {camera} or {camera_id} where the camera's folder is"
    for pair, reason in (("Yy", "the year"), ("HI", "the hour"), ("jm", "the day"), ("jd", "the day")):
        if set(pair) <= names:
            yield f"gives {reason} in two ways, %{pair[0]} and %{pair[1]}", "keep one of them"
    if ("I" in names) != ("p" in names):
        yield "has only one of %I and %p", "write both, or %H"
    if "f" in names and not names & {"s", "S"}:
        yield "has %f without %S or %s", "a fraction belongs to seconds"
    if "s" not in names:
        yield from _wall_faults(names)


def _wall_faults(names: set[str]) -> Iterator[_Fault]:
    day = names & {"Y", "y"} and ("j" in names or {"m", "d"} <= names)
    if not day or not names & {"H", "I"}:
        yield "does not say when a segment began", "name day and hour (%Y %m %d %H), or %s"
    if "S" in names and "M" not in names:
        yield "has %S without %M", ""


def _is_deep(component: _Component) -> bool:
    return [token.text for token in component] == ["**"]


def _literal_prefix(components: Sequence[_Component]) -> Iterator[str]:
    """The leading components, short of the file name, that hold no field."""
    literal = takewhile(lambda component: not any(token.name for token in component), components[:-1])
    return ("".join(token.text for token in component) for component in literal)


def _precision(names: set[str]) -> timedelta:
    if names & {"s", "S"}:
        return timedelta(seconds=1)
    return timedelta(minutes=1) if "M" in names else timedelta(hours=1)


def _compiled(components: Sequence[_Component], repeated: str) -> re.Pattern[str]:
    """A pattern with a group for each field; `repeated` is what stands for a field that had its group."""
    seen: set[str] = set()
    pieces = [_component_pattern(component, seen, repeated) for component in components]
    return re.compile("".join(pieces).removesuffix("/"))


def _component_pattern(component: _Component, seen: set[str], repeated: str) -> str:
    if _is_deep(component):
        return "(?:[^/]+/)*"
    return "".join(_token_pattern(token, seen, repeated) for token in component) + "/"


def _token_pattern(token: _Token, seen: set[str], repeated: str) -> str:
    if token.name is None:
        return re.escape(token.text)
    shape = f"(?:{_SHAPES[token.name]})"
    if token.name == "*":
        return shape
    if token.name in seen:
        return repeated % token.name if repeated else shape
    seen.add(token.name)
    return f"(?P<{token.name}>{shape})"


def _is_plain(path: str) -> bool:
    """Whether a path means what it says: relative, no empty component, no way out."""
    return not {"", ".", ".."} & set(path.split("/")) and "\0" not in path


def _moments(values: Mapping[str, str]) -> tuple[datetime | None, datetime | None]:
    """The exact instant, or else the wall clock's time. ValueError or OverflowError where there is none."""
    fraction = timedelta(microseconds=int(values.get("f", "").ljust(6, "0")[:6]))
    if "s" in values:
        return _representable(EPOCH + timedelta(seconds=int(values["s"])) + fraction), None
    day = _day(values)
    clock = time(_hour(values), _number(values, "M"), _number(values, "S"))
    wall = _representable(datetime.combine(day, clock) + fraction)
    return (_shifted(wall, values["z"]), None) if "z" in values else (None, wall)


def _day(values: Mapping[str, str]) -> date:
    year = int(values["Y"]) if "Y" in values else 2000 + int(values["y"])
    if "j" not in values:
        return date(year, int(values["m"]), int(values["d"]))
    day = date(year, 1, 1) + timedelta(days=int(values["j"]) - 1)
    if day.year != year:
        raise ValueError(f"no day {values['j']} in {year}")
    return day


def _hour(values: Mapping[str, str]) -> int:
    if "I" not in values:
        return int(values["H"])
    hour = int(values["I"])
    if not 1 <= hour <= 12:
        raise ValueError(f"no hour {hour} on a dial")
    return hour % 12 + (12 if values["p"].lower() == "pm" else 0)


def _number(values: Mapping[str, str], name: str) -> int:
    return int(values.get(name, "0"))


def _shifted(wall: datetime, offset: str) -> datetime:
    """The instant at which a wall clock with this offset from UTC shows this time."""
    digits = offset[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if minutes > 59:
        raise ValueError(f"no offset {offset}")
    east = timedelta(hours=hours, minutes=minutes)
    return wall.replace(tzinfo=timezone(-east if offset[0] == "-" else east)).astimezone(UTC)


def _representable(moment: datetime) -> datetime:
    """The moment, if every zone can show it and a recorder can mean it."""
    if not 1970 <= moment.year <= 9998:
        raise ValueError(f"no recorder ran in {moment.year}")
    return moment
