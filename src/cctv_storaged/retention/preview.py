"""What rules would delete now, and what would stay: counted, nothing changed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cctv_storaged.journal.retention import RetainedCamera, Retentions, Swept
from cctv_storaged.model import Camera
from cctv_storaged.retention.brake import Pass, explained, stops
from cctv_storaged.retention.rules import Policy, Rule
from cctv_storaged.retention.weighing import Weights, limits_of, weigh


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPreview:
    """One camera under its rule."""

    camera: Camera
    rule: Rule
    weights: Weights
    stops: bool  # the pass would wait for a yes


async def preview(
    rows: Retentions, policy: Policy, pinned: Collection[UUID], now: datetime
) -> list[CameraPreview]:
    """Camera by camera, by name."""
    swept = await rows.swept()
    return [await _of_camera(rows, each, policy, swept, pinned, now) for each in await rows.cameras()]


async def _of_camera(
    rows: Retentions,
    camera: RetainedCamera,
    policy: Policy,
    swept: Mapping[UUID, Swept],
    pinned: Collection[UUID],
    now: datetime,
) -> CameraPreview:
    rule, remembered = policy.rule_for(camera.camera), swept.get(camera.camera.id, Swept())
    weights = await weigh(rows, camera, limits_of(rule, explained(remembered, None, now), now), pinned)
    what = Pass(unexplained=weights.unexplained, of_segments=camera.segments)
    stopped = rule.at_most is not None and stops(what, rule.at_most, remembered, now)
    return CameraPreview(camera=camera.camera, rule=rule, weights=weights, stops=stopped)
