"""A patient without metal: the spine from C1 to S1 and what a film of one of its regions shows around it.

Coordinates: DICOM patient axes (x left, y back, z head), mm; the centre of L3 is the origin. All vertebrae are placed for every region;
what is made of them is what a film of about 500 mm, centred on the region, can show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.errors import UsageError
from edgekit.phantom.body.abdomen import make_abdomen
from edgekit.phantom.body.head import make_head
from edgekit.phantom.body.skeleton import make_chest, make_pelvis, make_shoulders, make_sternum
from edgekit.phantom.body.spine import LEVELS, Posture, Vertebra, draw_wear, place_vertebrae
from edgekit.phantom.body.thorax import make_airway, make_thorax
from edgekit.phantom.body.tissue import Trunk, make_arms, make_body, make_breasts, make_clutter, make_folds, make_strands
from edgekit.phantom.body.vertebrae import Bone, make_vertebrae
from edgekit.phantom.geometry.mesh import turn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgekit.phantom.materials import Part

__all__ = ["LEVELS", "REGIONS", "STYLES", "Anatomy", "AnatomyStyle", "Region", "Vertebra", "make_anatomy"]

Region = Literal["cervical", "thoracic", "lumbar"]
Range = tuple[float, float]
"""Ends of a uniform range."""

REGIONS: dict[Region, tuple[str, str]] = {"cervical": ("C1", "T8"), "thoracic": ("C3", "L4"), "lumbar": ("T6", "S1")}
"""First and last vertebra that is made for a region."""


@dataclass(frozen=True, slots=True)
class AnatomyStyle:
    """A kind of patient; pairs are the ends of uniform ranges.

    Attributes
    ----------
    size, girth
        Skeleton and trunk relative to the tables.
    density
        Bone relative to a young adult's.
    degeneration, sclerosis, fragility, calcification
        0 (none) to 1; see `edgekit.phantom.body.spine.draw_wear`. Calcified are aorta and costal cartilage.
    gaze, kyphosis, lordosis
        See `edgekit.phantom.body.spine.Posture`.
    cobb
        Degrees.
    gas
        0 to 1: bowel gas.
    cortex, posterior
        Density of the bodies' walls and end plates, and of all that lies behind the bodies, relative to the tables'.
    """

    size: Range = (0.92, 1.08)
    girth: Range = (0.88, 1.15)
    density: Range = (0.8, 1.1)
    degeneration: Range = (0.05, 0.5)
    sclerosis: Range = (0.0, 0.5)
    fragility: Range = (0.0, 0.15)
    calcification: Range = (0.0, 0.5)
    gaze: Range = (-10.0, 6.0)
    kyphosis: Range = (0.7, 1.35)
    lordosis: Range = (0.5, 1.2)
    cobb: Range = (0.0, 12.0)
    gas: Range = (0.1, 0.9)
    cortex: Range = (1.0, 1.0)
    posterior: Range = (1.0, 1.0)


STYLES: dict[str, AnatomyStyle] = {
    "adult": AnatomyStyle(),
    "young": AnatomyStyle(
        size=(0.86, 1.05),
        girth=(0.72, 0.95),
        density=(1.0, 1.2),
        degeneration=(0.0, 0.08),
        sclerosis=(0.0, 0.05),
        fragility=(0.0, 0.02),
        calcification=(0.0, 0.05),
    ),
    "stout": AnatomyStyle(size=(0.95, 1.1), girth=(1.15, 1.5), density=(0.85, 1.15), gas=(0.2, 1.0)),
    "osteoporotic": AnatomyStyle(
        size=(0.85, 1.0),
        girth=(0.8, 1.1),
        density=(0.42, 0.7),
        degeneration=(0.1, 0.55),
        fragility=(0.35, 1.0),
        calcification=(0.2, 0.9),
        kyphosis=(1.1, 1.9),
        lordosis=(0.4, 1.1),
        cobb=(0.0, 18.0),
    ),
    "degenerate": AnatomyStyle(
        girth=(0.9, 1.3),
        density=(0.7, 1.15),
        degeneration=(0.65, 1.0),
        sclerosis=(0.5, 1.0),
        fragility=(0.0, 0.3),
        calcification=(0.3, 1.0),
        gaze=(-2.0, 14.0),
        lordosis=(0.1, 0.9),
        cobb=(2.0, 28.0),
    ),
    "deformed": AnatomyStyle(
        girth=(0.75, 1.1),
        density=(0.7, 1.15),
        degeneration=(0.0, 0.5),
        kyphosis=(0.2, 2.2),
        lordosis=(0.3, 1.3),
        cobb=(20.0, 60.0),
    ),
    # End plates, pedicles and joints that stand out like metal.
    "crisp": AnatomyStyle(
        density=(0.8, 1.15), girth=(0.75, 1.1), sclerosis=(0.0, 0.6), degeneration=(0.0, 0.6), cortex=(1.3, 2.2), posterior=(1.1, 1.6)
    ),
    "dense": AnatomyStyle(
        density=(0.9, 1.25), girth=(0.7, 1.0), sclerosis=(0.4, 1.0), degeneration=(0.2, 0.6), cortex=(2.0, 3.0), posterior=(1.5, 2.1)
    ),
}
"""Kinds of patients by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """A patient without metal.

    Attributes
    ----------
    vertebrae
        All of `LEVELS`, by name.
    parts
        What a film of `region` may show.
    """

    vertebrae: dict[str, Vertebra]
    parts: list[Part]
    region: Region = "lumbar"


