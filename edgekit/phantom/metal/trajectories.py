"""Where screws go: a way into each vertebra, from the axis to the ilium.

Transverse angles of the pedicles are rounded from Zindrick et al., Spine 1987;12:160, and Panjabi et al., Spine 1991;16:888 and
1992;17:299; lateral masses after An et al., Spine 1991;16:S548; the sacral-alar-iliac way after Chang et al., Spine 2009;34:436.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.spine import Vertebra
    from edgekit.phantom.metal.implants import ImplantDesign

# Degrees by which a screw in the pedicle points to the midline.
_CONVERGENCE = {
    "C1": 5, "C2": 22, "C3": 38, "C4": 38, "C5": 38, "C6": 36, "C7": 30,
    "T1": 27, "T2": 21, "T3": 16, "T4": 13, "T5": 10, "T6": 9, "T7": 8, "T8": 8, "T9": 8, "T10": 7, "T11": 5, "T12": 6,
    "L1": 10, "L2": 11, "L3": 14, "L4": 17, "L5": 22, "S1": 23,
}  # fmt: skip
# Screw's diameter in a large system relative to the one chosen for the middle of the lumbar spine, mm.
_THINNER = {"C": -2.5, "T": -1.0, "L": 0.0, "S": 0.5}
LATERAL_MASSES = ("C3", "C4", "C5", "C6")
_SMALL_MM = 4.0
"""A system whose thinnest screw is below is made for the neck."""


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """A screw, or a hook, as planned.

    Attributes
    ----------
    head
        float64 (3,), mm: where the rod should cross it.
    tip
        float64 (3,), mm: where it points.
    back
        float64 (3,): the vertebra's own backward axis.
    diameter, length
        Of the screw, mm; the length is counted from where the head was planned.
    bend
        0 for a screw; 1 or -1 for a hook that opens to the head or to the feet.
    """

    head: NDArray[np.float64]
    tip: NDArray[np.float64]
    back: NDArray[np.float64]
    diameter: float
    length: float
    bend: int = 0


@dataclass(frozen=True, slots=True)
class Manner:
    """What one surgeon does alike at all levels; degrees and mm.

    Attributes
    ----------
    diameter
        Screw in the middle of the lumbar spine.
    converge
        Factor on the pedicles' own angles.
    rise
        By how much screws point to the head in front.
    depth
        How far screws go into the body, as a share of its depth.
    proud
        Distance between the bone and the heads.
    flare, climb
        Angle of lateral-mass screws outwards and to the head.
    midline
        Cortical trajectory in the lumbar spine: from the midline outwards and to the head.
    lateral_masses
        C3 to C6 get lateral-mass screws, not pedicle screws.
    """

    diameter: float
    converge: float
    rise: float
    depth: float
    proud: float
    flare: float
    climb: float
    midline: bool
    lateral_masses: bool


def draw_manner(rng: np.random.Generator, midline: float) -> Manner:
    """Return what a surgeon does in this patient; `midline` is the share of those who place cortical screws."""
    return Manner(
        diameter=float(rng.choice([5.5, 6.0, 6.5, 7.0, 7.5], p=[0.15, 0.2, 0.35, 0.22, 0.08])),
        converge=rng.uniform(0.75, 1.25),
        rise=rng.normal(2, 4),
        depth=rng.uniform(0.55, 0.85),
        proud=rng.uniform(0, 4),
        flare=rng.uniform(15, 32),
        climb=rng.uniform(10, 38),
        midline=rng.random() < midline,
        lateral_masses=rng.random() < 0.94,
    )


def _direct(inward: float, rise: float, side: float) -> NDArray[np.float64]:
    """Return the way forward of a screw in the vertebra's own axes, from angles in degrees."""
    a, b = np.deg2rad(inward), np.deg2rad(rise)
    return np.array([-side * np.sin(a) * np.cos(b), -np.cos(a) * np.cos(b), np.sin(b)])


def plan_screw(vertebra: Vertebra, side: float, design: ImplantDesign, manner: Manner, rng: np.random.Generator) -> Anchor:
    """Plan a screw on one side (1 is the patient's left) of a vertebra."""
    if vertebra.name in LATERAL_MASSES and manner.lateral_masses:
        return _plan_lateral_mass(vertebra, side, design, manner, rng)
    if vertebra.name[0] == "L" and manner.midline:
        return _plan_midline(vertebra, side, design, manner, rng)
    half = vertebra.depth / 2
    # One screw in thirty is off: as published series of plain films after surgery have it.
    care = 3.0 if rng.random() < 0.033 else 1.0
    inward = manner.converge * _CONVERGENCE[vertebra.name] + care * rng.normal(0, 2.5)
    rise = manner.rise + rng.normal(0, 3.0) * care + {"C1": 5.0, "C2": 20.0, "C7": 7.0, "T1": 3.0, "S1": -2.0}.get(vertebra.name, 0.0)
    deep = float(np.clip(manner.depth + rng.normal(0, 0.06), 0.4, 0.95)) * vertebra.depth
    # Never across the midline.
    inward = min(inward, np.rad2deg(np.arctan2(vertebra.pedicle - 1.5, deep + 3)))
    entry = np.array([side * (vertebra.pedicle + rng.normal(0, 0.6 * care)), half + 3, 0.24 * vertebra.height + rng.normal(0, 1.0 * care)])
    surface = {"C1": 11.0, "C2": 13.0, "C3": 11.0, "C4": 11.0, "C5": 11.0, "C6": 11.0, "C7": 11.5, "S1": 14.0}.get(
        vertebra.name, 18.5 if vertebra.name[0] == "L" else 13.0
    )
    if vertebra.name == "C2":
        entry += [side * 2.0, 5.0, -7.0]
    elif vertebra.name == "C1":
        entry[1:] = [2.0, -1.0]
        deep = 0.4 * vertebra.depth
    forward = _direct(inward, rise, side)
    behind = half + surface + _stand(design) + manner.proud - entry[1] + rng.normal(0, 1.0)
    head = entry - forward * behind / -forward[1]
    tip = entry + forward * (entry[1] - half + deep) / -forward[1]
    return _finish(vertebra, head, tip, _choose_diameter(vertebra, design, manner, rng), design)


