"""Metal of hips, pelvis, clavicles and ribs: on the same film as the spine, with screws, and no construct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import make_ellipsoid, merge, revolve
from edgekit.phantom.geometry.wires import make_strip, make_wire, smooth
from edgekit.phantom.materials import Part
from edgekit.phantom.metal.placing import align, find_level, make_bone_screw, scatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.anatomy import Anatomy

_STILL = np.eye(3)


def _find_hip(anatomy: Anatomy, side: float) -> NDArray[np.float64]:
    """Return the hip's centre: about 90 mm beside, 100 mm below and 35 mm in front of S1 (pelvic incidence about 50 degrees)."""
    hip: NDArray[np.float64] = find_level(anatomy, "S1").centre + np.array([side * 90.0, -35.0, -100.0])
    return hip


def make_hip_prosthesis(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a total or half hip, on one side or on both."""
    if anatomy.region != "lumbar":
        return []
    parts = []
    total, radius, metal = rng.random() < 0.8, rng.uniform(11, 18), str(rng.choice(["titanium", "cobalt-chrome", "steel"]))
    for side in rng.choice([-1.0, 1.0], 1 if rng.random() < 0.65 else 2, replace=False):
        hip = _find_hip(anatomy, float(side))
        opening = align([side * 0.72, -0.22, -0.66])
        angle, outer = np.linspace(0.02, np.pi / 2, 10), rng.uniform(24, 29)
        shell = revolve(
            np.concatenate([outer * np.sin(angle), (outer - 3.5) * np.sin(angle[::-1])]),
            -np.concatenate([outer * np.cos(angle), (outer - 3.5) * np.cos(angle[::-1])]),
            24,
        )
        head = radius if total else rng.uniform(21, 26)
        parts.append(Part(make_ellipsoid((head, head, head), 24).moved(_STILL, hip), "cobalt-chrome"))
        if total:
            parts.append(Part(shell.moved(opening, hip), "titanium"))
        shaft = np.array([[0, 0, 0], [18, 0, -18], [30, 1, -34], [36, 2, -60], [37, 3, -110], [36, 4, -rng.uniform(140, 180)]]) * [
            side,
            1,
            1,
        ]
        radii = np.array([6.0, 6.5, 11.0, 9.5, 7.0, 4.5]) * rng.uniform(0.9, 1.1)
        parts.append(Part(make_wire(hip + shaft, radii, 14), metal))
    return parts


def make_femoral_nail(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a nail with a neck screw, a sliding hip screw with its side plate, or three cannulated screws."""
    if anatomy.region != "lumbar":
        return []
    side = float(rng.choice([-1.0, 1.0]))
    hip, style = _find_hip(anatomy, side), str(rng.choice(["nail", "plate", "screws"]))
    inward = align([-side * 0.75, -0.1, 0.65])
    lateral = hip + np.array([side * 58, 4, -50])
    if style == "screws":
        spots = np.array([[0, 0, -6.0], [0, -7, 6], [0, 7, 6]])
        return [Part(scatter(make_bone_screw(6.5, 80.0, 0.25), inward, lateral + spots), "titanium", 0.85)]
    meshes = [make_bone_screw(11.0, 86.0, 0.3, 1.0).moved(inward, lateral)]
    if style == "nail":
        z = np.array([35.0, 0, -40, -100, -rng.uniform(150, 300)])
        path = hip + np.column_stack([side * (np.array([42.0, 44, 46, 46, 46])), np.array([4.0, 4, 3, 1, 2]), z])
        meshes.append(make_wire(path, np.array([7.5, 7.5, 6.0, 5.5, 5.0]), 14))
        meshes.append(make_bone_screw(5.0, 42.0).moved(align([-side, 0, 0]), path[-1] + np.array([side * 22, 0, 25])))
    else:
        path = lateral + np.array([[side * 2.0, 0, 6.0 - 22 * step] for step in range(6)])
        meshes.append(make_strip(path, np.array([0, 1.0, 0]), 18.0, 5.5))
        meshes.append(scatter(make_bone_screw(4.5, 40.0), align([-side, 0, 0]), path[1:-1] + np.array([side * 2.5, 0, -8])))
    return [Part(merge(meshes), str(rng.choice(["titanium", "steel"])))]


def make_iliosacral_screws(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return long screws or three short bars across the sacroiliac joint: screws without any rod."""
    if anatomy.region != "lumbar":
        return []
    sacrum, parts = find_level(anatomy, "S1"), []
    count, threaded = int(rng.integers(1, 4)), float(rng.choice([0.2, 0.35, 1.0]))
    length = float(rng.choice([45.0, 70.0, 90.0]))
    for side in rng.choice([-1.0, 1.0], int(rng.integers(1, 3)), replace=False):
        shift = rng.normal(0, 5)
        places = np.array([sacrum.place(side * 78, 18 + 3 * number, 2 + shift - 17 * number) for number in range(count)])
        axes = align(sacrum.axes @ [-side, rng.normal(-0.25, 0.1), rng.normal(0.1, 0.08)])
        parts.append(Part(scatter(make_bone_screw(7.0, length, threaded, 1.6), axes, places), "titanium"))
    return parts


def make_bone_plate(rng: np.random.Generator, anatomy: Anatomy) -> list[Part]:
    """Return a plate with screws on a clavicle or on ribs."""
    if anatomy.region == "lumbar":
        return []
    side, high = float(rng.choice([-1.0, 1.0])), find_level(anatomy, "T2").centre
    if anatomy.region == "cervical" or rng.random() < 0.5:
        path = smooth(
            [
                high + np.array([side * 45, -70, 22]),
                high + np.array([side * 75, -72, 30]),
                high + np.array([side * 105, -55, 36]),
                high + np.array([side * 130, -40, 38]),
            ],
            10,
        )
    else:
        rib = find_level(anatomy, "T7").centre
        path = smooth(
            [
                rib + np.array([side * 95, 20, 0]),
                rib + np.array([side * 115, -10, -12]),
                rib + np.array([side * 118, -40, -24]),
                rib + np.array([side * 108, -65, -36]),
            ],
            10,
        )
    down = np.array([0, 0.0, -1.0])
    meshes = [make_strip(path, np.array([0, 0.8, 0.6]), rng.uniform(8, 11), 2.8)]
    meshes.append(scatter(make_bone_screw(3.5, 14.0), align(down + np.array([-0.3 * side, 0.4, 0])), path[[0, 1, 3, 5, 7, 9]]))
    return [Part(merge(meshes), str(rng.choice(["titanium", "steel"])))]
