"""All that a daemon has to do with its XProtect site, open."""

from dataclasses import dataclass

from cctv_storaged.backends.milestone.base import Vms
from cctv_storaged.vms.conditionwatch import ConditionWatch
from cctv_storaged.vms.holdmarks import HoldMarking
from cctv_storaged.vms.mapping import CameraMapping
from cctv_storaged.vms.opening import Proof
from cctv_storaged.vms.readback import Readback


@dataclass(frozen=True, slots=True, kw_only=True)
class VmsParts:
    """Who asks the site for what."""

    vms: Vms
    mapping: CameraMapping
    proof: Proof
    readback: Readback
    watch: ConditionWatch
    marking: HoldMarking
