"""The spine from C1 to S1: how large its vertebrae are, how they stand, and how age wears them.

Coordinates: DICOM patient axes (x left, y back, z head), mm; the centre of L3 is the origin. What the vertebrae look like is `vertebrae`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.mesh import turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Width, depth and height of the body, disc below, distance of a pedicle's axis from the midline, pedicle width, reach of the transverse
# process from the midline, length of the spinous process behind the body (mm); lean: forward tilt of a standing body (degrees).
# Bodies, pedicles and processes rounded from Panjabi et al., Spine 1991;16:861 (C3-C7), 1991;16:888 (T1-T12) and 1992;17:299 (L1-L5):
# width of the upper end plate, its depth, posterior height plus 5 to 10 % for the film's mean height. Atlas and axis fit their neighbours.
# Leans add up to a lordosis C2-C7 of about 20, a kyphosis T4-T12 of about 30
# and a lordosis L1-S1 of about 53 degrees, and the head stands above the sacrum (Boulay et al., Eur Spine J 2006;15:415).
TABLE: dict[str, tuple[float, float, float, float, float, float, float, float, float]] = {
    "C1": (20, 13, 11, 2, 18.0, 8.0, 38, 40, -2),
    "C2": (17, 15, 20, 5, 14.0, 8.0, 26, 38, -2),
    "C3": (16, 15, 13, 5, 14.0, 5.6, 25, 34, 0),
    "C4": (17, 15, 12.5, 5, 14.6, 5.5, 26, 34, 4),
    "C5": (17.5, 15.5, 12.5, 5, 15.0, 5.6, 27, 35, 9),
    "C6": (18.5, 16.5, 12.5, 5.5, 15.2, 6.0, 28, 40, 14),
    "C7": (21.5, 17.5, 14, 5, 15.0, 6.9, 33, 52, 18),
    "T1": (24.5, 18.5, 15.5, 4, 14.5, 8.5, 37, 54, 21),
    "T2": (25, 19.5, 17, 4, 13.0, 7.0, 34, 54, 21),
    "T3": (24.6, 22.5, 17, 4, 12.0, 5.6, 31, 54, 20),
    "T4": (24.5, 23.3, 17.5, 4, 11.6, 4.7, 30, 54, 17),
    "T5": (25, 24.3, 17.7, 4, 11.5, 4.9, 30, 55, 14),
    "T6": (26.2, 26, 18.6, 4.5, 11.5, 5.2, 30, 55, 10),
    "T7": (27.8, 27.4, 19.5, 4.5, 11.7, 5.4, 30, 55, 5),
    "T8": (29, 28, 20, 5, 12.0, 5.5, 30, 55, 0),
    "T9": (30, 29, 21, 5, 12.0, 6.0, 29, 54, -4),
    "T10": (32, 30, 22, 6, 12.5, 6.5, 28, 52, -8),
    "T11": (35, 32, 23, 7, 13.0, 8.0, 24, 50, -11),
    "T12": (39, 33, 25, 8, 13.0, 8.0, 22, 52, -13),
    "L1": (41, 34, 26, 9, 12.5, 8.0, 36, 56, -14),
    "L2": (43, 34.5, 27, 10, 13.0, 8.5, 40, 58, -11),
    "L3": (44.5, 35, 27, 11, 14.0, 10.0, 45, 59, -4),
    "L4": (46.5, 35.5, 27, 12, 15.5, 12.0, 42, 57, 6),
    "L5": (48, 35, 26, 11, 18.0, 15.0, 43, 52, 20),
    "S1": (50, 33, 26, 0, 20.0, 16.0, 30, 40, 39),
}
LEVELS: tuple[str, ...] = tuple(TABLE)
COUNT = len(LEVELS)
_LEAN = np.array([row[8] for row in TABLE.values()], dtype=np.float64)
_NECK = np.arange(COUNT) < LEVELS.index("T1")
_LOIN = np.arange(COUNT) > LEVELS.index("L1")
_ORIGIN = LEVELS.index("L3")


@dataclass(frozen=True, slots=True, eq=False)
class Vertebra:
    """Where a vertebra lies and how large it is; lengths in mm.

    Attributes
    ----------
    centre
        float64 (3,): middle of the body; of C1, the middle of its ring where the dens stands.
    axes
        float64 (3, 3): columns are the vertebra's own left, back and up.
    pedicle
        Distance of a pedicle's axis from the midline.
    process
        Reach of the transverse process from the midline.
    """

    name: str
    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    width: float
    depth: float
    height: float
    pedicle: float
    pedicle_width: float
    process: float

    def place(self, x: float, y: float, z: float) -> NDArray[np.float64]:
        """Return float64 (3,): the point (x, y, z) mm of the vertebra's own axes in patient coordinates."""
        point: NDArray[np.float64] = self.centre + self.axes @ np.array([x, y, z])
        return point


