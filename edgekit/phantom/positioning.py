"""Where tube, patient and detector stand when a film is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import turn
from edgekit.phantom.geometry.projector import Camera

if TYPE_CHECKING:
    from edgekit.phantom.body.anatomy import Vertebra
    from edgekit.phantom.sites import Site
    from edgekit.task import View
    from edgekit.types import Box

# Rows: the film's right, the film's down, the beam. On an AP film the patient's left is on the right (PS3.3 C.7.6.1.1.1: seen from the
# front); a lateral film is taken from either side.
_AXES = {
    "ap": (((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),),
    "lateral": (
        ((0.0, -1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)),
        ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),
    ),
}
_BEHIND_SPINE_MM = {"ap": (110.0, 190.0), "lateral": (190.0, 280.0)}
"""From the spine to the detector."""
LARGEST_OBLIQUITY = 25.0


def place_camera(view: View, vertebrae: list[Vertebra], site: Site, size: int, rng: np.random.Generator) -> Camera:
    """Return a position of tube and detector for a film of `size` pixels on its long side.

    The `vertebrae` are framed, with or without metal on them: the framing doesn't tell whether there is a construct.
    """
    axes = np.array(_AXES[view][int(rng.integers(len(_AXES[view])))])
    oblique = (
        rng.uniform(-LARGEST_OBLIQUITY, LARGEST_OBLIQUITY) if rng.random() < site.oblique_share else rng.normal(0, site.oblique_degrees)
    )
    axes = axes @ (turn(2, oblique) @ turn(0, rng.normal(0, 2.5)) @ turn(1, rng.normal(0, 2.0))).T
    source_image = rng.uniform(*site.source_image_mm)
    source_object = source_image - rng.uniform(*_BEHIND_SPINE_MM[view])
    magnification = source_image / source_object
    needed = (vertebrae[0].centre[2] - vertebrae[-1].centre[2] + 90) * magnification
    close = rng.random() < site.close_share
    tall = needed * rng.uniform(0.85, 1.4) if close else max(rng.uniform(*site.film_mm), needed if site.whole else 0.0)
    aspect = rng.uniform(*site.aspect)
    height, width = (size, max(16, round(size * aspect))) if aspect <= 1 else (max(16, round(size / aspect)), size)
    spacing = tall / height
    aim = np.mean([vertebra.centre for vertebra in vertebrae], axis=0)
    # The belly side of a lateral film is wider than the back.
    forward = 0.0 if view == "ap" else -np.sign(axes[0, 1]) * rng.uniform(-15, 30)
    spread = 1.0 if site.whole else tall / 250
    offset = np.array([rng.normal(0, 10) * spread - forward, rng.normal(0, 12) * spread])
    centre = np.array([width, height]) / 2 + offset * magnification / spacing
    camera = Camera(axes, aim, source_object, source_image, spacing, width, height, (float(centre[0]), float(centre[1])))
    overhang = 0.0 if site.whole or rng.random() < 0.7 else rng.uniform(0.0, 0.3)
    shift = _keep_inside(camera, vertebrae, overhang)
    return replace(camera, principal=(camera.principal[0] + shift[0], camera.principal[1] + shift[1]))


def find_levels(camera: Camera, vertebrae: list[Vertebra]) -> Box:
    """Return where these vertebrae, and the room that a construct on them needs, are on the film, pixels."""
    room = np.array([[x, y, z] for x in (-38, 38) for y in (-24, 74) for z in (-38, 38)], dtype=np.float64)
    columns, rows, _ = camera.project(np.concatenate([vertebra.centre + room @ vertebra.axes.T for vertebra in vertebrae]))
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())


def _keep_inside(camera: Camera, vertebrae: list[Vertebra], overhang: float) -> tuple[float, float]:
    """Return by how many pixels the film must move so that no more than the share `overhang` of the levels is beyond an edge."""
    x0, y0, x1, y1 = find_levels(camera, vertebrae)
    shifts = []
    for low, high, size in ((x0, x1, camera.width), (y0, y1, camera.height)):
        spare = overhang * (high - low)
        if high - low - 2 * spare > size:  # larger than the film: in the middle
            shifts.append((size - low - high) / 2)
        else:
            shifts.append(max(0.0, -low - spare) + min(0.0, size - high + spare))
    return shifts[0], shifts[1]
