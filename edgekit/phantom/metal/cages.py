"""Interbody cages by style, in the disc's own axes (left, back, up) about its middle (ASTM F2077 tests such devices)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import loft, make_outline, merge, revolve, stack_rings, turn
from edgekit.phantom.geometry.wires import make_disc
from edgekit.phantom.materials import Part
from edgekit.phantom.metal.placing import scatter

if TYPE_CHECKING:
    from collections.abc import Callable

_STILL = np.eye(3)
_FLAT = turn(0, 90)


def _make_frame_cage(width: float, depth: float, height: float, rng: np.random.Generator) -> list[Part]:
    wall, rail = rng.uniform(1.2, 2.2), rng.uniform(1.2, 2.2)
    outline, inside = make_outline(width / 2, depth / 2, 4.0, 24), make_outline(width / 2 - wall, depth / 2 - wall, 4.0, 24)
    solid = np.array([outline, outline, inside, inside, outline])
    meshes = [
        loft(stack_rings(solid, np.array([-0.5, 0.5, 0.5, -0.5, -0.5]) * rail)).moved(_STILL, np.array([0, 0, z]))
        for z in (-(height - rail) / 2, (height - rail) / 2)
    ]
    posts = outline[2::4] * (1 - 0.5 * wall / np.linalg.norm(outline[2::4], axis=1, keepdims=True))
    post = make_disc(wall / 2, height - 2 * rail, 6) if height > 2 * rail + 0.5 else make_disc(wall / 2, 0.5, 6)
    return [Part(merge([*meshes, scatter(post, _STILL, np.column_stack([posts, 0 * posts[:, 0]]))]), "titanium")]


def _make_peek_cage(width: float, depth: float, height: float, rng: np.random.Generator) -> list[Part]:
    outline = make_outline(width / 2, depth / 2, 3.5, 24)
    body = loft(stack_rings(np.array([outline, outline]), np.array([-0.5, 0.5]) * height))
    inside = make_outline(width / 2 - 3.5, depth / 2 - 3.5, 3.5, 24)
    hole = loft(stack_rings(np.array([inside, inside]), np.array([-0.5, 0.5]) * height))
    places = np.array([[-0.42, -0.42], [0.42, -0.42], [0.0, 0.42], [0.42, 0.42]])[: int(rng.integers(2, 5))] * [width, depth]
    pin = make_disc(rng.uniform(0.4, 0.6), rng.choice([1.0, 0.85 * height]), 8)
    pins = scatter(pin, _STILL, np.column_stack([places, np.full(len(places), 0.0)]))
    return [Part(body, "peek"), Part(hole, "peek", -1.0), Part(pins, str(rng.choice(["lead", "titanium"])))]


def _make_banana_cage(width: float, depth: float, height: float, rng: np.random.Generator) -> list[Part]:
    angle = np.linspace(-1.1, 1.1, 12)
    radius = width / 2
    path = np.column_stack([radius * np.sin(angle), -0.25 * depth - radius * (np.cos(angle) - 0.7), 0 * angle])
    tangent = np.gradient(path, axis=0)
    across = np.column_stack([-tangent[:, 1], tangent[:, 0], 0 * angle])
    across *= 4.5 / np.linalg.norm(across, axis=1, keepdims=True)
    lift = np.array([0, 0, height / 2])
    rings = np.stack([path - across - lift, path + across - lift, path + across + lift, path - across + lift], axis=1)
    middle = path[:, None] + 0.6 * (rings - path[:, None]) * [1, 1, 1.67]
    tilt = turn(2, rng.normal(0, 12))
    return [Part(loft(rings).moved(tilt, np.zeros(3)), "titanium"), Part(loft(middle[1:-1]).moved(tilt, np.zeros(3)), "titanium", -0.9)]


def _make_bullet_cages(width: float, depth: float, height: float, rng: np.random.Generator) -> list[Part]:
    scale = np.array([0.4, 0.85, 1.0, 1.0, 0.95])
    outline = make_outline(4.8, height / 2, 5.0, 16)
    bullet = loft(stack_rings(scale[:, None, None] * outline, np.linspace(-0.5, 0.5, 5) * depth)).moved(turn(0, -90), np.zeros(3))
    places = np.array([[-0.3 * width, 0, 0], [0.3 * width, 0, 0]])[: int(rng.integers(1, 3))] + rng.normal(0, 1, 3) * [1, 1, 0]
    return [Part(scatter(bullet, turn(2, rng.normal(0, 8)), places), "titanium", rng.uniform(0.35, 0.8))]


def _make_cylinder_cages(width: float, depth: float, height: float, rng: np.random.Generator) -> list[Part]:
    radius, z = 0.62 * height + 1.5, np.arange(-depth / 2, depth / 2, 1.3, dtype=np.float64)
    thread = np.where(np.arange(len(z)) % 2 == 0, radius, radius - 1.0).astype(np.float64)
    offset = min(radius + 1, 0.5 * width - radius)
    offset = max(offset, radius + 0.5)
    places = np.array([[-offset, 0, 0], [offset, 0, 0]]) + rng.normal(0, 0.5, 3) * [1, 1, 0]
    hole = make_disc(radius - 2.2, float(z[-1] - z[0]), 16)
    return [Part(scatter(revolve(thread, z, 16), _FLAT, places), "titanium"), Part(scatter(hole, _FLAT, places), "titanium", -1.0)]


CAGES: dict[str, Callable[[float, float, float, np.random.Generator], list[Part]]] = {
    "frame": _make_frame_cage,
    "peek": _make_peek_cage,
    "banana": _make_banana_cage,
    "bullets": _make_bullet_cages,
    "cylinders": _make_cylinder_cages,
}
"""Each takes width, depth and height in mm and the generator."""