@dataclass(frozen=True, slots=True)
class Posture:
    """How a spine stands.

    Attributes
    ----------
    size
        Relative to the table.
    kyphosis, lordosis
        Curvature of T1-T12 and of L1-S1 relative to the table's.
    gaze
        Forward lean of C2, degrees: whatever the trunk does, the neck bends so far that the eyes look ahead, or up or down where asked to.
    balance
        How far C7 stands in front of S1, mm (sagittal vertical axis): pelvis and legs make up for a bent trunk.
    cobb
        Angle of the scoliosis between its most tilted end plates, degrees.
    apex, reach
        The middle of the scoliotic curve (a number of `LEVELS`) and how many levels it goes up and down from there.
    convex
        1 for a curve convex to the patient's left, -1 to the right.
    twist
        Axial rotation at the apex relative to the Cobb angle; bodies turn towards the convexity.
    """

    size: float = 1.0
    kyphosis: float = 1.0
    lordosis: float = 1.0
    gaze: float = -2.0
    balance: float = 25.0
    cobb: float = 0.0
    apex: float = 14.0
    reach: float = 4.0
    convex: float = 1.0
    twist: float = 0.5


def _zeros() -> NDArray[np.float64]:
    return np.zeros(COUNT)


@dataclass(frozen=True, slots=True, eq=False)
class Wear:
    """What age did to each level: float64 arrays over `LEVELS`; the default is none of it.

    Attributes
    ----------
    narrowing
        Lost share of the height of the disc below.
    lips
        Osteophytes at the rims, mm.
    sclerosis, facets
        Density that end plates and joints gained, relative to cortical bone.
    wedge
        Lost share of the body's height in front.
    cupping
        Lost share of the body's height in its middle.
    """

    narrowing: NDArray[np.float64] = field(default_factory=_zeros)
    lips: NDArray[np.float64] = field(default_factory=_zeros)
    sclerosis: NDArray[np.float64] = field(default_factory=_zeros)
    facets: NDArray[np.float64] = field(default_factory=_zeros)
    wedge: NDArray[np.float64] = field(default_factory=_zeros)
    cupping: NDArray[np.float64] = field(default_factory=_zeros)


# Where discs wear first: the most mobile levels (C5-C7, T7-T10 a little, L4-S1).
_MOBILITY = np.interp(np.arange(COUNT), [0, 2, 4, 5, 7, 13, 17, 20, 22, 24], [0.2, 0.4, 1, 1, 0.3, 0.5, 0.4, 0.7, 1, 0.9])
_FRACTURES = (
    np.interp(np.arange(COUNT), [9, 14, 15, 18, 19, 23], [0, 1.2, 1.0, 3.0, 3.0, 0.7]) * (np.arange(COUNT) > 8) * (np.arange(COUNT) < 24)
)


def draw_wear(rng: np.random.Generator, degeneration: float, sclerosis: float, fragility: float) -> Wear:
    """Draw the wear of each level.

    Parameters
    ----------
    degeneration, sclerosis
        0 (none) to 1 (every mobile level).
    fragility
        0 to 1: expected number of wedge fractures up to about three, and cupped end plates.
    """
    worn = np.clip(degeneration * _MOBILITY * rng.gamma(1.6, 0.65, COUNT), 0, 1)
    wedge = np.zeros(COUNT)
    for level in rng.choice(COUNT, rng.poisson(2.2 * fragility), p=_FRACTURES / _FRACTURES.sum()):
        wedge[level] = rng.uniform(0.2, 0.55)
    return Wear(
        narrowing=np.clip(0.75 * worn + rng.normal(0.02, 0.06, COUNT), -0.1, 0.85),
        lips=5.5 * worn * rng.uniform(0.3, 1.2, COUNT) * np.interp(np.arange(COUNT), [0, 6, 12, 20], [0.4, 0.5, 0.8, 1]),
        sclerosis=np.clip(sclerosis * worn * rng.uniform(0, 1.4, COUNT), 0, 1),
        facets=np.clip(sclerosis * _MOBILITY * degeneration * rng.uniform(0, 1.3, COUNT), 0, 1),
        wedge=wedge + np.clip(rng.normal(0.02, 0.02, COUNT), 0, 0.08),
        cupping=np.clip(fragility * rng.uniform(0, 0.4, COUNT) + rng.uniform(0.0, 0.06, COUNT), 0, 0.45),
    )


