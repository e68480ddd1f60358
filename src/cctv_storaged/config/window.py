"""A daily window of wall-clock time, such as `22:00-06:00 Europe/Oslo`, and time zones by name. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cctv_storaged.config.units import BadValueError

_MINUTE = timedelta(minutes=1)
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_WINDOW = re.compile(rf"{_CLOCK}-(?:{_CLOCK}|24:00)(?: +(\S+))?")


def zone_named(name: str) -> tzinfo:
    """The IANA zone of that name; UTC is known even where the host has no zone files."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:  # OSError: a folder such as "Europe"
        hint = "an IANA name such as Europe/Oslo; the host needs its tzdata package for any but UTC"
        raise BadValueError("is not a time zone this host knows", hint) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow:
    """Open each day from `opens` until just before `closes`, by the clocks of `zone`; may pass midnight."""

    opens: time
    closes: time
    zone: tzinfo = UTC

    def __post_init__(self) -> None:
        if self.opens == self.closes:
            raise BadValueError("opens and closes at the same time", "leave the window out for the whole day")

    @classmethod
    def parse(cls, text: str) -> "TimeWindow":
        """From `HH:MM-HH:MM`, optionally a blank and an IANA zone (else UTC); `24:00` may close."""
        match = _WINDOW.fullmatch(text.strip())
        if match is None:
            raise BadValueError("must be a daily window such as 22:00-06:00 or 22:00-06:00 Europe/Oslo")
        opens_h, opens_m, closes_h, closes_m, zone = match.groups()
        closes = time() if closes_h is None else time(int(closes_h), int(closes_m))
        return cls(opens=time(int(opens_h), int(opens_m)), closes=closes, zone=zone_named(zone or "UTC"))

    def contains(self, moment: datetime) -> bool:
        """Whether the window is open at an aware moment."""
        wall = self._wall_clock(moment)
        if self.opens < self.closes:
            return self.opens <= wall < self.closes
        return wall >= self.opens or wall < self.closes

    def next_opening(self, moment: datetime) -> datetime:
        """The first moment from `moment` on at which the window is open, in UTC; `moment` itself if it is.

        Walks whole minutes, at most some three thousand, instead of computing: on the day of a clock change
        the opening time may come twice or never, and windows and zone offsets change on whole minutes only.
        """
        if self.contains(moment):
            return moment.astimezone(UTC)
        candidate = moment.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        while not self.contains(candidate):
            candidate += _MINUTE
        return candidate

    def __str__(self) -> str:
        return f"{self.opens:%H:%M}-{self.closes:%H:%M} {self.zone}"

    def _wall_clock(self, moment: datetime) -> time:
        if moment.tzinfo is None:
            raise ValueError(f"a window is asked about aware moments, got {moment!r}")
        return moment.astimezone(self.zone).time()
