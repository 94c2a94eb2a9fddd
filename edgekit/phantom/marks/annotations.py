"""What is burned into a film: letters, dates, rulers, arrows, measuring lines, frames, black bars.

Everything is drawn without looking at the picture, so that it occurs alike with and without a construct. Sizes follow the picture's short
side and stay legible from 140 to 3000 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.phantom.marks.page import Page
from edgekit.phantom.marks.symbols import MARKS

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Annotation:
    """How much of what is burned in: pairs are the least and the largest number of each kind, all inclusive.

    Attributes
    ----------
    sides
        Side markers: lead letters, mirrored at times, at times with the examiner's initials, a ring or beads.
    words
        Single words and numbers anywhere.
    blocks
        Blocks of lines of small text in a corner, as a viewer shows them.
    arrows, lines, figures
        Arrows; measuring lines (Cobb, plumb line, caliper) with numbers; boxes, circles and crosshairs.
    rulers
        Scales with ticks along an edge.
    bars
        Black (white, grey) bars over what was a name.
    frames
        Frames about the whole picture and lines of a viewer.
    size
        Height of letters as a share of the picture's short side, least and largest.
    share
        Of films that have anything at all.
    """

    sides: tuple[int, int] = (0, 2)
    words: tuple[int, int] = (0, 2)
    blocks: tuple[int, int] = (0, 1)
    arrows: tuple[int, int] = (0, 1)
    lines: tuple[int, int] = (0, 1)
    figures: tuple[int, int] = (0, 1)
    rulers: tuple[int, int] = (0, 1)
    bars: tuple[int, int] = (0, 1)
    frames: tuple[int, int] = (0, 1)
    size: tuple[float, float] = (0.02, 0.075)
    share: float = 0.85

    def __post_init__(self) -> None:
        for name in MARKS:
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 20:
                raise InputError(f"{name} is {low} to {high}, expected 0 <= least <= largest <= 20", "Correct the annotation's numbers.")
        if not 0 < self.size[0] <= self.size[1] <= 0.3:
            raise InputError(f"size is {self.size}, expected shares of the short side up to 0.3", "Use for example size=(0.02, 0.075).")


def annotate(
    grey: NDArray[np.float32], rng: np.random.Generator, spec: Annotation | None = None, centre: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Burn marks into a picture.

    Parameters
    ----------
    grey
        float32 (H, W), 0 to 1, bright metal.
    spec
        How much of what; None is `Annotation()`.
    centre
        Where the spine is, pixels (x, y): lines and arrows are about it. None is the picture's middle. It must not depend on the construct.

    Returns
    -------
    ndarray
        float32 (H, W), 0 to 1; `grey` itself isn't changed.

    Raises
    ------
    InputError
        When `grey` isn't two-dimensional or smaller than 32 pixels.
    """
    if grey.ndim != 2 or min(grey.shape) < 32:
        raise InputError(f"a picture of shape {grey.shape} can't be annotated", "Give float32 (H, W) of at least 32 pixels.")
    spec = spec or Annotation()
    pixels = grey.astype(np.float32, copy=True)
    if rng.random() >= spec.share:
        return pixels
    height, width = grey.shape
    page = Page(pixels, rng, spec.size, centre or (width / 2, height / 2))
    for name, mark in MARKS.items():
        low, high = getattr(spec, name)
        # Most films have few marks: the number is the smaller of two draws.
        for _ in range(int(rng.integers(low, high + 1, 2).min())):
            mark(page)
    return pixels