def make_anatomy(rng: np.random.Generator, region: Region = "lumbar", style: str = "adult") -> Anatomy:
    """Return a random patient.

    Parameters
    ----------
    region
        ``cervical``, ``thoracic`` or ``lumbar``.
    style
        A name in `STYLES`.

    Raises
    ------
    UsageError
        Region or style is unknown.
    """
    if region not in REGIONS:
        raise UsageError(f"unknown region {region!r}", f"Use one of: {', '.join(REGIONS)}.")
    if style not in STYLES:
        raise UsageError(f"unknown style {style!r}", f"Use one of: {', '.join(STYLES)}.")
    kind = STYLES[style]
    wear = draw_wear(rng, rng.uniform(*kind.degeneration), rng.uniform(*kind.sclerosis), rng.uniform(*kind.fragility))
    posture = _draw_posture(kind, region, rng)
    vertebrae = place_vertebrae(posture, wear, rng)
    density, girth = rng.uniform(*kind.density), rng.uniform(*kind.girth)
    gas, calcified = rng.uniform(*kind.gas), rng.uniform(*kind.calcification)
    breadth = posture.size * rng.uniform(0.93, 1.07)
    pose = _draw_pose(posture, rng)
    trunk = Trunk(vertebrae, girth, posture.size, pose, rng)
    first, last = (LEVELS.index(name) for name in REGIONS[region])
    shown = [vertebrae[name] for name in LEVELS[first : last + 1]]
    walls = rng.spawn(1)[0]  # what other styles draw stays as it is
    parts = make_vertebrae(shown, wear, Bone(density, walls.uniform(*kind.cortex), walls.uniform(*kind.posterior)), rng)
    builders = {"cervical": _make_neck, "thoracic": _make_chest, "lumbar": _make_loin}
    parts += builders[region](_Patient(vertebrae, shown, trunk, pose, posture.size, density, breadth, gas, calcified), rng)
    return Anatomy(vertebrae, parts, region)


@dataclass(frozen=True, slots=True, eq=False)
class _Patient:
    """What the regions are built from."""

    vertebrae: dict[str, Vertebra]
    shown: list[Vertebra]
    trunk: Trunk
    pose: NDArray[np.float64]
    size: float
    density: float
    breadth: float
    gas: float
    calcified: float

    def find_height(self, name: str, above: float) -> float:
        return float(self.vertebrae[name].centre[2] + above)


def _draw_posture(kind: AnatomyStyle, region: Region, rng: np.random.Generator) -> Posture:
    # Apex by region: a curve where the film looks is a curve that counts.
    apex = {"cervical": (7, 11), "thoracic": (12, 16), "lumbar": (16, 19)}[region]
    # A neck is flexed or extended on some films.
    bend = rng.normal(0, 16) if rng.random() < 0.2 else 0.0
    return Posture(
        size=float(rng.uniform(*kind.size)),
        gaze=float(rng.uniform(*kind.gaze) + bend),
        kyphosis=float(rng.uniform(*kind.kyphosis)),
        lordosis=float(rng.uniform(*kind.lordosis)),
        balance=float(rng.normal(22, 18)),
        cobb=float(rng.uniform(*kind.cobb)),
        apex=float(rng.integers(*apex, endpoint=True)),
        reach=float(rng.integers(3, 4, endpoint=True)),
        convex=float(rng.choice([-1.0, 1.0])),
        twist=float(rng.uniform(0.3, 0.7)),
    )


