"""What must be refused: reproducible, of every kind, and nothing that training drew."""

import numpy as np

from training.strangers import KINDS, strangers


def test_every_kind_is_there_and_is_a_picture():
    """A kind whose files were missing would make the refusal look better than it is."""
    found = strangers(3)

    assert [kind for kind, _ in found] == [kind for kind in KINDS for _ in range(3)]
    for _, grey in found:
        assert grey.dtype == np.float32
        assert grey.ndim == 2
        assert 0 <= grey.min() < grey.max() <= 1


def test_the_pictures_are_the_same_on_every_run():
    """Figures of two runs are of the same pictures."""
    for (_, first), (_, second) in zip(strangers(2), strangers(2), strict=True):
        assert np.array_equal(first, second)


def test_the_pictures_of_a_kind_differ():
    """Forty copies of one photograph would count as one."""
    pictures = strangers(9)

    for kind in KINDS:
        shapes = {(g.shape, g.tobytes()) for k, g in pictures if k == kind}
        assert len(shapes) == 9
