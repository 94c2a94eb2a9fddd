"""Films to draw on."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZES = {"ap": (600, 900), "lateral": (900, 700)}
"""Width and height of the films, so that they are letterboxed on the page in different ways."""

GIVEN = (50.0, 60.5, 300.0, 400.25)


def make_film(width: int, height: int, number: int) -> Image.Image:
    """A spine that anyone would recognise: a bright column with screws, on a soft ground."""
    y, x = np.mgrid[:height, :width]
    soft = 90 * np.exp(-(((x - width / 2) / (width / 3)) ** 2))
    column = 60 * np.exp(-(((x - width / 2 - 30 * np.sin(y / 150 + number)) / (width / 14)) ** 2)) * (1 + 0.3 * np.sin(y / 14))
    metal = np.zeros((height, width))
    for level in range(4):
        for side in (-1, 1):
            top, left = height // 3 + level * 70, width // 2 + side * 50
            metal[top : top + 12, left - 40 : left + 40] = 120
    noise = np.random.default_rng(number).normal(0, 4, (height, width))
    return Image.fromarray(np.clip(soft + column + metal + noise, 0, 255).astype(np.uint8))
