"""One image before the models: each input is made once, each trunk runs once."""

from __future__ import annotations

from worker.cards import Card
from worker.models import Array, Model, Models
from worker.pixels import DisplayedImage
from worker.preprocess import Letterbox, preprocess


class ImageInput:
    """An image as the models want it, for as many of them as are asked.

    Parameters
    ----------
    image
        As a radiologist would see it.
    """

    def __init__(self, models: Models, image: DisplayedImage) -> None:
        self._models = models
        self._image = image
        self._pixels: dict[int, tuple[Array, Letterbox]] = {}
        self._features: dict[str, dict[str, Array]] = {}

    def run(self, model: Model) -> tuple[dict[str, Array], Letterbox]:
        """A model's outputs by name, and how its input lies on the stored image."""
        pixels, letterbox = self._input(model.card)
        trunk = self._models.trunk_of(model)
        if trunk is None:
            return model.run({"pixels": pixels}), letterbox
        digest = trunk.card.sha256
        if digest not in self._features:
            self._features[digest] = trunk.run({"pixels": pixels})
        return model.run(self._features[digest]), letterbox

    def _input(self, card: Card) -> tuple[Array, Letterbox]:
        size = card.input.size
        if size not in self._pixels:
            self._pixels[size] = preprocess(
                self._image.pixels,
                self._image.valid,
                size=size,
                pixel_aspect=self._image.pixel_aspect,
            )
        return self._pixels[size]
