"""Settings in the making: a tree of plain values from several sources, with the place of each and its faults.

Lower sources are laid down first and higher ones over them; nothing is checked against the models here.
"""

import itertools
from dataclasses import dataclass, field

from cctv_storaged.config.places import KeyPath, KeySet, Places
from cctv_storaged.config.section import is_empty
from cctv_storaged.errors import Fault


@dataclass(slots=True)
class Draft:
    """Mappings, lists and scalars as YAML has them."""

    places: Places
    tree: dict[str, object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    faulty: KeySet = field(default_factory=KeySet)  # keys that have a fault already; () is the whole file

    def get(self, key: KeyPath) -> object:
        """What the key holds; None where it, or what it lies in, is left out."""
        value: object = self.tree
        for step in key:
            value = _inside(value, step)
        return value

    def lacks(self, key: KeyPath) -> bool:
        return is_empty(self.get(key))

    def put(self, key: KeyPath, value: object, name: str | None = None) -> None:
        """Over whatever is there; `name` is the variable it comes from.

        Keys end in a name. Where something else than a mapping stands on the way, that is found later.
        """
        holder = self._holder(key)
        last = key[-1]
        if isinstance(holder, dict):
            holder[last] = value
        if name is not None:
            self.places.names[key] = name

    def put_if_lacking(self, key: KeyPath, value: object, name: str | None = None) -> None:
        if self.lacks(key):
            self.put(key, value, name)

    def fault(self, key: KeyPath, message: str, hint: str = "", *, where: str | None = None) -> None:
        """Something wrong with the key, as it stands at `where` or else where the key was given."""
        self.faults.append(Fault(where or self.places.where(key), message, hint))
        self.faulty.add(key)

    def _holder(self, key: KeyPath) -> object:
        """What the last step lies in, made on the way where it is left out."""
        holder: object = self.tree
        for step, following in itertools.pairwise(key):
            below = _inside(holder, step)
            if is_empty(below):
                below = [] if isinstance(following, int) else {}
                _attach(holder, step, below)
            holder = below
        return holder


def _attach(holder: object, step: str | int, value: object) -> None:
    if isinstance(holder, dict):
        holder[step] = value
    elif isinstance(holder, list) and step == len(holder):
        holder.append(value)


def _inside(value: object, step: str | int) -> object:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None
