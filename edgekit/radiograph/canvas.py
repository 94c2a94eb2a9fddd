"""A film becomes the canvas that the graph sees: sections 2 and 3 of ``docs/canvas.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.types import Box


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a film lies on its canvas. Film and canvas coordinates have their origin at the outer corner of the top-left pixel.

    Attributes
    ----------
    side
        Side of the square canvas in pixels.
    scale
        Canvas pixels per film pixel along the film's long side.
    left, top
        First canvas column and row that the film covers.
    width, height
        Size of the film in film pixels.
    """

    side: int
    scale: float
    left: int
    top: int
    width: int
    height: int

    @property
    def covered(self) -> tuple[int, int]:
        """Width and height of the film on the canvas in whole canvas pixels."""
        return max(1, math.floor(self.width * self.scale + 0.5)), max(1, math.floor(self.height * self.scale + 0.5))

    def to_canvas(self, box: Box) -> Box:
        """Map a box from film pixels to canvas pixels."""
        covered_width, covered_height = self.covered
        x, y = covered_width / self.width, covered_height / self.height
        return self.left + box[0] * x, self.top + box[1] * y, self.left + box[2] * x, self.top + box[3] * y

    def to_film(self, box: Box) -> Box:
        """Map a box from canvas pixels to film pixels; not clipped to the film."""
        covered_width, covered_height = self.covered
        x, y = self.width / covered_width, self.height / covered_height
        return (box[0] - self.left) * x, (box[1] - self.top) * y, (box[2] - self.left) * x, (box[3] - self.top) * y

    def to_film_within(self, box: Box) -> list[float]:
        """Map a box from canvas pixels to film pixels and cut it at the film's edges: the detector may reach into the padding."""
        limits = (self.width, self.height) * 2
        return [min(max(edge, 0.0), float(limit)) for edge, limit in zip(self.to_film(box), limits, strict=True)]


def make_canvas(pixels: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], Letterbox]:
    """Letterbox a film into a square canvas (``docs/canvas.md``, "Letterbox" and "Resampling").

    Parameters
    ----------
    pixels
        uint8 (height, width) film.
    side
        Side S of the canvas in pixels.

    Returns
    -------
    canvas
        uint8 (S, S): the film, resampled by a triangle filter so that its long side fills S, centred, 0 around it.
    letterbox
        How film pixels and canvas pixels correspond.

    Raises
    ------
    ValueError
        `pixels` is not a two-dimensional uint8 array with at least one pixel.
    """
    from PIL import Image

    if pixels.ndim != 2 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise ValueError(f"expected a uint8 film (height, width), got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape
    scale = side / max(width, height)
    covered_width, covered_height = Letterbox(side, scale, 0, 0, width, height).covered
    letterbox = Letterbox(side, scale, (side - covered_width) // 2, (side - covered_height) // 2, width, height)
    film = Image.fromarray(pixels).resize((covered_width, covered_height), Image.Resampling.BILINEAR)
    canvas = np.zeros((side, side), np.uint8)
    canvas[letterbox.top : letterbox.top + covered_height, letterbox.left : letterbox.left + covered_width] = np.asarray(film)
    return canvas, letterbox
