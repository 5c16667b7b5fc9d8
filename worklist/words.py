"""What people read instead of our terms: bands, states, regions, ages. One catalogue of texts."""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from studies.model import Band, DeliveryState, Region, Status

UNVERIFIED: Final = "Not verified by a physician"

BANDS: Final = MappingProxyType(
    {
        Band.POSITIVE: "fracture likely",
        Band.DOUBTFUL: "doubtful, please look",
        Band.NEGATIVE: "no fracture seen",
    }
)

NOT_ANALYSED: Final = "not analysed"

STATUSES: Final = MappingProxyType(
    {
        Status.RECEIVING: "receiving",
        Status.READY: "waiting to be read",
        Status.READING: "being read",
        Status.READ: "read",
        Status.REPORTED: "reported",
        Status.NOT_ANALYSED: NOT_ANALYSED,
        Status.FAILED: "failed",
        Status.QUARANTINED: "quarantined",
    }
)

DELIVERIES: Final = MappingProxyType(
    {
        DeliveryState.PENDING: "waits for its next try",
        DeliveryState.SENDING: "is being sent",
        DeliveryState.SENT: "arrived",
        DeliveryState.DEAD: "refused for good (dead letter)",
    }
)

REGIONS: Final = MappingProxyType(
    {
        Region.HAND_WRIST: "hand or wrist",
        Region.FOREARM: "forearm",
        Region.ELBOW: "elbow",
        Region.HUMERUS: "upper arm",
        Region.SHOULDER: "shoulder",
        Region.HIP: "hip",
        Region.THIGH: "thigh",
        Region.KNEE: "knee",
        Region.LEG: "lower leg",
        Region.ANKLE: "ankle",
        Region.FOOT: "foot",
    }
)

NO_REGION: Final = "it shows no region that a model may read"
"""Completes "not analysed, because …" for an image that the router knew, and no model may judge."""


def percent(probability: float) -> str:
    """A probability of 0 to 1 in whole percent, never rounded up to a certainty.

    >>> percent(0.914), percent(0.9999), percent(0.0001)
    ('91 %', '> 99 %', '< 1 %')
    """
    if probability > 0.99:
        return "> 99 %"
    if probability < 0.01:
        return "< 1 %"
    return f"{100 * probability:.0f} %"


def age(passed: timedelta) -> str:
    """How long ago something was, in the largest unit that fits: "3 min", "2 h", "5 d"."""
    seconds = max(0, int(passed.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def seconds(value: float | None) -> str:
    """A duration to a tenth of a second, as far as that says anything; "" where there is none."""
    if value is None:
        return ""
    return f"{value:.1f} s" if value < 120 else age(timedelta(seconds=value))
