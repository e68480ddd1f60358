"""What changed settings mean for a running daemon: what SIGHUP changes, what waits for a restart. Pure."""

from dataclasses import dataclass

from cctv_storaged.config.places import KeyPath, key_path, key_text
from cctv_storaged.config.section import Section
from cctv_storaged.config.settings import Settings

RELOADABLE = (
    "log_level",
    "config_version",
    "cameras",
    "delivery.rate_limit",
    "delivery.window",
    "delivery.backlog_newest_share",
    "source",
    "retention",
    "ledger",
    *(f"capacity.{level}_{unit}" for level in ("warn", "clean", "emergency") for unit in ("free", "left")),
    "capacity.on_full",
    "alerts",
    "scrub",
    "reconcile",
)
"""Everything else is held open (files, sockets, clients, threads) by parts that are built once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadPlan:
    """The keys that differ, such as `log_level` or `delivery.window`."""

    now: frozenset[str]  # may change in the running daemon
    restart: frozenset[str]  # stay as they are until it is started again
    settings: Settings  # the old ones with what changes now: those in force afterwards


def reloadable_difference(old: Settings, new: Settings) -> ReloadPlan:
    """What differs between the settings in force and those just read."""
    changed = changed_keys(old, new, ())
    now = frozenset(key for key in changed if _is_reloadable(key))
    return ReloadPlan(
        now=frozenset(map(key_text, now)),
        restart=frozenset(map(key_text, changed - now)),
        settings=_with(old, new, now),
    )


def changed_keys(old: Section, new: Section, above: KeyPath) -> frozenset[KeyPath]:
    """The keys of unequal values; sections are looked into, lists and mappings are taken whole."""
    changed: set[KeyPath] = set()
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, Section) and isinstance(after, Section):
            changed |= changed_keys(before, after, (*above, name))
        else:
            changed.add((*above, name))
    return frozenset(changed)


def _is_reloadable(key: KeyPath) -> bool:
    return any(key[: len(allowed)] == allowed for allowed in map(key_path, RELOADABLE))


def _with(old: Settings, new: Settings, keys: frozenset[KeyPath]) -> Settings:
    """`old` with the values of `keys` taken from `new`."""
    updates = {str(key[0]): _replaced(old, new, str(key[0]), keys) for key in keys}
    return old.model_copy(update=updates)


def _replaced(old: Section, new: Section, name: str, keys: frozenset[KeyPath]) -> object:
    before, after = getattr(old, name), getattr(new, name)
    below = frozenset(key[1:] for key in keys if key[0] == name and len(key) > 1)
    if not below or not isinstance(before, Section) or not isinstance(after, Section):
        return after
    updates = {str(key[0]): _replaced(before, after, str(key[0]), below) for key in below}
    return before.model_copy(update=updates)
