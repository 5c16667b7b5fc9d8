"""A radiograph made up from a seed, with which a model proves that it still says the same.

The recipe in a model's card names the picture; nothing of a patient is in it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

GOLDEN: Final = "limb-v1"
"""Name of the picture in model cards: a change of the picture needs a new name."""


def golden_image(name: str = GOLDEN) -> NDArray[np.float32]:
    """Two long bones and a joint in soft tissue, [480, 400], 0 black to 1 white.

    Only exact or correctly rounded arithmetic goes into it, so that machines agree.

    Raises
    ------
    KeyError
        If no golden image has that name.
    """
    if name != GOLDEN:
        raise KeyError(f"no golden image {name!r}; there is {GOLDEN!r}")
    y, x = np.mgrid[0:480, 0:400].astype(np.float64)
    x, y = (x - 200.0) / 200.0, (y - 240.0) / 240.0
    grey = 0.05 + 0.25 * (np.abs(x + 0.1 * y) < 0.45 - 0.08 * y * y)
    for centre, width in ((-0.16, 0.11), (0.12, 0.07)):
        flare = width * (1.0 + 1.5 * y**6)
        across = np.abs(x - centre + 0.1 * y) / flare
        shaft = (across < 1.0) & (np.abs(y - 0.08) < 0.8)
        grey += shaft * (0.25 + 0.25 * across * across)
    for centre in (-0.2, 0.02, 0.2):
        grey += 0.4 * ((x - centre) ** 2 + (y + 0.87) ** 2 < 0.012)
    speckle = (np.arange(480 * 400, dtype=np.uint32).reshape(480, 400) * 2654435761) >> 24
    grey += (speckle.astype(np.float64) / 255.0 - 0.5) * 0.02
    return np.asarray(np.clip(grey, 0.0, 1.0), np.float32)
