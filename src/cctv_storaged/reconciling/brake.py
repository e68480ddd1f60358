"""How much may be gone before a run stops believing it. Pure.

A bucket that was emptied, a disk that is not there, a journal that forgot: each looks like a great many
single losses. One loss alone never brakes, or a camera of three segments could not be mended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from cctv_storaged.reconciling.differences import SectionAccount, Share

CAMERA_SHARE = 0.10
SECTION_SHARE = 0.50


@dataclass(frozen=True, slots=True, kw_only=True)
class Braked:
    """Where nothing is acted on; without a camera: nowhere in the section."""

    section: str
    camera_id: UUID | None
    gone: int
    compared: int


def allowed(compared: int, share: float) -> int:
    """How many of so many rows may be gone."""
    return max(1, int(compared * share))


def braked(section: SectionAccount) -> Iterator[Braked]:
    """What the brake says of a section that was looked at whole."""
    if section.gone > allowed(section.compared, SECTION_SHARE):
        yield Braked(section=section.name, camera_id=None, gone=section.gone, compared=section.compared)
    for camera_id, share in section.shares.items():
        if share.gone > allowed(share.compared, CAMERA_SHARE):
            yield Braked(section=section.name, camera_id=camera_id, gone=share.gone, compared=share.compared)


def may_act_once_more(section: SectionAccount, share: Share) -> bool:
    """Whether one more of a camera's rows may be acted on: more may be gone by now than was found."""
    acted = sum(each.acted for each in section.shares.values())
    return share.acted < allowed(share.compared, CAMERA_SHARE) and acted < allowed(
        section.compared, SECTION_SHARE
    )