def _draw_pose(posture: Posture, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how the head is turned and scaled: it nods with the neck."""
    nod = 0.7 * posture.gaze + rng.normal(1, 5)
    return float(rng.uniform(0.93, 1.05)) * (turn(1, rng.normal(0, 2)) @ turn(0, nod) @ turn(2, rng.normal(0, 4)))


_SWIMMERS = 0.15
"""Share of the cervical patients who have one arm raised."""


def _make_neck(patient: _Patient, rng: np.random.Generator) -> list[Part]:
    v, top, bottom = patient.vertebrae, patient.find_height("C1", 170), patient.find_height("T11", -20)
    # A swimmer's view, for what the shoulders hide: one arm up.
    arms = ("raised", "down") if rng.spawn(1)[0].random() < _SWIMMERS else ("down", "down")
    parts = make_body(patient.trunk, bottom, top, -1e6, rng.uniform(3, 16) * patient.trunk.girth)
    parts += make_thorax(v, patient.trunk, patient.breadth, rng)
    parts += make_airway(v, patient.trunk, rng)
    parts += make_clutter(patient.trunk, patient.find_height("T5", 0), patient.find_height("C2", 0), 60, rng)
    parts.append(make_strands(patient.trunk, patient.find_height("T6", 0), patient.find_height("C1", 0), 46, rng))
    parts += make_folds(patient.trunk, patient.find_height("T3", 0), patient.find_height("C3", 0), rng)
    parts.append(make_arms(v["T2"], arms, patient.trunk.girth))
    parts += make_head(v["C1"], v["C3"], patient.pose, patient.density, rng)
    parts += make_chest(patient.shown, patient.density, patient.breadth, patient.calcified, rng)
    parts += make_sternum(v["T3"], v["T9"], patient.density, patient.breadth)
    return parts + make_shoulders(v["T2"], patient.density, patient.breadth, arms, rng)


def _make_chest(patient: _Patient, rng: np.random.Generator) -> list[Part]:
    v, top, bottom = patient.vertebrae, patient.find_height("C1", 170), patient.find_height("S1", -180)
    arms = ("raised", "raised") if rng.random() < 0.85 else ("down", "down")
    parts = make_body(patient.trunk, bottom, top, patient.find_height("S1", -140), rng.uniform(4, 22) * patient.trunk.girth)
    parts += make_thorax(v, patient.trunk, patient.breadth, rng)
    parts += make_airway(v, patient.trunk, rng)
    parts += make_abdomen(v, patient.trunk, patient.gas, patient.calcified, rng)
    parts += make_clutter(patient.trunk, patient.find_height("L4", 0), patient.find_height("C6", 0), 70, rng)
    parts.append(make_strands(patient.trunk, patient.find_height("L3", 0), patient.find_height("C6", 0), 40, rng))
    parts += make_folds(patient.trunk, patient.find_height("L3", 0), patient.find_height("T4", 0), rng)
    if rng.random() < 0.4:
        parts.append(make_breasts(v["T7"], patient.trunk, rng))
    parts.append(make_arms(v["T2"], arms, patient.trunk.girth))
    parts += make_head(v["C1"], v["C3"], patient.pose, patient.density, rng)
    parts += make_chest(list(v.values()), patient.density, patient.breadth, patient.calcified, rng)
    parts += make_sternum(v["T3"], v["T9"], patient.density, patient.breadth)
    return parts + make_shoulders(v["T2"], patient.density, patient.breadth, arms, rng)


def _make_loin(patient: _Patient, rng: np.random.Generator) -> list[Part]:
    v, top, bottom = patient.vertebrae, patient.find_height("T3", 0), patient.find_height("S1", -320)
    parts = make_body(patient.trunk, bottom, top, patient.find_height("S1", -140), rng.uniform(4, 28) * patient.trunk.girth)
    parts += make_thorax(v, patient.trunk, patient.breadth, rng)
    parts += make_abdomen(v, patient.trunk, patient.gas, patient.calcified, rng)
    parts += make_clutter(patient.trunk, patient.find_height("S1", -120), patient.find_height("T10", 0), 80, rng)
    parts.append(make_strands(patient.trunk, patient.find_height("S1", -60), patient.find_height("T10", 0), 46, rng))
    parts += make_folds(patient.trunk, patient.find_height("S1", -40), patient.find_height("T11", 0), rng)
    parts += make_chest(patient.shown, patient.density, patient.breadth, patient.calcified, rng)
    return parts + make_pelvis(v["S1"], patient.density, patient.size, rng)
