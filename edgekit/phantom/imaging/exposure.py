"""What the detector makes of the beam: heel effect, scatter, grid, focal spot and screen, quantum and electronic noise, logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.imaging.filtering import blur, convolve, take_middle

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOOR = 1e-3
"""The least signal relative to the middle of the film that the reader tells from nothing: three decades."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How one film was taken; whatever has a default is switched off by it.

    Attributes
    ----------
    quanta_per_mm2
        Detected quanta per mm² of detector behind the middle of the patient: the automatic exposure control aims at it. inf is noise-free.
    scatter
        Scattered signal relative to the primary behind the middle of the patient, after the grid.
    blur_mm
        Standard deviation of the screen's blur, at the detector; it blurs the quantum noise as well.
    focal_mm
        Standard deviation of the focal spot's blur, at the detector; it blurs the beam but not the noise.
    scatter_mm
        Standard deviation of the scatter's spread.
    electronic
        Standard deviation of the electronic noise of a square millimetre, relative to the signal behind the middle of the patient.
    heel
        What the lower edge gets more than the upper one, relative to the middle: the side of the anode gets less.
    grid
        Amplitude of the residual grid lines relative to the signal.
    grid_mm
        Their period.
    cutoff
        What a decentred grid takes from the signal at the right edge (positive) or the left edge (negative).
    dead_lines
        Columns of the detector that read nothing, mended from one neighbour.
    """

    quanta_per_mm2: float
    scatter: float
    blur_mm: float
    focal_mm: float = 0.0
    scatter_mm: float = 35.0
    electronic: float = 0.0
    heel: float = 0.0
    grid: float = 0.0
    grid_mm: float = 0.5
    cutoff: float = 0.0
    dead_lines: int = 0


def draw_exposure(
    rng: np.random.Generator, quanta_per_mm2: tuple[float, float], scatter: tuple[float, float], blur_mm: tuple[float, float]
) -> Exposure:
    """Draw an exposure; pairs are the ends of ranges, log-uniform for quanta.

    Heel effect of 10 to 30 % along a film, focal spots of 0.6 to 1.2 mm at magnifications of 1.1 to 1.3, grids of 40 to 80 lines/cm that a
    coarser sampling folds to longer periods: Bushberg et al., The Essential Physics of Medical Imaging, 3rd ed., chapters 6 and 7.
    """
    heel, sign, lines, period, cutoff, dead = rng.random(6)
    return Exposure(
        quanta_per_mm2=float(np.exp(rng.uniform(*np.log(quanta_per_mm2)))),
        scatter=float(rng.uniform(*scatter)),
        blur_mm=float(rng.uniform(*blur_mm)),
        focal_mm=float(rng.uniform(0.03, 0.15)),
        scatter_mm=float(rng.uniform(25.0, 50.0)),
        electronic=float(rng.uniform(0.0, 0.003)),
        heel=float(heel * 0.3 * (1 if sign < 0.5 else -1)),
        grid=float(max(0.0, lines - 0.8) * 0.06),
        grid_mm=float(0.4 + 2.2 * period),
        cutoff=float((cutoff - 0.85) / 0.15 * 0.35 if cutoff > 0.85 else (cutoff - 0.15) / 0.15 * 0.35 if cutoff < 0.15 else 0.0),
        dead_lines=int(dead > 0.97) * 2,
    )


def detect(transmission: NDArray[np.float32], spacing_mm: float, exposure: Exposure, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add scatter, grid, heel effect, noise and blur, and take the logarithm.

    What is drawn from `rng` depends on the shape and the exposure, never on what `transmission` shows: the same state gives the same noise
    field to a scene with and without a construct.

    Returns
    -------
    float32 (H, W): log of the exposure relative to the middle of the film; more is darker on a film.
    """
    height, width = transmission.shape
    phase, dead = rng.random(), rng.integers(1, max(2, width - 1), exposure.dead_lines)
    middle = float(np.median(take_middle(transmission)[::2, ::2]))
    signal = transmission * np.float32(1 / (middle * (1 + exposure.scatter)))
    if exposure.focal_mm > 0.3 * spacing_mm:
        signal = convolve(signal, exposure.focal_mm / spacing_mm)
    if exposure.scatter:
        # The open beam beside the patient doesn't scatter.
        source = np.minimum(transmission, np.float32(4 * middle))
        signal += blur(source, exposure.scatter_mm / spacing_mm) * np.float32(exposure.scatter / (middle * (1 + exposure.scatter)))
    if exposure.heel:
        signal *= (1 + exposure.heel / 2 * np.linspace(-1, 1, height)).astype(np.float32)[:, None]
    if exposure.grid or exposure.cutoff:
        signal *= _make_grid(width, spacing_mm, exposure, phase).astype(np.float32)
    if np.isfinite(exposure.quanta_per_mm2) or exposure.electronic:
        variance = np.float32(exposure.electronic**2 / spacing_mm**2)
        if np.isfinite(exposure.quanta_per_mm2):
            noise = signal * np.float32(1 / (exposure.quanta_per_mm2 * spacing_mm**2))
            noise += variance
            np.sqrt(noise, out=noise)
        else:
            noise = np.full_like(signal, np.sqrt(variance))
        noise *= rng.standard_normal(signal.shape, dtype=np.float32)
        signal += noise
    if exposure.blur_mm > 0.15 * spacing_mm:
        signal = convolve(signal, exposure.blur_mm / spacing_mm)
    for column in dead:
        signal[:, column] = signal[:, column - 1]
    np.maximum(signal, np.float32(_FLOOR), out=signal)
    result: NDArray[np.float32] = np.log(signal, out=signal)
    return result


def _make_grid(width: int, spacing_mm: float, exposure: Exposure, phase: float) -> NDArray[np.float64]:
    """Return what the grid lets through, (W,): its lines, and less towards one side where it is off centre.

    Lines finer than two pixels fold to coarser ones, as they do on a detector without an anti-aliasing filter.
    """
    place = np.arange(width)
    lines = 1 + exposure.grid * np.sin(2 * np.pi * (place * spacing_mm / exposure.grid_mm + phase))
    side = place / max(1, width - 1)
    falloff = 1 - abs(exposure.cutoff) * (side if exposure.cutoff > 0 else 1 - side)
    result: NDArray[np.float64] = lines * falloff
    return result
