"""What holds a rod to a vertebra, as meshes: screw, tulip with set screw, hook.

A screw lies along z with its ball's centre at the origin and its tip at negative z. A tulip lies along z with the rod's centre at the
origin, the rod along y and its opening towards positive z; a hook likewise.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.phantom.geometry.mesh import Mesh, loft, make_outline, make_tube, merge, revolve, stack_rings
from edgekit.phantom.metal.implants import CLEARANCE_MM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.metal.implants import CoreProfile, ImplantDesign, ThreadForm

AXIAL_STEP_MM = 0.3
ANGULAR_STEPS = 16
CORTICAL_SHARE = 0.4
"""Share of a screw, from its head, that has the pedicle's thread in a dual-pitch design."""


def _thread_height(form: ThreadForm, phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the thread's height above the core, 0 to 1, at `phase` (turns, 0 at the root)."""
    turn = phase % 1.0
    if form == "v":
        return np.clip(1 - np.abs(turn - 0.5) / 0.32, 0, 1)
    if form == "buttress":
        return np.where(turn < 0.75, np.clip((turn - 0.2) / 0.5, 0, 1), np.clip((0.87 - turn) / 0.12, 0, 1))
    return np.clip((0.26 - np.abs(turn - 0.5)) / 0.06, 0, 1)


def _narrow(profile: CoreProfile, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the core has gone from its size at the neck (0) to that at the tip (1), at `share` of the screw's length."""
    return np.clip((share - 0.5) / 0.06, 0, 1) if profile == "stepped" else share


@lru_cache(maxsize=128)
def make_screw(design: ImplantDesign, diameter: float, length: float) -> Mesh:
    """Return the screw below its ball.

    Parameters
    ----------
    diameter
        Outer diameter of the thread, mm (3.5-8.5).
    length
        From under the tulip to the tip, mm (10-100).

    Returns
    -------
    Mesh
        A surface of revolution whose radius carries the helix: core(z) + depth(z) · form(leads · (z/lead - θ/2π)), with lead the advance
        in one turn, so that the thread looks right from any angle.

    Raises
    ------
    InputError
        No such screw exists.
    """
    if not 3.0 <= diameter <= 10.0 or not 8.0 <= length <= 110.0:
        raise InputError(f"a screw of {diameter:g} x {length:g} mm is out of range", "Diameters are 3.5 to 8.5 mm, lengths 10 to 100 mm.")
    down = np.linspace(0.0, length, round(length / AXIAL_STEP_MM) + 1)
    neck, tip = min(design.neck, 0.4 * length), min(design.tip, 0.3 * length)
    run_out = np.sqrt(np.clip((length - down) / tip, 0, 1))
    root = (diameter / 2 - design.thread_depth) * (1 - (1 - design.core_tip) * _narrow(design.core, down / length))
    # The thread starts below the neck over two millimetres and runs out at the tip; where the core narrows, the outer diameter stays.
    depth = (diameter / 2 - root) * np.minimum(np.clip((down - neck) / 2.0, 0, 1), run_out)
    turns = -down[:, None] / (design.pitch * design.leads) - np.arange(ANGULAR_STEPS) / ANGULAR_STEPS
    height = _thread_height(design.thread, turns * design.leads)
    if design.cortical_leads is not None:
        rear = (down <= CORTICAL_SHARE * length)[:, None]
        height = np.where(rear, _thread_height(design.thread, turns * design.cortical_leads), height)
    radii = np.maximum((root * run_out)[:, None] + depth[:, None] * height, 0.02)
    return revolve(radii, design.ball_below_rod - design.tulip.base - down, ANGULAR_STEPS)


@lru_cache(maxsize=16)
def make_tulip(design: ImplantDesign) -> Mesh:
    """Return the tulip with its set screw: a base with a socket, two walls about a U-shaped slot, tabs where the design has them."""
    rod = design.rod_diameter / 2
    bottom = -rod - design.tulip.base
    top = bottom + design.tulip.height
    wall = _make_wall(design, top)
    mirror = np.diag([-1.0, 1.0, 1.0])
    return merge([_make_base(design, bottom), wall, wall.moved(mirror, np.zeros(3)), _make_set_screw(design, rod, top)])


def _make_base(design: ImplantDesign, bottom: float) -> Mesh:
    """Return what lies below the rod, the ball with its socket for the screwdriver included."""
    tulip, slot = design.tulip, -design.rod_diameter / 2
    outline = make_outline(tulip.width / 2, tulip.length / 2, tulip.exponent, 32)
    scale = np.array([tulip.base_taper, (1 + tulip.base_taper) / 2, 1.0, 1.0])
    level = np.array([bottom, bottom + 0.24 * tulip.base, bottom + 0.6 * tulip.base, slot])
    socket = make_outline(0.3 * design.rod_diameter, 0.3 * design.rod_diameter, 2.0, 32)
    outlines = np.concatenate([scale[:, None, None] * outline, [socket, socket]])
    return loft(stack_rings(outlines, np.concatenate([level, [slot, slot - 0.5 * tulip.base]])))


def _find_bore(design: ImplantDesign) -> float:
    """Return the radius of the set screw's thread, mm: wider than the slot as far as the walls allow."""
    narrowest = design.tulip.width / 2 * min(1.0, design.tulip.flare)
    return max(design.rod_diameter / 2 + CLEARANCE_MM, min(0.75 * design.rod_diameter, narrowest - 1.2))


def _make_wall(design: ImplantDesign, top: float) -> Mesh:
    """Return the wall at positive x, with its tab."""
    tulip, rod = design.tulip, design.rod_diameter / 2
    slot = -rod
    levels = np.concatenate([slot + rod * np.array([0.0, 0.12, 0.35, 0.65, 1.0]), [0.92 * rod], np.linspace(rod, top, 7)])
    scale = 1 + (tulip.flare - 1) * (levels - slot) / (top - slot)
    middle = slot + 0.62 * (top - slot)
    outer = scale * tulip.width / 2
    outer = np.maximum(outer - tulip.groove * np.clip(1.6 - np.abs(levels - middle) / 1.2, 0, 1), rod + CLEARANCE_MM + 0.6)
    inner = np.where(levels < 0, np.sqrt(np.maximum(rod**2 - levels**2, 0)), rod) + CLEARANCE_MM
    bore = np.where(levels >= rod, _find_bore(design), 0.0)
    if tulip.tab:
        levels = np.concatenate([levels, [top + 0.3, top + 0.5 * tulip.tab, top + tulip.tab]])
        scale = np.concatenate([scale, [scale[-1]] * 3])
        inner = np.concatenate([inner, [max(outer[-1] - 1.6, inner[-1])] * 3])
        outer = np.concatenate([outer, [outer[-1] - 0.2] * 3])
        bore = np.concatenate([bore, [bore[-1]] * 3])
    # Each ring is the part of the superellipse outside the slot; back along the slot, where the set screw's bore bulges into the wall.
    limit = np.arccos((np.minimum(inner, 0.95 * outer) / outer) ** (tulip.exponent / 2))
    angle = limit[:, None] * np.linspace(-1, 1, 16)
    x = outer[:, None] * np.cos(angle) ** (2 / tulip.exponent)
    y = scale[:, None] * tulip.length / 2 * np.sign(angle) * np.abs(np.sin(angle)) ** (2 / tulip.exponent)
    back = y[:, -1:] * np.linspace(1, -1, 9)[1:-1]
    inside = np.maximum(inner[:, None], np.sqrt(np.maximum(bore[:, None] ** 2 - back**2, 0)))
    # Never through the wall: at least half a millimetre stays.
    shell = outer[:, None] * np.maximum(1 - np.abs(back / (scale[:, None] * tulip.length / 2)) ** tulip.exponent, 0) ** (1 / tulip.exponent)
    inside = np.minimum(inside, np.maximum(shell - 0.5, np.minimum(inner, 0.95 * outer)[:, None]))
    return loft(stack_rings(np.stack([np.concatenate([x, inside], axis=1), np.concatenate([y, back], axis=1)], axis=-1), levels))


def _make_set_screw(design: ImplantDesign, rod: float, top: float) -> Mesh:
    """Return the plug above the rod with its socket: a profile that goes up outside and down again inside."""
    end = max(top + design.set_screw, rod + 2.0)
    radius = _find_bore(design) - 0.05
    socket, depth = 0.45 * radius, max(rod + 0.8, end - 3.5)
    radii = np.array([radius - 0.6, radius, radius, radius - 0.5, socket, socket])
    return revolve(radii, np.array([rod + 0.1, rod + 0.5, end - 0.4, end, end, depth]), 14)


@lru_cache(maxsize=16)
def make_hook(design: ImplantDesign) -> Mesh:
    """Return a hook for a lamina or the root of a pedicle: a tulip's shank with a blade that bends towards positive y under the bone."""
    under = -design.rod_diameter / 2 - design.tulip.base
    blade = np.array(
        [[0, -3.5, under + 0.5], [0, -3.4, under - 3.5], [0, -1.5, under - 7], [0, 3, under - 8.5], [0, 8, under - 8], [0, 12, under - 6]]
    )
    return make_tube(blade, np.array([3.4, 3.4, 3.4, 3.3, 3.0, 2.0]), 12, 0.36)
