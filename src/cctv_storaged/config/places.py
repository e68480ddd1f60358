"""Key paths, and where each of them was given: the line of a file or the name of a variable. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]
"""`("recorders", 0, "path")`: names of keys, and positions in lists."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]+)\]")


def key_text(key: KeyPath) -> str:
    """`recorders[0].path`, as faults and the reference write it."""
    text = ""
    for step in key:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text


def key_path(text: str) -> KeyPath:
    """The way back, for keys without odd characters; whatever is not a key is one step of itself."""
    steps = list(_STEP.finditer(text))
    if "".join(step[0] for step in steps) != text:
        return (text,)
    return tuple(step[1] or int(step[2]) for step in steps)


class KeySet:
    """Keys that can be asked about at once, however many: a file may have a fault on every line."""

    def __init__(self) -> None:
        self._keys: set[KeyPath] = set()
        self._above: set[KeyPath] = set()

    def add(self, key: KeyPath) -> None:
        self._keys.add(key)
        self._above.update(key[:length] for length in range(len(key)))

    def __contains__(self, key: KeyPath) -> bool:
        return key in self._keys

    def touches(self, key: KeyPath) -> bool:
        """Whether the key lies at, below or above one of these; the whole file is none of them."""
        return key in self._above or any(part in self._keys for part in _upwards(key))


@dataclass(slots=True)
class Places:
    """What to name as the place of a key."""

    file: str | None  # as the operator wrote it
    lines: dict[KeyPath, int] = field(default_factory=dict)
    names: dict[KeyPath, str] = field(default_factory=dict)  # keys given by a variable or credential

    def where(self, key: KeyPath) -> str:
        """`NAME` for a key from the environment, else `FILE:LINE: KEY` with the nearest line known."""
        name = next((self.names[part] for part in _upwards(key) if part in self.names), None)
        if name is not None:
            return name
        line = next((self.lines[part] for part in _upwards(key) if part in self.lines), None)
        source = self.file or "settings"
        return f"{source}: {key_text(key)}" if line is None else f"{source}:{line}: {key_text(key)}"


def _upwards(key: KeyPath) -> Iterator[KeyPath]:
    """The key, then what it lies in, up to but without the root."""
    return (key[:length] for length in range(len(key), 0, -1))
