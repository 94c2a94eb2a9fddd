"""Where tube, patient and detector stand when a film is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgekit.phantom.fields import FIELDS, list_fields
from edgekit.phantom.geometry.mesh import turn
from edgekit.phantom.geometry.projector import Camera

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.anatomy import Anatomy, Vertebra
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


class Placed(NamedTuple):
    """The position that a film was taken from.

    Attributes
    ----------
    field
        A name in `edgekit.phantom.fields.FIELDS`; None where the operated levels were aimed at.
    """

    camera: Camera
    field: str | None


class _Aim(NamedTuple):
    """The aim of a film.

    Attributes
    ----------
    point
        float64 (3,), patient axes: what its middle is aimed at.
    missed
        float64 (2,), mm in the plane of that point: how far it lies right of and below the middle nevertheless.
    tall
        Height of the film, mm on the detector.
    aspect
        Its width relative to that.
    """

    point: NDArray[np.float64]
    missed: NDArray[np.float64]
    tall: float
    aspect: float


def place_camera(view: View, anatomy: Anatomy, vertebrae: list[Vertebra], site: Site, size: int, rng: np.random.Generator) -> Placed:
    """Return a position of tube and detector for a film of `size` pixels on its long side.

    A film is taken of a usual field, or of the operated `vertebrae`, with or without metal on them: the framing doesn't tell whether
    there is a construct. Most of these vertebrae's room is always on the film.
    """
    axes = np.array(_AXES[view][int(rng.integers(len(_AXES[view])))])
    oblique = (
        rng.uniform(-LARGEST_OBLIQUITY, LARGEST_OBLIQUITY) if rng.random() < site.oblique_share else rng.normal(0, site.oblique_degrees)
    )
    axes = axes @ (turn(2, oblique) @ turn(0, rng.normal(0, 2.5)) @ turn(1, rng.normal(0, 2.0))).T
    source_image = rng.uniform(*site.source_image_mm)
    source_object = source_image - rng.uniform(*_BEHIND_SPINE_MM[view])
    magnification = source_image / source_object
    fields = list_fields(site.fields, anatomy.region, view)
    field = fields[int(rng.integers(len(fields)))] if fields and rng.random() < site.field_share else None
    if field is None:
        aim = _aim_at_levels(vertebrae, None if view == "ap" else axes[0, 1], magnification, site, rng)
    else:
        aim = _aim_at_field(field, anatomy, magnification, rng)
    height, width = (size, max(16, round(size * aim.aspect))) if aim.aspect <= 1 else (max(16, round(size / aim.aspect)), size)
    spacing = aim.tall / height
    centre = np.array([width, height]) / 2 + aim.missed * magnification / spacing
    camera = Camera(axes, aim.point, source_object, source_image, spacing, width, height, (float(centre[0]), float(centre[1])))
    overhang = 0.0 if site.whole or rng.random() < 0.7 else rng.uniform(0.0, 0.3)
    shift = _keep_inside(camera, vertebrae, overhang)
    return Placed(replace(camera, principal=(camera.principal[0] + shift[0], camera.principal[1] + shift[1])), field)


def _aim_at_levels(vertebrae: list[Vertebra], back: float | None, magnification: float, site: Site, rng: np.random.Generator) -> _Aim:
    """Aim at the operated levels; `back` is the film's right along the patient's back, None on an AP film."""
    needed = (vertebrae[0].centre[2] - vertebrae[-1].centre[2] + 90) * magnification
    close = rng.random() < site.close_share
    tall = needed * rng.uniform(0.85, 1.4) if close else max(rng.uniform(*site.film_mm), needed if site.whole else 0.0)
    aspect = rng.uniform(*site.aspect)
    # The belly side of a lateral film is wider than the back.
    forward = 0.0 if back is None else -np.sign(back) * rng.uniform(-15, 30)
    spread = 1.0 if site.whole else tall / 250
    missed = np.array([rng.normal(0, 10) * spread - forward, rng.normal(0, 12) * spread])
    return _Aim(np.mean([vertebra.centre for vertebra in vertebrae], axis=0), missed, tall, aspect)


def _aim_at_field(name: str, anatomy: Anatomy, magnification: float, rng: np.random.Generator) -> _Aim:
    """Aim at a usual field, whatever was operated on."""
    field = FIELDS[name]
    middle = anatomy.vertebrae[field.centres[int(rng.integers(len(field.centres)))]]
    tall, wide, behind = rng.uniform(*field.height), rng.uniform(*field.width), rng.uniform(*field.behind)
    return _Aim(middle.centre + np.array([0.0, behind, 0.0]), rng.normal(0, [6.0, 12.0]), tall * magnification, wide / tall)


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
