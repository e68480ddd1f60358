"""For how long something has been so, by time in which somebody looked. Pure.

A host that slept, a process that was stopped and a clock that was set add nothing.
"""

from dataclasses import dataclass, field


def watched_s(before_s: float | None, now_s: float, every_s: float) -> float:
    """Time between two looks (monotonic seconds) that counts: a look left out is not watched time."""
    return 0.0 if before_s is None else max(0.0, min(now_s - before_s, 2 * every_s))


@dataclass(slots=True)
class Lasting:
    """How long each of several things has been away, in seconds of watched time."""

    _for_s: dict[str, float] = field(default_factory=dict)

    def away(self, name: str, watched_s: float) -> float:
        """It is away at this look; for how long it has been, from the first look that found it so."""
        self._for_s[name] = self._for_s[name] + watched_s if name in self._for_s else 0.0
        return self._for_s[name]

    def back(self, name: str) -> None:
        """It is there."""
        self._for_s.pop(name, None)