def _stand(design: ImplantDesign) -> float:
    """Return the distance from the bone to the rod's axis, mm."""
    return design.tulip.base + design.rod_diameter / 2


def _choose_diameter(vertebra: Vertebra, design: ImplantDesign, manner: Manner, rng: np.random.Generator) -> float:
    low, high = design.diameters
    if low < _SMALL_MM:
        size = low + (0.0 if vertebra.name in LATERAL_MASSES else rng.choice([0.0, 0.5, 1.0]))
    else:
        size = manner.diameter + _THINNER[vertebra.name[0]] + rng.choice([0.0, 0.0, 0.5]) + (0.5 if vertebra.name == "L5" else 0.0)
        size = min(size, 0.5 * np.floor(2.2 * vertebra.pedicle_width))
    return float(np.clip(size, low, high))


def _plan_lateral_mass(vertebra: Vertebra, side: float, design: ImplantDesign, manner: Manner, rng: np.random.Generator) -> Anchor:
    forward = _direct(-manner.flare + rng.normal(0, 3), manner.climb + rng.normal(0, 4), side)
    scale = vertebra.pedicle / 15.0
    entry = np.array(
        [side * (vertebra.pedicle + 4.5 * scale + rng.normal(0, 0.7)), vertebra.depth / 2 + 10.5 * scale, -1.0 + rng.normal(0, 0.8)]
    )
    # Heads line up behind the entries whatever the screws' slant: the screw's bare end bridges the rest.
    head = entry - forward * (_stand(design) + 0.5 * manner.proud) * 0.85
    tip = entry + forward * float(rng.uniform(10.5, 15.0)) * scale
    return _finish(vertebra, head, tip, max(design.diameters[0], 3.5), design)


def _plan_midline(vertebra: Vertebra, side: float, design: ImplantDesign, manner: Manner, rng: np.random.Generator) -> Anchor:
    """Plan a cortical screw: Santoni et al., Spine J 2009;9:366."""
    forward = _direct(-rng.normal(9, 2), rng.normal(24, 3), side)
    entry = np.array([side * (vertebra.pedicle - 0.5), vertebra.depth / 2 + 3, 0.2 * vertebra.height])
    head = entry - forward * (15.5 + _stand(design) + rng.normal(0, 1.0)) / -forward[1]
    tip = entry + forward * rng.uniform(0.35, 0.5) * vertebra.depth
    size = float(np.clip(min(manner.diameter, 5.5), *design.diameters))
    return _finish(vertebra, head, tip, size, design)


def plan_hook(vertebra: Vertebra, side: float, design: ImplantDesign, manner: Manner, rng: np.random.Generator) -> Anchor:
    """Plan a hook under the lamina or, towards the head, under the pedicle's root."""
    planned = plan_screw(vertebra, side, design, replace(manner, converge=0.3), rng)
    inward = np.array([-side * rng.uniform(0, 3), 0.0, rng.normal(-4, 2)])
    return replace(planned, head=planned.head + vertebra.axes @ inward, bend=int(rng.choice([1, 1, -1])))


def plan_iliac(sacrum: Vertebra, side: float, design: ImplantDesign, rng: np.random.Generator) -> Anchor:
    """Plan a long screw from the second sacral segment into the ilium."""
    forward = _direct(-rng.normal(40, 4), rng.normal(-30, 5), side)
    entry = np.array([side * (sacrum.pedicle + rng.normal(10, 1.5)), sacrum.depth / 2 + 16, -26.0 + rng.normal(0, 2)])
    head = entry - forward * _stand(design) / -forward[1]
    size = float(np.clip(rng.choice([7.5, 8.0, 8.5]), *design.diameters))
    return _finish(sacrum, head, entry + forward * rng.choice([65.0, 75.0, 85.0]), size, design)


def _finish(vertebra: Vertebra, head: NDArray[np.float64], tip: NDArray[np.float64], diameter: float, design: ImplantDesign) -> Anchor:
    step = 2.0 if design.diameters[0] < _SMALL_MM else 5.0
    reach = float(np.linalg.norm(head - tip)) - _stand(design)
    if reach > 60:
        step = 10.0
    length = max(step * round(reach / step), 10.0 if step < 5 else 20.0)
    return Anchor(vertebra.place(*head), vertebra.place(*tip), vertebra.axes[:, 1], diameter, length)
