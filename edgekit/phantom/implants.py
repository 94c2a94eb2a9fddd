"""Pedicle screw systems as numbers: what a design is, and the seven invented ones.

Ranges are those of the systems on the market: screws of 4.5-8.5 mm by 30-60 mm, pitch 1.5-4 mm, rods of 5.5 and 6.0 mm in titanium alloy
or cobalt-chrome (ASTM F1717, F1798, F2193 describe such constructs). The designs themselves are invented and imitate no product.

A screw lies along z with its head's centre at the origin and its tip at negative z. A tulip lies along z with the rod's centre at the
origin, the rod along y and its opening towards positive z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgekit.errors import InputError
from edgekit.phantom.mesh import Mesh, loft, make_outline, merge, revolve, stack_rings

if TYPE_CHECKING:
    from numpy.typing import NDArray

ThreadForm = Literal["v", "buttress", "square"]
CrosslinkStyle = Literal["bar", "rod", "arch", "plate", "hinge", "cross"]

AXIAL_STEP_MM = 0.3
ANGULAR_STEPS = 16


@dataclass(frozen=True, slots=True)
class Tulip:
    """The screw's head that holds the rod; lengths in mm.

    Attributes
    ----------
    width, length
        Outer size across the rod and along it.
    height
        From the bottom of the base to the top of the walls, without tabs.
    exponent
        Shape of the outline seen from above: 2 is round, 5 nearly square.
    flare
        Outline at the top relative to the bottom.
    base_taper
        Outline of the base's lower end relative to its upper end.
    groove
        Depth of the instrument's groove half-way up the walls; 0 for none.
    tab
        Height of the reduction tabs above the walls; 0 for none.
    """

    width: float
    length: float
    height: float
    exponent: float = 2.0
    flare: float = 1.0
    base_taper: float = 0.75
    groove: float = 0.0
    tab: float = 0.0


@dataclass(frozen=True, slots=True)
class ImplantDesign:
    """A screw system; lengths in mm.

    Attributes
    ----------
    thread_depth
        Half the difference between outer and core diameter at the neck.
    core_tip
        Core diameter at the tip relative to the neck: 1 is cylindrical.
    pitch
        Distance of neighbouring crests. One turn advances `leads` of them.
    tip
        Length over which core and thread run out.
    neck
        Length of the bare shaft under the head.
    set_screw
        How far the set screw stands out of the walls; negative is sunk.
    crosslink
        Style of the crosslink, None where the system has none.
    """

    name: str
    thread: ThreadForm
    thread_depth: float
    core_tip: float
    pitch: float
    leads: int
    tip: float
    neck: float
    tulip: Tulip
    set_screw: float
    rod_diameter: float
    rod_material: str
    rod_bullet: bool
    crosslink: CrosslinkStyle | None

    def __post_init__(self) -> None:
        ranges = {"rod_diameter": (3.0, 8.0), "pitch": (1.0, 6.0), "core_tip": (0.3, 1.0), "thread_depth": (0.2, 2.0), "leads": (1, 3)}
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            if not low <= value <= high:
                raise InputError(f"{self.name}: {field} is {value}, expected {low} to {high}", "Correct the design.")


DESIGNS: dict[str, ImplantDesign] = {
    design.name: design
    for design in (
        ImplantDesign(
            name="design-a", thread="v", thread_depth=0.9, core_tip=1.0, pitch=2.75, leads=1, tip=5.0, neck=2.0,
            tulip=Tulip(width=12.5, length=11.0, height=15.0, exponent=2.0, base_taper=0.7),
            set_screw=0.0, rod_diameter=5.5, rod_material="titanium", rod_bullet=False, crosslink="bar",
        ),
        ImplantDesign(
            name="design-b", thread="buttress", thread_depth=1.2, core_tip=0.55, pitch=2.0, leads=2, tip=8.0, neck=1.0,
            tulip=Tulip(width=10.5, length=10.5, height=18.5, exponent=4.5, base_taper=0.9),
            set_screw=-1.0, rod_diameter=6.0, rod_material="titanium", rod_bullet=False, crosslink="rod",
        ),
        ImplantDesign(
            name="design-c", thread="square", thread_depth=1.0, core_tip=0.9, pitch=3.8, leads=1, tip=3.0, neck=3.0,
            tulip=Tulip(width=16.5, length=13.5, height=12.5, exponent=3.5, flare=0.9, base_taper=0.95),
            set_screw=2.5, rod_diameter=6.0, rod_material="cobalt-chrome", rod_bullet=False, crosslink="plate",
        ),
        ImplantDesign(
            name="design-d", thread="v", thread_depth=0.7, core_tip=0.65, pitch=1.8, leads=1, tip=10.0, neck=4.0,
            tulip=Tulip(width=12.0, length=9.0, height=16.5, exponent=2.2, flare=1.35, base_taper=0.65, groove=0.0),
            set_screw=-1.5, rod_diameter=5.5, rod_material="cobalt-chrome", rod_bullet=False, crosslink="cross",
        ),
        ImplantDesign(
            name="design-e", thread="v", thread_depth=1.0, core_tip=0.8, pitch=3.1, leads=2, tip=6.0, neck=1.5,
            tulip=Tulip(width=13.5, length=12.5, height=16.0, exponent=2.5, base_taper=0.6, groove=1.8),
            set_screw=1.0, rod_diameter=5.5, rod_material="titanium", rod_bullet=False, crosslink="arch",
        ),
        ImplantDesign(
            name="design-f", thread="v", thread_depth=0.9, core_tip=0.9, pitch=2.5, leads=2, tip=7.0, neck=2.0,
            tulip=Tulip(width=11.5, length=11.0, height=15.0, exponent=2.0, base_taper=0.7, tab=11.0),
            set_screw=0.0, rod_diameter=5.5, rod_material="titanium", rod_bullet=True, crosslink=None,
        ),
        ImplantDesign(
            name="design-g", thread="buttress", thread_depth=1.1, core_tip=1.0, pitch=3.4, leads=1, tip=2.5, neck=5.5,
            tulip=Tulip(width=14.5, length=9.5, height=14.0, exponent=5.0, flare=0.78, base_taper=0.8),
            set_screw=4.0, rod_diameter=6.0, rod_material="titanium", rod_bullet=False, crosslink="hinge",
        ),
    )
}  # fmt: skip

BALL_BELOW_ROD_MM = 3.0
"""From the bottom of the rod to the centre of the screw's ball."""
BASE_MM = 5.0
"""From the bottom of the rod to the bottom of the tulip's base."""


