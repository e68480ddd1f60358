"""Bringing copies about, for one backend: claim, put, verify, mark. The only place that decides retry.

    turns      when something is handed out
    putting    one segment: opened, hashed, put, verified
    failing    whose fault a failure is, and what comes of it
    telling    metrics, events, log

`delivery` puts them together, for the daemon and for who deletes, mends and scrubs.
"""

from cctv_storaged.delivery.context import DeliveryContext, DeliverySettings
from cctv_storaged.delivery.delivery import Delivery

__all__ = ["Delivery", "DeliveryContext", "DeliverySettings"]
