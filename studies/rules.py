"""Pure decisions about studies: complete? how urgent? when to try again? No I/O, no clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from studies.model import Band, Reading, Status


def is_complete(
    *,
    now: datetime,
    last_received_at: datetime,
    open_associations: int,
    quiet_seconds: float,
    open_association_seconds: float,
) -> bool:
    """Whether we may assume that no further image of a study is on its way.

    Parameters
    ----------
    open_associations
        Associations that brought images of this study, and are still open on a living listener.
    quiet_seconds
        How long nothing must have come once every association is released.
    open_association_seconds
        How long nothing must have come though an association stays open. Some senders keep
        theirs for hours, and their studies must be read all the same.
    """
    quiet = now - last_received_at
    if open_associations == 0:
        return quiet >= timedelta(seconds=quiet_seconds)
    return quiet >= timedelta(seconds=max(quiet_seconds, open_association_seconds))


def retry_delay(attempt: int, *, first: float = 5.0, most: float = 900.0) -> float:
    """Seconds before the next try, doubling from `first` up to `most`.

    Parameters
    ----------
    attempt
        Number of tries that have failed, from 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt counts from 1: {attempt}")
    return float(min(first * 2 ** min(attempt - 1, 30), most))


def band_of(probability: float, *, sensitive: float, specific: float) -> Band:
    """The band of a calibrated fracture probability (0 to 1) between two operating points.

    Raises
    ------
    ValueError
        If the thresholds are not ordered within 0 to 1.
    """
    if not 0.0 <= sensitive <= specific <= 1.0:
        raise ValueError(f"thresholds must be 0 <= {sensitive} <= {specific} <= 1")
    if probability >= specific:
        return Band.POSITIVE
    if probability < sensitive:
        return Band.NEGATIVE
    return Band.DOUBTFUL


def status_after(reading: Reading) -> Status:
    """Where a study stands once it has been read; REPORTED follows when all is delivered."""
    return Status.READ if reading.not_analysed is None else Status.NOT_ANALYSED


def priority_of(band: Band | None) -> int:
    """Place on the worklist, 0 first: positive, doubtful, not analysed, negative."""
    if band is None:
        return 2
    return {Band.POSITIVE: 0, Band.DOUBTFUL: 1, Band.NEGATIVE: 3}[band]