def _thread_height(form: ThreadForm, phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the thread's height above the core, 0 to 1, at `phase` (turns, 0 at the root)."""
    turn = phase % 1.0
    if form == "v":
        return np.clip(1 - np.abs(turn - 0.5) / 0.32, 0, 1)
    if form == "buttress":
        return np.where(turn < 0.75, np.clip((turn - 0.2) / 0.5, 0, 1), np.clip((0.87 - turn) / 0.12, 0, 1))
    return np.clip((0.26 - np.abs(turn - 0.5)) / 0.06, 0, 1)


def make_screw(design: ImplantDesign, diameter: float, length: float) -> Mesh:
    """Return the screw below its ball.

    Parameters
    ----------
    diameter
        Outer diameter of the thread, mm (4.5-8.5).
    length
        From under the tulip to the tip, mm (30-60).

    Returns
    -------
    Mesh
        A surface of revolution whose radius carries the helix: core(z) + depth(z) · form(z/pitch - leads·θ/2π), so that the thread looks
        right from any angle.
    """
    if not 3.0 <= diameter <= 10.0 or not 15.0 <= length <= 100.0:
        raise InputError(f"a screw of {diameter} x {length} mm is out of range", "Diameters are 4.5 to 8.5 mm, lengths 30 to 60 mm.")
    down = np.linspace(0.0, length, round(length / AXIAL_STEP_MM) + 1)
    core_radius = diameter / 2 - design.thread_depth
    run_out = np.clip((length - down) / design.tip, 0, 1)
    core = core_radius * (1 - (1 - design.core_tip) * down / length) * np.sqrt(run_out)
    # The thread starts below the neck over two millimetres and runs out at the tip; a conical core keeps its outer diameter.
    depth = (diameter / 2 - core_radius * (1 - (1 - design.core_tip) * down / length)) * np.minimum(
        np.clip((down - design.neck) / 2.0, 0, 1), np.sqrt(run_out)
    )
    angle = np.arange(ANGULAR_STEPS) / ANGULAR_STEPS
    phase = -down[:, None] / design.pitch - design.leads * angle
    radii = np.maximum(core[:, None] + depth[:, None] * _thread_height(design.thread, phase), 0.02)
    top = BASE_MM - BALL_BELOW_ROD_MM
    return revolve(radii, -top - down, ANGULAR_STEPS)


def make_tulip(design: ImplantDesign) -> Mesh:
    """Return the tulip with its set screw: a base, two walls about a U-shaped slot, tabs where the design has them."""
    tulip = design.tulip
    rod = design.rod_diameter / 2
    bottom, slot, top = -rod - BASE_MM, -rod, -rod - BASE_MM + tulip.height
    scales = np.array([tulip.base_taper, (1 + tulip.base_taper) / 2, 1.0, 1.0])
    outline = make_outline(tulip.width / 2, tulip.length / 2, tulip.exponent, 32)
    base = loft(stack_rings(scales[:, None, None] * outline, np.array([bottom, bottom + 1.2, bottom + 3.0, slot])))
    walls = _make_wall(design, rod, slot, top)
    mirror = np.diag([-1.0, 1.0, 1.0])
    return merge([base, walls, walls.moved(mirror, np.zeros(3)), _make_set_screw(design, rod, top)])


def _make_wall(design: ImplantDesign, rod: float, slot: float, top: float) -> Mesh:
    """Return the wall at positive x, with its tab."""
    tulip = design.tulip
    levels = np.concatenate([slot + rod * np.array([0.0, 0.12, 0.35, 0.65, 1.0]), np.linspace(0.0, top, 9)[1:]])
    inner = np.where(levels < 0, np.sqrt(np.maximum(rod**2 - levels**2, 0)), rod) + 0.15
    scale = 1 + (tulip.flare - 1) * (levels - slot) / (top - slot)
    middle = slot + 0.62 * (top - slot)
    outer = scale * tulip.width / 2 - tulip.groove * np.clip(1.6 - np.abs(levels - middle) / 1.2, 0, 1)
    if tulip.tab:
        levels = np.concatenate([levels, [top + 0.3, top + 0.5 * tulip.tab, top + tulip.tab]])
        scale = np.concatenate([scale, [scale[-1]] * 3])
        outer = np.concatenate([outer, [outer[-1] - 0.2] * 3])
        inner = np.concatenate([inner, [outer[-1] - 1.6] * 3])
    # Each ring is the part of the superellipse outside the slot; the chord along the slot closes it.
    limit = np.arccos((np.minimum(inner, 0.95 * outer) / outer) ** (tulip.exponent / 2))
    angle = limit[:, None] * np.linspace(-1, 1, 16)
    x = outer[:, None] * np.cos(angle) ** (2 / tulip.exponent)
    y = scale[:, None] * tulip.length / 2 * np.sign(angle) * np.abs(np.sin(angle)) ** (2 / tulip.exponent)
    return loft(stack_rings(np.stack([x, y], axis=-1), levels))


def _make_set_screw(design: ImplantDesign, rod: float, top: float) -> Mesh:
    """Return the plug above the rod with its hexagonal socket: a profile that goes up outside and down again inside."""
    end = top + design.set_screw
    radius = rod + 0.1
    return revolve(
        np.array([radius, radius, radius - 0.5, 1.7, 1.7]), np.array([rod + 0.1, end - 0.5, end, end, max(rod + 0.6, end - 3.0)]), 12
    )
