"""Pure decisions: complete, urgent, when to try again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.model import Band
from studies.rules import band_of, is_complete, priority_of, retry_delay
from tests.support.domain import NOON


@pytest.mark.parametrize(
    ("quiet", "open_associations", "complete"),
    ((4.9, 0, False), (5.0, 0, True), (5.0, 1, False), (59.9, 1, False), (60.0, 2, True)),
)
def test_a_study_is_complete_when_it_has_been_quiet(quiet, open_associations, complete):
    """An open association holds a study back, but not for ever."""
    answer = is_complete(
        now=NOON + timedelta(seconds=quiet),
        last_received_at=NOON,
        open_associations=open_associations,
        quiet_seconds=5,
        open_association_seconds=60,
    )

    assert answer is complete


@given(st.integers(1, 10_000))
def test_the_delay_grows_and_stays_bounded(attempt):
    """A destination that is down for a day is asked every quarter of an hour."""
    assert retry_delay(attempt) <= retry_delay(attempt + 1) <= 900


def test_a_try_is_counted_from_one():
    """Zero failed tries have no delay: the caller has miscounted."""
    with pytest.raises(ValueError, match="from 1"):
        retry_delay(0)


@pytest.mark.parametrize(
    ("probability", "band"),
    (
        (0.0, "negative"),
        (0.29, "negative"),
        (0.3, "doubtful"),
        (0.69, "doubtful"),
        (0.7, "positive"),
    ),
)
def test_two_thresholds_make_three_bands(probability, band):
    """At the specific threshold it is positive, at the sensitive one doubtful."""
    assert band_of(probability, sensitive=0.3, specific=0.7) is Band(band)


def test_thresholds_out_of_order_are_refused():
    """A card with swapped operating points would call everything positive."""
    with pytest.raises(ValueError, match="thresholds"):
        band_of(0.5, sensitive=0.7, specific=0.3)


def test_what_was_not_analysed_stands_before_what_was_negative():
    """Nobody has looked at it yet, so it must not sink to the end of the list."""
    order = sorted([Band.NEGATIVE, None, Band.POSITIVE, Band.DOUBTFUL], key=priority_of)

    assert order == [Band.POSITIVE, Band.DOUBTFUL, None, Band.NEGATIVE]
