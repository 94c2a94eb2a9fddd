"""Marks of the medium that a picture was on: vignette, grain, dust, moire, glare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.imaging.filtering import convolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.imaging.families import Processing


def add_medium(grey: NDArray[np.float32], processing: Processing) -> NDArray[np.float32]:
    """Add the vignette, the grain, the dust, the moire and the glare of film, scanner, intensifier or screen to `grey`, in place."""
    rng = np.random.default_rng(processing.seed)
    height, width = grey.shape
    down, right = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    if processing.vignette:
        fall = np.float32(processing.vignette / 2)
        grey *= 1 - fall * down**2 - fall * right**2
    if processing.glare:
        grey += (
            np.float32(processing.glare / 2)
            * (1 + down * np.float32(rng.choice([-1, 1])))
            * (1 + right * np.float32(rng.uniform(-1, 1)))
            / 2
        )
    if processing.moire:
        for _ in range(2):
            angle, period, phase = rng.uniform(0, np.pi), rng.uniform(4.0, 40.0), rng.uniform(0, 2 * np.pi)
            # cos(x + y) as two products of lines: no trigonometry of a whole picture.
            y = 2 * np.pi * np.arange(height) * np.sin(angle) / period + phase
            x = 2 * np.pi * np.arange(width) * np.cos(angle) / period
            up, across = np.stack([np.cos(y), -np.sin(y)], 1).astype(np.float32), np.stack([np.cos(x), np.sin(x)]).astype(np.float32)
            grey += np.float32(processing.moire / 2) * (up @ across)
    if processing.grain or processing.lag:
        tile = rng.standard_normal((_TILE, _TILE), dtype=np.float32) * np.float32(processing.grain)
        if processing.lag:
            soft = convolve(rng.standard_normal((_TILE, _TILE), dtype=np.float32), 1.3)
            tile += soft * np.float32(processing.lag / soft.std())
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                part = grey[top : top + _TILE, left : left + _TILE]
                # Turned, so that no pattern repeats side by side.
                part += np.rot90(tile, (top + 2 * left) // _TILE)[: part.shape[0], : part.shape[1]]
    for _ in range(processing.dust):
        _add_dust(grey, rng)
    return grey


_TILE = 256


def _add_dust(grey: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Add a speck, now and then a scratch, as bright or as dark as it may be."""
    height, width = grey.shape
    size = max(height, width)
    tone = np.float32(rng.choice([-1.0, 1.0], p=[0.35, 0.65]) * rng.uniform(0.04, 0.3))
    scratch = rng.random() < 0.06
    length, angle, bend = (
        (size * rng.uniform(0.05, 0.6), rng.normal(np.pi / 2, 0.3), rng.normal(0, 0.05))
        if scratch
        else (size * rng.uniform(0, 0.006), rng.uniform(0, np.pi), 0.0)
    )
    along = np.arange(-length / 2, length / 2 + 1)
    rows = np.round(rng.uniform(0, height) + along * np.sin(angle) + bend * along**2 / max(length, 1)).astype(np.intp)
    columns = np.round(rng.uniform(0, width) + along * np.cos(angle)).astype(np.intp)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    grey[rows[inside], columns[inside]] += tone
