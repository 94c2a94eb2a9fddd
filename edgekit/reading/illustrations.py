"""A drawing of a simulated design, as a manufacturer's catalogue has one: the screw from two sides, and a construct of four of them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from edgekit.phantom.geometry.mesh import Mesh
    from edgekit.phantom.metal.implants import ImplantDesign

WIDTH, HEIGHT = 960, 640
PIXELS_PER_MM = 6.4
OVERSAMPLING = 2
SCREW_MM = (6.5, 45.0)
"""Diameter and length drawn of every design, so that drawings differ only where designs do."""
ROD_DISTANCE_MM, LEVEL_DISTANCE_MM = 34.0, 34.0

_LIGHT = np.array([-0.45, -0.6, -0.66])
_PAPER, _DARK, _BRIGHT = 255.0, 45.0, 235.0
_STILL = np.eye(3)


def draw_design(design: ImplantDesign) -> Image.Image:
    """Draw a design: the screw along its rod and across it, and a construct from behind, seen from obliquely above.

    Everything is orthographic and to the same scale (`PIXELS_PER_MM`), with a bar of 10 mm.

    Returns
    -------
    PIL.Image.Image
        Gray, `WIDTH` x `HEIGHT`.
    """
    from PIL import Image, ImageDraw, ImageFont

    from edgekit.phantom.geometry.mesh import turn

    sheet = np.full((HEIGHT * OVERSAMPLING, WIDTH * OVERSAMPLING), _PAPER, np.float32)
    depths = np.full(sheet.shape, np.inf, np.float32)
    screw, construct = _make_screw_on_rod(design), _make_construct(design)
    # Rows are the picture's right, its down and away from the eye; a screw's tulip is up.
    along = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    across = np.array([[0, 1.0, 0], [0, 0, -1], [-1, 0, 0]])
    oblique = turn(0, 28.0) @ along @ turn(2, 32.0)
    for meshes, axes, middle in ((screw, along, (110, 185)), (screw, across, (275, 185)), (construct, oblique, (650, 255))):
        _draw(meshes, axes, middle, sheet, depths)
    picture = Image.fromarray(np.floor(sheet + 0.5).astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    draw = ImageDraw.Draw(picture)
    draw.line((40, HEIGHT - 40, 40 + 10 * PIXELS_PER_MM, HEIGHT - 40), fill=0, width=3)
    draw.text((40, HEIGHT - 66), "10 mm", fill=0, font=ImageFont.load_default(size=18))
    return picture


def _make_screw_on_rod(design: ImplantDesign, rod_mm: float = 26.0) -> list[Mesh]:
    """Return a screw with its tulip and a piece of rod: the rod along y through the origin, the tip towards negative z."""
    from edgekit.phantom.geometry.mesh import revolve
    from edgekit.phantom.metal.screws import make_screw, make_tulip

    radius = design.rod_diameter / 2
    rod = revolve(np.array([0.85, 1, 1, 0.85]) * radius, np.array([-0.5, -0.48, 0.48, 0.5]) * rod_mm, 48)
    lying = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    shaft = make_screw(design, *SCREW_MM).moved(_STILL, np.array([0, 0, -radius - design.ball_below_rod]))
    return [shaft, make_tulip(design), rod.moved(lying, np.zeros(3))]


def _make_construct(design: ImplantDesign) -> list[Mesh]:
    """Return two levels: four screws, two rods, and the crosslink where the design has one; the rods along y, tulips towards z."""
    from edgekit.phantom.metal.crosslinks import make_crosslink
    from edgekit.phantom.metal.rods import make_rod

    meshes = []
    half, reach = ROD_DISTANCE_MM / 2, LEVEL_DISTANCE_MM / 2
    # Rods are made along z, with y to the back: here the back is z and the head is y.
    lying = np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    for side in (-half, half):
        heights = np.linspace(reach + 12, -reach - 12, 12)
        path = np.column_stack([np.full(12, side), np.zeros(12), heights])
        meshes.append(make_rod(path, design.rod_diameter, has_nose=design.rod_bullet).moved(lying, np.zeros(3)))
        for level in (-reach, reach):
            meshes += [mesh.moved(_STILL, np.array([side, level, 0])) for mesh in _make_screw_on_rod(design)[:2]]
    if design.crosslink is not None:
        bridge = make_crosslink(design, np.array([-half, 0, 0]), np.array([half, 0, 0]), np.array([0, 0, 1.0]))
        meshes.append(bridge.mesh.moved(lying, np.zeros(3)))
    return meshes


def _draw(
    meshes: Sequence[Mesh],
    axes: NDArray[np.float64],
    middle: tuple[int, int],
    sheet: NDArray[np.float32],
    depths: NDArray[np.float32],
) -> None:
    """Draw `meshes` with their origin at the pixel `middle` of the finished picture: flat shading, nearest surface in front."""
    scale = PIXELS_PER_MM * OVERSAMPLING
    for mesh in meshes:
        points = mesh.vertices @ axes.T
        corners = points[mesh.triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1)
        normals = normals / np.where(length > 0, length, 1)[:, None]
        # The eye sees outward faces only where they face it; a mirrored view turns them, so the shade takes either side.
        facing = np.where(normals[:, 2:] > 0, -1.0, 1.0) * normals
        lit = np.clip(facing @ _LIGHT / np.linalg.norm(_LIGHT), 0, 1)
        shades = (_DARK + (_BRIGHT - _DARK) * (0.25 + 0.75 * lit)).astype(np.float32)
        flat = points * scale + np.array([middle[0] * OVERSAMPLING, middle[1] * OVERSAMPLING, 0.0])
        _compile_rasteriser()(flat, mesh.triangles, shades, sheet, depths)


@cache
def _compile_rasteriser() -> Callable[..., None]:
    """Return a function that draws flat triangles, the nearest in front; compiled when it is first needed."""
    from numba import njit

    def rasterise(points: Any, triangles: Any, shades: Any, sheet: Any, depths: Any) -> None:
        height, width = sheet.shape
        for number in range(triangles.shape[0]):
            a, b, c = points[triangles[number, 0]], points[triangles[number, 1]], points[triangles[number, 2]]
            area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
            if area == 0.0:
                continue
            first, last = max(0, int(min(a[1], b[1], c[1]) - 0.5)), min(height - 1, int(max(a[1], b[1], c[1]) + 0.5))
            left, right = max(0, int(min(a[0], b[0], c[0]) - 0.5)), min(width - 1, int(max(a[0], b[0], c[0]) + 0.5))
            for row in range(first, last + 1):
                for column in range(left, right + 1):
                    x, y = column + 0.5, row + 0.5
                    u = ((b[0] - x) * (c[1] - y) - (c[0] - x) * (b[1] - y)) / area
                    v = ((c[0] - x) * (a[1] - y) - (a[0] - x) * (c[1] - y)) / area
                    w = 1.0 - u - v
                    if u < 0 or v < 0 or w < 0:
                        continue
                    depth = u * a[2] + v * b[2] + w * c[2]
                    if depth < depths[row, column]:
                        depths[row, column] = depth
                        sheet[row, column] = shades[number]

    compiled: Callable[..., None] = njit(nogil=True)(rasterise)
    return compiled
