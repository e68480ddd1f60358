"""A settings file into plain values with the line of each key, or into faults that say what is wrong.

Scalars follow the YAML 1.2 core schema, not PyYAML's 1.1: `no` is text and not false, `22:00` is text and not
1320, a date stays text, `007` keeps its zeros. Tags and merge keys are refused. The file is hostile until
shown otherwise: its size, depth, number of values and aliases are limited before anything is built from it.
No message quotes the file, because a line of it may hold a secret.
"""

import copy
import itertools
import re
from collections.abc import Iterator

import yaml

from cctv_storaged.config.draft import Draft
from cctv_storaged.config.places import KeyPath, Places, key_text
from cctv_storaged.errors import Fault

LARGEST_FILE_BYTES = 2**20
MOST_EVENTS = 40_000
MOST_ALIASES = 16
"""Sixteen aliases, however nested, repeat a value at most a few hundred times."""
DEEPEST = 24

_QUOTED = re.compile(r"""(['"])(.*?)\1""")
_NAMELESS = re.compile(r"<[a-z ]+>|\\?.|")  # a kind of token, or one character

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})\.[0-9]{1,30}")


class _RefusedError(Exception):
    """The text cannot be a settings file at all."""

    def __init__(self, line: int | None, message: str, hint: str = "") -> None:
        self.line = line
        self.message = message
        self.hint = hint
        super().__init__(message)


def read_draft(path: str) -> Draft:
    """The file's content; whatever keeps it from being read is a fault in the draft."""
    draft = Draft(Places(file=path))
    try:
        draft.tree = _Builder(_events(_text_of(path)), draft).document()
    except _RefusedError as refused:
        where = path if refused.line is None else f"{path}:{refused.line}"
        draft.faults = [Fault(where, refused.message, refused.hint)]
        draft.faulty.add(())
    return draft


def _text_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _RefusedError(None, "there is no such file") from None
    except IsADirectoryError:
        raise _RefusedError(None, "is a folder, not a file", "name the YAML file in it") from None
    except PermissionError:
        raise _RefusedError(
            None, "may not be read by this user", "check the owner and mode of file and folders"
        ) from None
    except OSError as exc:
        raise _RefusedError(None, f"cannot be read: {exc.strerror}") from exc
    if len(content) > LARGEST_FILE_BYTES:
        raise _RefusedError(None, "is larger than 1 MiB", "this is not a settings file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _RefusedError(content.count(b"\n", 0, exc.start) + 1, "is not UTF-8 text") from None


def _events(text: str) -> Iterator[yaml.Event]:
    """The parser's events, as long as they stay within the limits."""
    depth = aliases = 0
    for count, event in enumerate(_parsed(text), start=1):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > DEEPEST:
            raise _RefusedError(_line(event), f"is nested more than {DEEPEST} deep")
        if aliases > MOST_ALIASES:
            raise _RefusedError(
                _line(event), f"uses more than {MOST_ALIASES} aliases", "write the values out"
            )
        if count > MOST_EVENTS:
            raise _RefusedError(_line(event), "holds more values than settings can have")
        yield event


def _parsed(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_fault(exc) from None
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise _RefusedError(
            line, f"holds a character that YAML does not allow: #x{exc.character:04x}"
        ) from None


def _syntax_fault(exc: yaml.MarkedYAMLError) -> _RefusedError:
    """What the parser says, without what it quotes: an undefined tag handle may be half a password."""
    problem = _QUOTED.sub(lambda match: match[0] if _NAMELESS.fullmatch(match[2]) else "…", exc.problem or "")
    begun = exc.context_mark.line + 1 if exc.context_mark else None
    at = exc.problem_mark.line + 1 if exc.problem_mark else begun
    message = f"is not YAML: {problem}" + (
        f", in what begins on line {begun}" if begun not in {None, at} else ""
    )
    tab = "\\t" in problem
    return _RefusedError(
        at, message, "indent with blanks, not tabs" if tab else "put odd characters in 'single quotes'"
    )


class _Builder:
    """Turns parser events into plain values; keeps lines and faults as it goes."""

    def __init__(self, events: Iterator[yaml.Event], draft: Draft) -> None:
        self._events = events
        self._draft = draft
        self._lines = draft.places.lines
        self._anchored: dict[str, object] = {}

    def document(self) -> dict[str, object]:
        """The one document of the stream; a file without any is as good as an empty mapping."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                tree = self._top(next(self._events))
                self._expect_end()
                return tree
        return {}

    def _top(self, event: yaml.Event) -> dict[str, object]:
        value = self._value(event, ())
        if value is None and not self._draft.faults:
            return {}
        if not isinstance(value, dict):
            raise _RefusedError(_line(event), "must be a mapping of keys at the top", "as in mode: LOCAL")
        return value

    def _expect_end(self) -> None:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise _RefusedError(_line(event), "begins a second document", "a settings file holds one")

    def _value(self, event: yaml.Event, key: KeyPath) -> object:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, key)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, key)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(key)
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(key)
        else:
            raise TypeError(f"no value begins with {event!r}")
        if event.tag is not None:
            self._fault(event, key, "has a YAML tag", "quote a text that begins with '!'")
            return None
        if event.anchor is not None:
            self._anchored[event.anchor] = value
        return value

    def _alias(self, event: yaml.AliasEvent, key: KeyPath) -> object:
        """A copy of what the anchor named. An anchor is known once its value is whole: none holds itself."""
        if event.anchor is None or event.anchor not in self._anchored:
            hint = "quote a text that begins with '*'"
            self._fault(event, key, "is an alias of something not given before it", hint)
            return None
        return copy.deepcopy(self._anchored[event.anchor])

    def _mapping(self, key: KeyPath) -> dict[str, object]:
        found: dict[str, object] = {}
        for event in self._until(yaml.MappingEndEvent):
            name = self._name(event, key)
            below = (*key, name)
            if name in found:
                self._fault(event, below, f"is given twice, first on line {self._lines[below]}")
            self._lines.setdefault(below, _line(event))
            value = self._value(next(self._events), below)
            found[name] = value
        return found

    def _name(self, event: yaml.Event, key: KeyPath) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            raise _RefusedError(_line(event), "has a key that is not plain text")
        if event.value == "<<" and event.style is None:
            self._fault(event, key, "uses a merge key (<<)", "write the values out")
        return str(event.value)

    def _list(self, key: KeyPath) -> list[object]:
        items: list[object] = []
        for event in self._until(yaml.SequenceEndEvent):
            below = (*key, len(items))
            self._lines.setdefault(below, _line(event))
            items.append(self._value(event, below))
        return items

    def _scalar(self, event: yaml.ScalarEvent, key: KeyPath) -> object:
        value = event.value if event.style else core_schema_value(event.value)
        if isinstance(value, str) and not _is_unicode(value):
            self._fault(event, key, "is not Unicode text")
            return None
        return value

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        return itertools.takewhile(lambda event: not isinstance(event, end), self._events)

    def _fault(self, event: yaml.Event, key: KeyPath, message: str, hint: str = "") -> None:
        where = f"{self._draft.places.file}:{_line(event)}"
        self._draft.faults.append(Fault(f"{where}: {key_text(key)}" if key else where, message, hint))
        self._draft.faulty.add(key)


def core_schema_value(text: str) -> str | int | float | bool | None:
    """An unquoted scalar by the YAML 1.2 core schema (section 10.3.2), without octal, hex, infinity."""
    if text in _NULL:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(event: yaml.Event) -> int:
    return 1 if event.start_mark is None else event.start_mark.line + 1
