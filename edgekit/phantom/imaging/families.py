"""Families of processing: how readers, scanners and image intensifiers are set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


@dataclass(frozen=True, slots=True)
class Processing:
    """How log exposure becomes grey; whatever has a default is switched off by it.

    Attributes
    ----------
    family
        A name in `FAMILIES`.
    seed
        What is random about the medium (grain, dust) follows from it: the same for a scene with and without a construct.
    coarse_gain, middle_gain, fine_gain, finest_gain
        Contrast of structures larger than about 40 mm, 8 to 40 mm, 2 to 8 mm, and smaller; coarse below 1 is dynamic range compression.
    local
        Exponent of the contrast of the middle and fine bands: below 1 faint structures gain and strong ones lose, as in multi-scale
        processing (Vuylsteke and Schoeters, Multiscale image contrast amplification, SPIE 2167, 1994).
    low, high
        Percentiles of the picture that the window shows.
    whole
        Whether these are percentiles of all the picture rather than of its middle.
    dark, bright
        Grey at the window's ends, before the curve.
    gamma
        Exponent of the display curve.
    knee
        Grey at which the curve's shoulder starts; 1 cuts off.
    film
        Slope of a screen film's sensitometric curve, with its toe and shoulder; 0 is a digital system's straight line.
    clahe
        Limit of local histogram equalisation.
    tiles
        Its tiles a side.
    black, white
        Ends of the grey values that are used: a veil when they are close.
    softness_mm
        Standard deviation of the medium's own blur.
    vignette
        What the corners lose.
    grain, lag
        Standard deviation of the medium's noise, white and correlated.
    dust
        Number of specks and scratches.
    moire
        Amplitude of the interference of two pixel grids.
    glare
        What a reflection adds at one edge.
    inverted
        Dark metal, as on an image intensifier.
    """

    family: str
    seed: int = 0
    coarse_gain: float = 1.0
    middle_gain: float = 1.0
    fine_gain: float = 1.0
    finest_gain: float = 1.0
    local: float = 1.0
    low: float = 1.0
    high: float = 95.0
    whole: bool = False
    dark: float = 0.1
    bright: float = 0.75
    gamma: float = 1.0
    knee: float = 0.7
    film: float = 0.0
    clahe: float = 0.0
    tiles: int = 8
    black: float = 0.0
    white: float = 1.0
    softness_mm: float = 0.0
    vignette: float = 0.0
    grain: float = 0.0
    lag: float = 0.0
    dust: int = 0
    moire: float = 0.0
    glare: float = 0.0
    inverted: bool = False


# Ends of uniform ranges; for `whole` and `inverted` the probability. What a family doesn't name keeps the default of `Processing`.
FAMILIES: dict[str, dict[str, tuple[float, float] | float]] = {
    # A computed-radiography reader: range compression and an unsharp mask.
    "cr": {
        "coarse_gain": (0.15, 0.55),
        "middle_gain": (0.9, 1.2),
        "fine_gain": (0.9, 1.4),
        "finest_gain": (1.1, 2.2),
        "low": (0.5, 5.0),
        "high": (82.0, 96.0),
        "whole": 0.3,
        "gamma": (0.75, 1.4),
    },
    # Several bands, faint structures lifted.
    "multifrequency": {
        "coarse_gain": (0.08, 0.35),
        "middle_gain": (0.7, 1.2),
        "fine_gain": (1.0, 1.8),
        "finest_gain": (1.2, 2.6),
        "local": (0.6, 0.85),
        "low": (0.5, 5.0),
        "high": (84.0, 97.0),
        "whole": 0.3,
        "gamma": (0.75, 1.4),
    },
    # A logarithm and a window.
    "plain": {
        "coarse_gain": (0.7, 1.0),
        "finest_gain": (0.8, 1.2),
        "low": (0.0, 6.0),
        "high": (88.0, 99.5),
        "whole": 0.5,
        "dark": (0.0, 0.15),
        "bright": (0.6, 0.85),
        "gamma": (0.7, 1.6),
        "knee": (0.6, 0.95),
    },
    # Screen film (slope 2 to 3.5 over a latitude of about a decade; ISO 9236-1) on a scanner or a light box.
    "film": {
        "coarse_gain": (0.75, 1.0),
        "finest_gain": (0.7, 1.0),
        "low": (2.0, 10.0),
        "high": (84.0, 97.0),
        "whole": 0.4,
        "gamma": (0.8, 1.5),
        "film": (3.0, 6.5),
        "black": (0.0, 0.12),
        "white": (0.75, 1.0),
        "softness_mm": (0.05, 0.3),
        "vignette": (0.0, 0.4),
        "grain": (0.004, 0.025),
        "lag": (0.0, 0.012),
        "dust": (0, 30),
    },
    # Local histogram equalisation, as web collections and data sets are often treated.
    "clahe": {
        "coarse_gain": (0.4, 1.0),
        "low": (0.0, 3.0),
        "high": (92.0, 99.5),
        "whole": 0.5,
        "bright": (0.7, 0.9),
        "gamma": (0.8, 1.3),
        "clahe": (1.8, 5.0),
        "tiles": (3, 12),
    },
    # An image intensifier or flat-panel C-arm.
    "fluoro": {
        "coarse_gain": (0.35, 0.9),
        "fine_gain": (0.8, 1.2),
        "finest_gain": (0.7, 1.8),
        "low": (1.0, 10.0),
        "high": (82.0, 97.0),
        "dark": (0.05, 0.25),
        "bright": (0.6, 0.85),
        "knee": (0.6, 0.95),
        "gamma": (0.7, 1.4),
        "softness_mm": (0.2, 0.7),
        "vignette": (0.05, 0.45),
        "grain": (0.0, 0.015),
        "lag": (0.005, 0.035),
        "inverted": 0.8,
    },
    # Windows that burn out bone with the construct, or leave all but the metal black.
    "saturated": {
        "coarse_gain": (0.35, 0.9),
        "finest_gain": (0.9, 1.6),
        "low": (3.0, 32.0),
        "high": (77.0, 95.0),
        "whole": 0.5,
        "dark": (0.0, 0.1),
        "bright": (0.75, 1.0),
        "knee": (0.75, 1.0),
        "gamma": (0.6, 2.2),
    },
    # Web pictures whose window was set for the metal, or by nobody: bone is white.
    "clipped": {
        "coarse_gain": (0.3, 0.7),
        "finest_gain": (0.9, 1.7),
        "low": (5.0, 35.0),
        "high": (76.0, 93.0),
        "whole": 0.15,
        "dark": (0.0, 0.1),
        "bright": (0.85, 1.0),
        "knee": (0.85, 1.0),
        "gamma": (0.7, 1.8),
    },
    "burnt": {
        "coarse_gain": (0.35, 0.6),
        "fine_gain": (1.0, 1.5),
        "low": (15.0, 45.0),
        "high": (84.0, 96.0),
        "whole": 0.0,
        "dark": (0.0, 0.05),
        "bright": (0.9, 1.0),
        "knee": (0.9, 1.0),
        "gamma": (1.9, 2.8),
        "softness_mm": (0.1, 0.5),
    },
    # Bright, with faint structures lifted until ribs, bowel and joints shine.
    "bright": {
        "coarse_gain": (0.08, 0.4),
        "middle_gain": (0.9, 1.5),
        "fine_gain": (1.3, 2.3),
        "finest_gain": (1.2, 2.4),
        "local": (0.5, 0.75),
        "low": (0.5, 5.0),
        "high": (80.0, 94.0),
        "whole": 0.3,
        "gamma": (0.4, 0.75),
    },
    # Little contrast under a grey veil.
    "flat": {
        "coarse_gain": (0.3, 0.9),
        "finest_gain": (0.7, 1.1),
        "low": (0.0, 2.0),
        "high": (90.0, 98.5),
        "whole": 0.6,
        "dark": (0.0, 0.15),
        "bright": (0.6, 0.85),
        "gamma": (0.6, 1.6),
        "black": (0.05, 0.35),
        "white": (0.6, 0.9),
        "grain": (0.0, 0.01),
    },
    # A screen, photographed and sent around.
    "phone": {
        "coarse_gain": (0.25, 0.9),
        "fine_gain": (0.9, 1.3),
        "finest_gain": (0.9, 1.8),
        "low": (0.5, 5.0),
        "high": (82.0, 97.0),
        "whole": 0.4,
        "gamma": (0.6, 1.8),
        "knee": (0.6, 0.95),
        "black": (0.0, 0.2),
        "white": (0.75, 1.0),
        "softness_mm": (0.1, 0.5),
        "vignette": (0.0, 0.35),
        "grain": (0.002, 0.015),
        "moire": (0.0, 0.02),
        "glare": (0.0, 0.2),
    },
}
"""Families of processing. "film" and "clahe" shift what a detector sees the most: they are among those held out of its training."""

_FLAGS = ("whole", "inverted")
_COUNTS = ("dust", "tiles")


def draw_processing(rng: np.random.Generator, families: Sequence[str] = tuple(FAMILIES)) -> Processing:
    """Draw one of `families`, all alike, and its parameters."""
    family = families[int(rng.integers(len(families)))]
    values: dict[str, float | int | bool] = {"seed": int(rng.integers(1 << 31))}
    for name, span in FAMILIES[family].items():
        value = rng.random() < span if isinstance(span, int | float) else rng.uniform(*span)
        values[name] = bool(value) if name in _FLAGS else round(value) if name in _COUNTS else float(value)
    return Processing(family, **values)  # type: ignore[arg-type]
