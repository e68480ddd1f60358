"""A strict reader of WebVTT files as thumbnails have them (W3C WebVTT 4.1; Media Fragments 1.0, 4.2.2)."""

import re
from dataclasses import dataclass

_FILE = re.compile(r"WEBVTT\n(?:\n[^\n]+\n[^\n]+\n)*")
_TIME = r"([0-9]{2,}):([0-5][0-9]):([0-5][0-9])\.([0-9]{3})"
_CUE = re.compile(rf"{_TIME} --> {_TIME}\n([^\s#]+)#xywh=([0-9]+),([0-9]+),([0-9]+),([0-9]+)")


@dataclass(frozen=True, slots=True)
class Cue:
    """Seconds from the start of the span, the sheet's address, and where on it: x, y, width, height."""

    start_s: float
    end_s: float
    sheet: str
    box: tuple[int, int, int, int]


def cues_of(text: str) -> list[Cue]:
    """Every cue; AssertionError for what a strict parser would not take."""
    assert _FILE.fullmatch(text), text
    cues: list[Cue] = []
    for block in text.removesuffix("\n").split("\n\n")[1:]:
        found = _CUE.fullmatch(block)
        assert found, block
        numbers = [int(found[at]) for at in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13)]
        cue = Cue(_seconds(numbers[:4]), _seconds(numbers[4:8]), found[9], _box(numbers[8:]))
        assert cue.start_s < cue.end_s, block
        assert not cues or cues[-1].start_s <= cue.start_s, "cues are in the order of their starts"
        cues.append(cue)
    return cues


def _seconds(parts: list[int]) -> float:
    hours, minutes, seconds, milliseconds = parts
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _box(numbers: list[int]) -> tuple[int, int, int, int]:
    x, y, width, height = numbers
    return x, y, width, height
