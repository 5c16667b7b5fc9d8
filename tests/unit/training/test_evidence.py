"""Which models may speak unasked."""

import pytest

from training.export import is_experimental
from training.metrics import Interval


@pytest.mark.parametrize(
    ("region", "fractures", "low", "experimental"),
    [
        ("forearm", 80, 0.87, False),
        ("forearm", 80, 0.50, True),
        ("foot", 29, 0.90, True),
        ("shoulder", 17, 0.40, False),
    ],
)
def test_a_region_speaks_when_the_set_shows_enough_of_it(region, fractures, low, experimental):
    """Enough fractures, and a figure that is not chance; three regions speak whatever it is."""
    area = Interval(value=0.95, low=low, high=1.0, n=100)

    assert is_experimental(region, fractures, area) is experimental


def test_a_region_without_a_figure_stays_silent():
    """No fracture in the test split, no evidence."""
    assert is_experimental("hip", 100, None)
