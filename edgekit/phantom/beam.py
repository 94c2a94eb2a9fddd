"""The primary beam through a scene: Beer-Lambert for a few energies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.filtering import enlarge
from edgekit.phantom.materials import MATERIALS, METALS, compute_attenuation
from edgekit.phantom.projector import find_extent, measure_thickness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.materials import Part
    from edgekit.phantom.projector import Camera
    from edgekit.types import Box

METAL_OVERSAMPLING = 2
SOFT_OVERSAMPLING = 0.5


@dataclass(frozen=True, slots=True)
class Beam:
    """The spectrum as the detector weighs it.

    Attributes
    ----------
    energies_kev, weights
        Discrete energies and the share of the unattenuated signal that each gives; the shares sum to 1.
    """

    energies_kev: tuple[float, ...]
    weights: tuple[float, ...]


def expose(parts: list[Part], camera: Camera, beam: Beam) -> tuple[NDArray[np.float32], Box | None]:
    """Return what the primary beam leaves of a scene (Beer-Lambert).

    Metal is traced at twice the film's resolution and averaged as transmission, so that partly covered pixels are right; bone at the
    film's resolution; soft tissue at half of it. Bone and metal attenuate in the place of soft tissue.

    Returns
    -------
    transmission
        float32 (H, W): detector-weighted share of the beam that reaches each pixel.
    box
        Extent of all metal, film pixels; None without metal on the film.
    """
    shape = (camera.height, camera.width)
    soft = enlarge(np.maximum(_trace(parts, "soft", camera, SOFT_OVERSAMPLING), 0), shape, 1 / SOFT_OVERSAMPLING)
    bone = np.maximum(_trace(parts, "bone", camera, 1), 0)
    rows, columns = _find_metal(parts, camera)
    near = camera.cropped(rows, columns)
    metals = {metal: _trace(parts, metal, near, METAL_OVERSAMPLING) for metal in METALS}
    transmission = np.zeros(shape, dtype=np.float32)
    for energy, weight in zip(beam.energies_kev, beam.weights, strict=True):
        per_mm = {material: compute_attenuation(material, beam.energies_kev)[beam.energies_kev.index(energy)] for material in MATERIALS}
        left = np.exp(soft * np.float32(-per_mm["soft"]) + bone * np.float32(per_mm["soft"] - per_mm["bone"]))
        optical = np.sum([metals[metal] * np.float32(per_mm["soft"] - per_mm[metal]) for metal in METALS], axis=0)
        left[rows, columns] = left[rows, columns] * _average(optical)
        transmission += np.float32(weight) * left
    box = find_extent(np.sum(list(metals.values()), axis=0), METAL_OVERSAMPLING)
    if box is not None:
        box = (box[0] + columns.start, box[1] + rows.start, box[2] + columns.start, box[3] + rows.start)
    return transmission, box


def _trace(parts: list[Part], material: str, camera: Camera, oversampling: float) -> NDArray[np.float32]:
    chosen = [part for part in parts if part.material == material]
    return measure_thickness([part.mesh for part in chosen], [part.weight for part in chosen], camera, oversampling)


def _find_metal(parts: list[Part], camera: Camera) -> tuple[slice, slice]:
    """Return the rows and columns of the film that hold every pixel with metal; empty without metal."""
    points = [part.mesh.vertices for part in parts if part.material in METALS]
    if not points:
        return slice(0, 0), slice(0, 0)
    x, y, _ = camera.project(np.concatenate(points))
    top, bottom = np.clip([np.floor(y.min()), np.ceil(y.max())], 0, camera.height).astype(int)
    left, right = np.clip([np.floor(x.min()), np.ceil(x.max())], 0, camera.width).astype(int)
    return slice(top, bottom), slice(left, right)


def _average(optical: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean transmission of each film pixel from the logarithms of its `METAL_OVERSAMPLING`² samples."""
    left, n = np.exp(np.minimum(optical, 0)), METAL_OVERSAMPLING
    mean: NDArray[np.float32] = np.sum([left[row::n, column::n] for row in range(n) for column in range(n)], axis=0) / np.float32(n * n)
    return mean