def place_vertebrae(posture: Posture, wear: Wear | None = None, rng: np.random.Generator | None = None) -> dict[str, Vertebra]:
    """Return the vertebrae from C1 to S1, one on the other.

    Parameters
    ----------
    wear
        Narrow discs bring vertebrae nearer, wedged ones bend the spine forward.
    rng
        Gives every level a little of its own size and tilt; None keeps to the table and to the angles asked for.
    """
    worn = wear or Wear()
    table = np.array(list(TABLE.values())) * posture.size
    jitter = np.zeros((COUNT, 2)) if rng is None else rng.normal(0, 1.0, (COUNT, 2)) * [1.3, 0.7]
    if rng is not None:
        table[:, :3] *= rng.normal(1, 0.03, (COUNT, 3))
    curve = np.where(_LOIN, posture.lordosis, np.where(_NECK, 0.0, posture.kyphosis))
    first = LEVELS.index("L1")
    steps = np.diff(_LEAN) * (curve[1:] * (np.arange(1, COUNT) > first) + curve[:-1] * (np.arange(1, COUNT) <= first))
    lean = np.concatenate([[0.0], np.cumsum(steps)])
    lean += _LEAN[first] * posture.lordosis - lean[first]
    collapse = np.rad2deg(np.arctan(worn.wedge * table[:, 2] / table[:, 1]))
    above = np.cumsum(collapse[::-1])[::-1]
    lean += np.clip(above - collapse / 2 - above[_ORIGIN], None, 40)
    shoulder = LEVELS.index("T1")
    share = (_LEAN[:shoulder] - _LEAN[1]) / (_LEAN[shoulder] - _LEAN[1])
    tall = (table[:, 2] + table[:, 3])[shoulder:-1]
    for _ in range(3):
        angle = np.deg2rad(lean[shoulder:-1])
        lean[shoulder:] -= np.rad2deg(((tall * np.sin(angle)).sum() - posture.balance) / (tall * np.cos(angle)).sum())
    lean[:shoulder] = posture.gaze + share * (lean[shoulder] - posture.gaze)
    lean += jitter[:, 0]
    side, rotation = _bend_sideways(posture)
    side += jitter[:, 1]
    rotation += 0.5 * jitter[:, 1]
    axes = [turn(1, side[i]) @ turn(0, lean[i]) @ turn(2, rotation[i]) for i in range(COUNT)]
    up = np.array(axes)[:, :, 2]
    reach = table[:, 2] / 2
    disc = table[:, 3] * (1 - worn.narrowing)
    below = up[:-1] * (reach + disc / 2)[:-1, None]
    above_next = up[1:] * (reach[1:] + disc[:-1] / 2)[:, None]
    centres = np.concatenate([np.zeros((1, 3)), -np.cumsum(below + above_next, axis=0)])
    centres -= centres[_ORIGIN]
    return {
        name: Vertebra(name, centres[i], axes[i], *(float(value) for value in table[i, [0, 1, 2, 4, 5, 6]]))
        for i, name in enumerate(LEVELS)
    }


def _bend_sideways(posture: Posture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return tilt and axial rotation of each level, degrees: one curve, and beyond it the column comes back to upright.

    The tilt is largest, half the Cobb angle to either side, where the curve ends; at whole numbers of apex and reach a vertebra is there.
    """
    place = (np.arange(COUNT) - posture.apex) / posture.reach
    inside = np.abs(place) <= 1
    fade = np.cos(np.clip((np.abs(place) - 1) * posture.reach / 2.5, 0, 1) * np.pi / 2) ** 2
    tilt = posture.convex * posture.cobb / 2 * np.where(inside, np.sin(place * np.pi / 2), np.sign(place) * fade)
    tilt[-1] *= 0.3  # the pelvis stays level
    bump = np.cos(np.clip(np.abs(place), 0, 1) * np.pi / 2) ** 2
    return tilt, posture.convex * posture.twist * posture.cobb * bump
