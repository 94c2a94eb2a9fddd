"""Where the phone is held: the perspective of a screen, seen by a pinhole camera in somebody's hands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.straightening import make_rectangle, project

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.types import Box

FOCAL = 26 / 36
"""Focal length of the simulated phone relative to the long side of its sensor. It is not quite the one that `edgekit.straightening` takes
for granted: real phones differ too, and who straightens their photos does not know by how much."""


@dataclass(frozen=True, slots=True, eq=False)
class Viewpoint:
    """A phone in front of a screen. The camera is a pinhole: phones correct their lens's distortion, so straight lines stay straight.

    Attributes
    ----------
    matrix
        float64 (3, 3): homography from device pixels of the screen to photosites, both with the origin at the outer corner of the
        top-left one.
    width, height
        Photosites.
    eye
        float64 (3,): the lens in device pixels, x and y on the screen, z in front of it.
    tilt_degrees
        Angle between the camera's axis and the normal of the screen.
    roll_degrees
        Rotation about the camera's axis.
    """

    matrix: NDArray[np.float64]
    width: int
    height: int
    eye: NDArray[np.float64]
    tilt_degrees: float
    roll_degrees: float

    def find_corners(self, box: Box) -> NDArray[np.float64]:
        """Return float64 (4, 2): the corners of a box on the screen, photosites."""
        return project(self.matrix, make_rectangle(*box))

    def find_pixels(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where photosites (..., 2) look on the screen, and the derivative (..., 2, 2) of that, its last axis x and y."""
        inverse = np.linalg.inv(self.matrix)
        mapped = points @ inverse[:, :2].T + inverse[:, 2]
        places = mapped[..., :2] / mapped[..., 2:]
        slopes = (inverse[:2, :2] - places[..., None] * inverse[2, :2]) / mapped[..., 2, None, None]
        return places, slopes


def take_position(
    film: Box,
    width: int,
    height: int,
    *,
    tilt_degrees: float,
    azimuth_degrees: float,
    roll_degrees: float,
    fill: float,
    centre: tuple[float, float] = (0.5, 0.5),
) -> Viewpoint:
    """Aim at a film so that it fills the picture.

    Parameters
    ----------
    film
        Where the film is on the screen, device pixels.
    width, height
        Photosites.
    tilt_degrees, azimuth_degrees
        Angle between the camera's axis and the screen's normal, and in which direction of the screen it leans (0: x, 90: y).
    roll_degrees
        Rotation about the camera's axis.
    fill
        Size of the film's outline in the picture, relative to the side that it fills first.
    centre
        Where the middle of the outline is, relative to width and height.

    Raises
    ------
    ValueError
        The tilt is below 0 or above 60 degrees.
    """
    if not 0 <= tilt_degrees <= 60:
        raise ValueError(f"tilt is {tilt_degrees}, expected 0 to 60 degrees")
    focal = FOCAL * max(width, height)
    rotation = _turn(tilt_degrees, azimuth_degrees, roll_degrees)
    middle = np.array([(film[0] + film[2]) / 2, (film[1] + film[3]) / 2])
    lens = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    shift = np.array([0.0, 0.0, focal * max((film[2] - film[0]) / width, (film[3] - film[1]) / height) / fill])
    wanted = np.array([centre[0] * width, centre[1] * height])
    for _ in range(12):
        held = shift.copy()
        matrix = lens @ np.column_stack([rotation[:, :2], held - rotation[:, :2] @ middle])
        corners = project(matrix, make_rectangle(*film))
        low, high = corners.min(axis=0), corners.max(axis=0)
        # The film moves along the camera's axes: rotation, and so the tilt, stays.
        shift[:2] += (wanted - (low + high) / 2) * shift[2] / focal
        shift *= float(((high - low) / (width, height)).max()) / fill
    eye = -rotation.T @ held + np.append(middle, 0.0)
    return Viewpoint(matrix / matrix[2, 2], width, height, eye * (1, 1, -1), tilt_degrees, roll_degrees)


def _turn(tilt: float, azimuth: float, roll: float) -> NDArray[np.float64]:
    """Return the rotation from the screen's axes (x right, y down, z away) to the camera's, degrees."""
    t, a, r = (math.radians(angle) for angle in (tilt, azimuth, roll))
    axis = np.array([-math.sin(a), math.cos(a), 0.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    lean = np.eye(3) + math.sin(t) * cross + (1 - math.cos(t)) * cross @ cross  # Rodrigues
    spin = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return np.asarray(spin @ lean)
