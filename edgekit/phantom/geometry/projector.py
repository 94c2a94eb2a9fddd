"""From closed meshes to thickness along rays.

Path length is a signed-depth sum: each triangle adds the depth of the ray's crossing where the ray leaves the solid and subtracts it
where the ray enters. Summed over a closed mesh this is the length inside: no sorting, no marching, no voxels. It is exact for planar
facets: the inverse depth is linear on the film, and the depth along the beam axis times 1/cos of the ray's angle is the length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.phantom.geometry.mesh import Mesh
    from edgekit.types import Box

EXTENT_THRESHOLD_MM = 0.35
"""Metal thinner than this along the ray is too faint to count as visible."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A point source and a flat detector.

    Attributes
    ----------
    axes
        float64 (3, 3): rows are the film's right, the film's down and the beam's direction, in patient coordinates.
    centre
        float64 (3,), mm: the point of the patient that the central ray meets at `source_object_mm`.
    source_object_mm, source_image_mm
        Distance from the source to `centre` (SOD) and to the detector (SID). Magnification of what lies at `centre` = SID/SOD.
    spacing_mm
        Distance of pixel centres on the detector.
    width, height
        Film size in pixels.
    principal
        Where the central ray meets the film, pixels (x, y) from the outer corner of the top-left pixel.
    """

    axes: NDArray[np.float64]
    centre: NDArray[np.float64]
    source_object_mm: float
    source_image_mm: float
    spacing_mm: float
    width: int
    height: int
    principal: tuple[float, float]

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Project points onto the film.

        Parameters
        ----------
        points
            float64 (n, 3), mm.

        Returns
        -------
        x, y
            float64 (n,), film pixels.
        depth
            float64 (n,), mm: distance from the source along the beam's axis.
        """
        right, down, along = self.axes @ (points - self.centre).T
        depth = along + self.source_object_mm
        scale = self.source_image_mm / self.spacing_mm / depth
        return right * scale + self.principal[0], down * scale + self.principal[1], depth

    def cropped(self, rows: slice, columns: slice) -> Camera:
        """Return the camera that sees only these whole pixels of the film."""
        principal = (self.principal[0] - columns.start, self.principal[1] - rows.start)
        return replace(self, width=columns.stop - columns.start, height=rows.stop - rows.start, principal=principal)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _cross(low_x: float, low_y: float, high_x: float, high_y: float, y: float) -> float:
    return low_x + (y - low_y) * ((high_x - low_x) / (high_y - low_y))


@njit(cache=True, nogil=True)
def _add_depths(xs, ys, depths, triangles, weights, reference, image):  # type: ignore[no-untyped-def]
    """Add the signed depth of every triangle to the pixels whose centre it covers.

    A row's span is half open and its ends depend on the edge alone, so two triangles that share an edge never leave a gap or cover a
    pixel twice.
    """
    height, width = image.shape
    for number in range(triangles.shape[0]):
        a, b, c = triangles[number, 0], triangles[number, 1], triangles[number, 2]
        area = (xs[b] - xs[a]) * (ys[c] - ys[a]) - (xs[c] - xs[a]) * (ys[b] - ys[a])
        if area == 0.0:
            continue
        sign = weights[number] if area > 0 else -weights[number]
        if ys[a] > ys[b]:
            a, b = b, a
        if ys[b] > ys[c]:
            b, c = c, b
        if ys[a] > ys[b]:
            a, b = b, a
        first, last = max(0, int(np.ceil(ys[a] - 0.5))), min(height, int(np.ceil(ys[c] - 0.5)))
        if first >= last:
            continue
        inverse_a, inverse_b, inverse_c = 1.0 / depths[a], 1.0 / depths[b], 1.0 / depths[c]
        lowest, highest = min(inverse_a, inverse_b, inverse_c), max(inverse_a, inverse_b, inverse_c)
        bx, by, cx, cy = xs[b] - xs[a], ys[b] - ys[a], xs[c] - xs[a], ys[c] - ys[a]
        determinant = bx * cy - cx * by
        if determinant == 0.0:
            continue
        slope_x = ((inverse_b - inverse_a) * cy - (inverse_c - inverse_a) * by) / determinant
        slope_y = ((inverse_c - inverse_a) * bx - (inverse_b - inverse_a) * cx) / determinant
        for row in range(first, last):
            y = row + 0.5
            one = _cross(xs[a], ys[a], xs[c], ys[c], y)
            two = _cross(xs[a], ys[a], xs[b], ys[b], y) if y < ys[b] else _cross(xs[b], ys[b], xs[c], ys[c], y)
            left, right = max(0, int(np.ceil(min(one, two) - 0.5))), min(width, int(np.ceil(max(one, two) - 0.5)))
            inverse = inverse_a + slope_y * (y - ys[a]) + slope_x * (left + 0.5 - xs[a])
            for column in range(left, right):
                image[row, column] += sign * (1.0 / min(max(inverse, lowest), highest) - reference)
                inverse += slope_x


def measure_thickness(meshes: Sequence[Mesh], weights: Sequence[float], camera: Camera, oversampling: float = 1.0) -> NDArray[np.float32]:
    """Sum the thickness of `meshes` along each pixel's ray.

    Parameters
    ----------
    meshes
        Closed meshes, all between the source and the detector.
    weights
        A factor for each mesh.
    oversampling
        Pixels of the result per pixel of the film.

    Returns
    -------
    float32 (ceil(height·oversampling), ceil(width·oversampling)), mm.
    """
    rows, columns = int(np.ceil(camera.height * oversampling)), int(np.ceil(camera.width * oversampling))
    image = np.zeros((rows, columns), dtype=np.float32)
    if not meshes:
        return image
    points = np.concatenate([mesh.vertices for mesh in meshes])
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    triangles = np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=False)])
    factors = np.repeat(np.asarray(weights, dtype=np.float64), [len(mesh.triangles) for mesh in meshes])
    xs, ys, depths = camera.project(points)
    if depths.min() <= 0:
        raise ValueError("a mesh reaches behind the source: source_object_mm is too small for the scene")
    # Depths are counted from the middle of the scene: float32 sums stay exact to about 1e-5 mm.
    _add_depths(xs * oversampling, ys * oversampling, depths, triangles, factors, camera.source_object_mm, image)
    return image * _slant(camera, oversampling, rows, columns)


def _slant(camera: Camera, oversampling: float, rows: int, columns: int) -> NDArray[np.float32]:
    """Return 1/cos of the angle between each pixel's ray and the central ray."""
    scale = camera.spacing_mm / camera.source_image_mm
    down = ((np.arange(rows, dtype=np.float32) + 0.5) / oversampling - camera.principal[1]) * scale
    right = ((np.arange(columns, dtype=np.float32) + 0.5) / oversampling - camera.principal[0]) * scale
    result: NDArray[np.float32] = np.sqrt(1 + down[:, None] ** 2 + right[None] ** 2, dtype=np.float32)
    return result


def find_extent(thickness: NDArray[np.float32], oversampling: float) -> Box | None:
    """Return the box of all that is thicker than `EXTENT_THRESHOLD_MM`, in film pixels; None when there is nothing."""
    metal = thickness > EXTENT_THRESHOLD_MM
    rows, columns = np.flatnonzero(metal.any(axis=1)), np.flatnonzero(metal.any(axis=0))
    if not len(rows):
        return None
    x0, y0, x1, y1 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return float(x0 / oversampling), float(y0 / oversampling), float(x1 / oversampling), float(y1 / oversampling)
