"""Opening the daemon's parts in order, each with what it needs, and closing them in the reverse order.

    foundation ─► inflow ─► reading ─► letting_go ─► upkeep ─► api, telling ─► Parts
                    └ vms

Nothing is decided here: each part is built of what the settings say, and given those that it asks.
"""

from cctv_storaged.assembly.opening import assembled
from cctv_storaged.assembly.parts import Parts

__all__ = ["Parts", "assembled"]
