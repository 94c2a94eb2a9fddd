"""The primary beam through a scene: Beer-Lambert for a few energies.

A scene is attenuated in two steps, tissue and then metal, so that the same patient can be taken with and without a construct for the
price of the metal alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.projector import measure_thickness
from edgekit.phantom.imaging.filtering import enlarge
from edgekit.phantom.materials import MATERIALS, METALS, compute_attenuation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.phantom.geometry.projector import Camera
    from edgekit.phantom.materials import Part

METAL_OVERSAMPLING = 2
SOFT_OVERSAMPLING = 0.5
_COARSE = ("soft", "contrast")
"""Materials without sharp edges: traced at half the film's resolution."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """What is left of the beam.

    Attributes
    ----------
    remaining
        float32 (H, W) for each energy of `beam`: the share of the photons that reaches each pixel.
    """

    beam: Beam
    remaining: tuple[NDArray[np.float32], ...]

    def weigh(self) -> NDArray[np.float32]:
        """Return float32 (H, W): the detector-weighted share of the beam that reaches each pixel."""
        total = np.zeros_like(self.remaining[0])
        for weight, remaining in zip(self.beam.weights, self.remaining, strict=True):
            total += np.float32(weight) * remaining
        return total


def cast_shadow(parts: Sequence[Part], camera: Camera, beam: Beam) -> Shadow:
    """Return the shadow of all that is not metal.

    Soft tissue fills the body; every other material attenuates in its place.
    """
    thickness = {}
    for material in MATERIALS:
        chosen = [part for part in parts if part.material == material and material not in METALS]
        if chosen:
            oversampling = SOFT_OVERSAMPLING if material in _COARSE else 1.0
            traced = measure_thickness([part.mesh for part in chosen], [part.weight for part in chosen], camera, oversampling)
            thickness[material] = _at_film_size(np.maximum(traced, 0), camera, oversampling)
    remaining = []
    for index in range(len(beam.energies_kev)):
        optical = np.zeros((camera.height, camera.width), dtype=np.float32)
        for material, length in thickness.items():
            optical -= np.float32(_excess(material, beam, index)) * length
        remaining.append(np.exp(optical, out=optical))
    return Shadow(beam, tuple(remaining))


def add_metal(shadow: Shadow, parts: Sequence[Part], camera: Camera) -> tuple[Shadow, NDArray[np.float32]]:
    """Return the shadow with metal in it, and where the metal is.

    Metal is traced at twice the film's resolution and averaged as transmission, so that partly covered pixels are right.

    Returns
    -------
    shadow
        The shadow with the metal in the place of soft tissue.
    thickness
        float32 (H, W), mm: the largest of each pixel's samples; 0 beside the metal.
    """
    seen = np.zeros((camera.height, camera.width), dtype=np.float32)
    metal = [part for part in parts if part.material in METALS]
    rows, columns = _find_metal(metal, camera)
    if rows.start == rows.stop or columns.start == columns.stop:
        return shadow, seen
    near = camera.cropped(rows, columns)
    lengths = {}
    for material in METALS:
        chosen = [part for part in metal if part.material == material]
        if chosen:
            lengths[material] = measure_thickness(
                [part.mesh for part in chosen], [part.weight for part in chosen], near, METAL_OVERSAMPLING
            )
    seen[rows, columns] = _samples(np.sum(list(lengths.values()), axis=0)).max(axis=0)
    remaining = []
    for index, left in enumerate(shadow.remaining):
        optical = np.sum([length * np.float32(-_excess(material, shadow.beam, index)) for material, length in lengths.items()], axis=0)
        dimmed = left.copy()
        dimmed[rows, columns] *= _samples(np.exp(np.minimum(optical, 0))).mean(axis=0)
        remaining.append(dimmed)
    return Shadow(shadow.beam, tuple(remaining)), seen


def _excess(material: str, beam: Beam, index: int) -> float:
    """Return by how much a millimetre of `material` attenuates more than the soft tissue whose place it takes."""
    soft = compute_attenuation("soft", beam.energies_kev)[index]
    return soft if material == "soft" else compute_attenuation(material, beam.energies_kev)[index] - soft


def _at_film_size(traced: NDArray[np.float32], camera: Camera, oversampling: float) -> NDArray[np.float32]:
    return traced if oversampling == 1 else enlarge(traced, (camera.height, camera.width), 1 / oversampling)


def _find_metal(parts: Sequence[Part], camera: Camera) -> tuple[slice, slice]:
    """Return the rows and columns of the film that hold every pixel with metal; empty without metal."""
    if not parts:
        return slice(0, 0), slice(0, 0)
    x, y, _ = camera.project(np.concatenate([part.mesh.vertices for part in parts]))
    top, bottom = np.clip([np.floor(y.min()), np.ceil(y.max())], 0, camera.height).astype(int)
    left, right = np.clip([np.floor(x.min()), np.ceil(x.max())], 0, camera.width).astype(int)
    return slice(top, bottom), slice(left, right)


def _samples(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 (`METAL_OVERSAMPLING`², H, W): the samples of each film pixel."""
    n = METAL_OVERSAMPLING
    return np.stack([image[row::n, column::n] for row in range(n) for column in range(n)])
