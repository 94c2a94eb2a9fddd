"""Pedicle screw systems as numbers: what a design is, the seven invented ones, an unseen one, and random ones.

Ranges are those of the systems on the market: screws of 4.5-8.5 mm by 30-60 mm, pitch 1.5-4 mm, rods of 5.5 and 6.0 mm in titanium alloy
or cobalt-chrome (ASTM F1717, F1798 and F2193 describe such constructs; F136, F1537 and F138 the alloys); of the small systems for the
cervical spine: screws of 3.5-4.5 mm by 10-30 mm, rods of 3.2-4.0 mm (ASTM F2706). The designs are invented and imitate no product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

ThreadForm = Literal["v", "buttress", "square"]
CoreProfile = Literal["cylindrical", "conical", "stepped"]
CrosslinkStyle = Literal["bar", "rod", "arch", "plate", "hinge", "cross"]

RANDOM = "design-random"
"""Name of what `draw_design` returns."""

CLEARANCE_MM = 0.15
"""Between the rod and each wall of the slot."""
_THINNEST_WALL_MM = 0.9

LIMITS: dict[str, tuple[float, float]] = {
    "thread_depth": (0.2, 2.0),
    "core_tip": (0.3, 1.0),
    "pitch": (1.0, 6.0),
    "leads": (1, 3),
    "tip": (1.0, 15.0),
    "neck": (0.0, 16.0),
    "set_screw": (-4.0, 6.0),
    "rod_diameter": (3.0, 8.0),
    "crosslink_size": (0.5, 1.5),
    "tulip.width": (6.0, 20.0),
    "tulip.length": (5.0, 18.0),
    "tulip.height": (7.0, 26.0),
    "tulip.exponent": (1.8, 6.0),
    "tulip.flare": (0.7, 1.5),
    "tulip.base_taper": (0.4, 1.1),
    "tulip.base": (2.0, 8.0),
    "tulip.groove": (0.0, 2.5),
    "tulip.tab": (0.0, 60.0),
}
"""What a design may be at all: lengths in mm, ratios without unit. Each field is refused by name outside its range."""

DRAWN: dict[str, tuple[float, float]] = {
    "thread_depth": (0.35, 1.3),
    "core_tip": (0.5, 1.0),
    "pitch": (1.5, 4.0),
    "tip": (2.0, 10.0),
    "neck": (0.5, 14.0),
    "set_screw": (-2.5, 4.5),
    "rod_diameter": (4.75, 6.35),
    "tulip.width": (10.0, 17.0),
    "tulip.length": (8.5, 14.5),
    "tulip.height": (11.5, 20.0),
    "tulip.tab": (0.0, 40.0),
}
"""What `draw_design` draws from."""

DRAWN_SMALL: dict[str, tuple[float, float]] = {
    "thread_depth": (0.3, 0.6),
    "core_tip": (0.65, 1.0),
    "pitch": (1.25, 2.0),
    "tip": (1.5, 4.0),
    "neck": (0.5, 3.0),
    "set_screw": (-1.0, 1.5),
    "rod_diameter": (3.2, 4.0),
    "tulip.width": (7.2, 10.0),
    "tulip.length": (6.5, 9.5),
    "tulip.height": (8.5, 12.5),
    "tulip.tab": (0.0, 20.0),
}
"""What ``draw_design(small=True)`` draws from."""


@dataclass(frozen=True, slots=True)
class Tulip:
    """The screw's head that holds the rod; lengths in mm.

    The slot is the rod's diameter and `CLEARANCE_MM` on each side wide; what the width leaves beside it is the walls.

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
    base
        From the bottom of the base to the bottom of the rod.
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
    base: float = 5.0
    groove: float = 0.0
    tab: float = 0.0


@dataclass(frozen=True, slots=True)
class ImplantDesign:
    """A screw system; lengths in mm.

    Attributes
    ----------
    thread
        Section of the thread.
    thread_depth
        Half the difference between outer and core diameter at the neck.
    core
        How the core changes along the screw: not at all, evenly, or in one step; the outer diameter stays.
    core_tip
        Core diameter at the tip relative to the neck: 1 is cylindrical.
    pitch
        Distance of neighbouring crests. One turn advances `leads` of them.
    leads
        Number of threads.
    tip
        Length over which core and thread run out.
    neck
        Length of the bare shaft under the head.
    set_screw
        How far the set screw stands out of the walls; negative is sunk.
    rod_bullet
        The rod's upper end is a nose for pushing it through muscle.
    crosslink
        Style of the crosslink, None where the system has none.
    cortical_leads
        Number of threads in the part that lies in the pedicle (the rear 40 %); None is as in the front. One turn advances all of the screw
        alike, so the pitch there is ``pitch * leads / cortical_leads``: see `pitches`.
    screw_material
        Material of screws, tulips and crosslinks.
    monoaxial
        The tulip is one with the screw; otherwise it turns on a ball.
    hooks
        The system is used with hooks in the thoracic spine.
    crosslink_size
        Size of the crosslink's section and clamps relative to that of the drawn styles.
    diameters
        Smallest and largest screw of the system.
    """

    name: str
    thread: ThreadForm
    thread_depth: float
    core: CoreProfile
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
    cortical_leads: int | None = None
    screw_material: str = "titanium"
    monoaxial: bool = False
    hooks: bool = False
    crosslink_size: float = 1.0
    diameters: tuple[float, float] = (4.5, 8.5)

    def __post_init__(self) -> None:
        for field, value, low, high in self._list_ranges():
            if not low <= value <= high:
                expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                raise InputError(f"{self.name}: {field} is {value:g}, expected {expected}", "Correct the design.")
        materials = ("titanium", "cobalt-chrome", "steel")
        for field in ("rod_material", "screw_material"):
            if getattr(self, field) not in materials:
                raise InputError(f"{self.name}: {field} is {getattr(self, field)!r}", f"Use one of {', '.join(materials)}.")

    def _list_ranges(self) -> Iterator[tuple[str, float, float, float]]:
        tulip = self.tulip
        for field, (low, high) in LIMITS.items():
            yield field, getattr(tulip, field[6:]) if field.startswith("tulip.") else getattr(self, field), low, high
        if self.core == "cylindrical":
            yield "core_tip", self.core_tip, 1.0, 1.0
        if self.cortical_leads is not None:
            yield "cortical_leads", self.cortical_leads, self.leads + 1, 6
            yield "cortical pitch", self.pitches[-1], *LIMITS["pitch"]
        slot = self.rod_diameter + 2 * CLEARANCE_MM
        yield "tulip.width", tulip.width * min(1.0, tulip.flare), slot + 2 * _THINNEST_WALL_MM, LIMITS["tulip.width"][1]
        yield "tulip.height", tulip.height, tulip.base + self.rod_diameter, LIMITS["tulip.height"][1]
        yield "diameters[0]", self.diameters[0], 3.0, self.diameters[1]
        yield "diameters[1]", self.diameters[1], self.diameters[0], 10.0
        # A thread no deeper than the thinnest screw allows: its core keeps at least 1 mm.
        yield "thread_depth", self.thread_depth, LIMITS["thread_depth"][0], (self.diameters[0] - 1.0) / 2

    @property
    def pitches(self) -> tuple[float, ...]:
        """Distances of neighbouring crests, mm: one, or that of the front and that of the pedicle's part."""
        return (self.pitch,) if self.cortical_leads is None else (self.pitch, self.pitch * self.leads / self.cortical_leads)

    @property
    def ball_below_rod(self) -> float:
        """From the bottom of the rod to the centre of the screw's ball, mm."""
        return 0.6 * self.tulip.base


_KNOWN = (
    ImplantDesign(
        name="design-a", thread="v", thread_depth=0.9, core="cylindrical", core_tip=1.0, pitch=2.75, leads=1, tip=5.0, neck=2.0,
        tulip=Tulip(width=12.5, length=11.0, height=15.0, exponent=2.0, base_taper=0.7),
        set_screw=0.0, rod_diameter=5.5, rod_material="titanium", rod_bullet=False, crosslink="bar",
    ),
    ImplantDesign(
        name="design-b", thread="buttress", thread_depth=1.2, core="conical", core_tip=0.55, pitch=2.0, leads=2, tip=8.0, neck=1.0,
        tulip=Tulip(width=10.5, length=10.5, height=18.5, exponent=4.5, base_taper=0.9),
        set_screw=-1.0, rod_diameter=6.0, rod_material="titanium", rod_bullet=False, crosslink="rod",
    ),
    ImplantDesign(
        name="design-c", thread="square", thread_depth=1.0, core="stepped", core_tip=0.8, pitch=3.8, leads=1, tip=3.0, neck=3.0,
        tulip=Tulip(width=16.5, length=13.5, height=12.5, exponent=3.5, flare=0.9, base_taper=0.95),
        set_screw=2.5, rod_diameter=6.0, rod_material="cobalt-chrome", rod_bullet=False, crosslink="plate",
    ),
    ImplantDesign(
        name="design-d", thread="v", thread_depth=0.7, core="conical", core_tip=0.65, pitch=1.8, leads=1, tip=10.0, neck=4.0,
        tulip=Tulip(width=12.0, length=9.0, height=16.5, exponent=2.2, flare=1.35, base_taper=0.65),
        set_screw=-1.5, rod_diameter=5.5, rod_material="cobalt-chrome", rod_bullet=False, crosslink="cross",
    ),
    ImplantDesign(
        name="design-e", thread="v", thread_depth=1.0, core="conical", core_tip=0.8, pitch=3.1, leads=2, tip=6.0, neck=1.5,
        tulip=Tulip(width=13.5, length=12.5, height=16.0, exponent=2.5, base_taper=0.6, groove=1.8),
        set_screw=1.0, rod_diameter=5.5, rod_material="titanium", rod_bullet=False, crosslink="arch", cortical_leads=4,
    ),
    ImplantDesign(
        name="design-f", thread="v", thread_depth=0.9, core="conical", core_tip=0.9, pitch=2.5, leads=2, tip=7.0, neck=2.0,
        tulip=Tulip(width=11.5, length=11.0, height=15.0, exponent=2.0, base_taper=0.7, tab=11.0),
        set_screw=0.0, rod_diameter=5.5, rod_material="titanium", rod_bullet=True, crosslink=None,
    ),
    ImplantDesign(
        name="design-g", thread="buttress", thread_depth=1.1, core="cylindrical", core_tip=1.0, pitch=3.4, leads=1, tip=2.5, neck=5.5,
        tulip=Tulip(width=14.5, length=9.5, height=14.0, exponent=5.0, flare=0.78, base_taper=0.8),
        set_screw=4.0, rod_diameter=6.0, rod_material="titanium", rod_bullet=False, crosslink="hinge",
    ),
)  # fmt: skip
DESIGNS: dict[str, ImplantDesign] = {design.name: design for design in _KNOWN}
"""What training knows."""

UNSEEN: dict[str, ImplantDesign] = {
    "design-x": ImplantDesign(
        name="design-x", thread="square", thread_depth=0.6, core="stepped", core_tip=0.6, pitch=3.0, leads=1, tip=4.0, neck=9.0,
        tulip=Tulip(width=11.0, length=14.5, height=21.0, exponent=3.0, flare=0.85, base_taper=1.0, base=7.5),
        set_screw=-3.0, rod_diameter=4.75, rod_material="cobalt-chrome", rod_bullet=True, crosslink="bar", cortical_leads=2,
        monoaxial=True, crosslink_size=0.7,
    )
}  # fmt: skip
"""What training never sees."""

# Share, then what is special: small heads that are one with the screw, large heads, long reduction tabs, fine threads on a smooth shank.
_KINDS: dict[str, tuple[float, dict[str, tuple[float, float]]]] = {
    "polyaxial": (0.46, {}),
    "monoaxial": (0.14, {"tulip.width": (10.0, 12.0), "tulip.length": (8.5, 10.5), "tulip.height": (11.5, 14.5)}),
    "large": (0.1, {"tulip.width": (14.0, 17.0), "tulip.length": (11.5, 14.5), "tulip.height": (15.0, 20.0)}),
    "broad": (0.08, {"tulip.width": (14.0, 17.0), "tulip.length": (12.5, 14.5), "tulip.height": (11.5, 13.0)}),
    "tabs": (0.12, {"tulip.width": (10.5, 14.0), "tulip.tab": (8.0, 40.0)}),
    "cortical": (0.1, {"pitch": (1.5, 2.2), "thread_depth": (0.35, 0.6), "neck": (5.0, 14.0)}),
}
_RODS = ((4.75, 5.0, 5.5, 6.0, 6.35), (0.06, 0.06, 0.52, 0.26, 0.1))
_SMALL_RODS = ((3.2, 3.3, 3.5, 4.0), (0.15, 0.15, 0.5, 0.2))


def draw_design(rng: np.random.Generator, *, small: bool = False) -> ImplantDesign:
    """Return a random system named `RANDOM`, for teaching a detector what all of them have in common.

    Parameters
    ----------
    small
        A system for the cervical spine: 3.5-4.5 mm screws, 3.2-4.0 mm rods.

    Returns
    -------
    ImplantDesign
        Within `DRAWN` or `DRAWN_SMALL`; titanium, cobalt-chrome or steel.
    """
    ranges = dict(DRAWN_SMALL if small else DRAWN)
    kind = str(rng.choice(list(_KINDS), p=[share for share, _ in _KINDS.values()]))
    if not small:
        ranges |= _KINDS[kind][1]
    drawn = {field: float(rng.uniform(*limits)) for field, limits in ranges.items()}
    rods, shares = _SMALL_RODS if small else _RODS
    rod = float(rng.choice(rods, p=shares))
    rod_material = str(rng.choice(["titanium", "cobalt-chrome", "steel"], p=[0.62, 0.26, 0.12]))
    core: CoreProfile = ("cylindrical", "conical", "stepped")[int(rng.choice(3, p=[0.35, 0.45, 0.2]))]
    leads = int(rng.choice([1, 2], p=[0.6, 0.4]))
    has_tabs = kind == "tabs"
    # Most necks are short.
    neck = drawn["neck"] if kind == "cortical" else ranges["neck"][0] + (drawn["neck"] - ranges["neck"][0]) * rng.uniform(0, 1) ** 2
    base = rng.uniform(2.6, 3.6) if small else rng.uniform(4.0, 6.5)
    wall = rod + 2 * CLEARANCE_MM + 2 * _THINNEST_WALL_MM
    width = max(drawn["tulip.width"], wall)
    tulip = Tulip(
        width=width,
        length=drawn["tulip.length"],
        height=max(drawn["tulip.height"], base + rod + 1.0),
        exponent=float(rng.choice([2.0, rng.uniform(2.0, 5.0)])),
        flare=1.0 if rng.random() < 0.5 else rng.uniform(max(0.8, wall / width), 1.3),
        base_taper=rng.uniform(0.6, 1.0),
        base=base,
        groove=rng.uniform(0.5, 2.0) if rng.random() < 0.25 and not small else 0.0,
        tab=drawn["tulip.tab"] if has_tabs else 0.0,
    )
    styles: tuple[CrosslinkStyle, ...] = ("bar", "rod", "arch", "plate", "hinge", "cross")
    bridge = None if has_tabs or rng.random() < 0.08 else styles[int(rng.integers(len(styles)))]
    return ImplantDesign(
        name=RANDOM,
        thread=("v", "buttress", "square")[int(rng.choice(3, p=[0.5, 0.3, 0.2]))],
        thread_depth=drawn["thread_depth"],
        core=core,
        core_tip=1.0 if core == "cylindrical" else drawn["core_tip"],
        pitch=drawn["pitch"],
        leads=leads,
        tip=drawn["tip"],
        neck=neck,
        tulip=tulip,
        set_screw=drawn["set_screw"] if rng.random() < 0.6 else 0.0,
        rod_diameter=rod,
        rod_material=rod_material,
        rod_bullet=has_tabs or rng.random() < 0.1,
        crosslink=bridge,
        cortical_leads=2 * leads if drawn["pitch"] > 2.6 and rng.random() < 0.5 else None,
        screw_material="steel" if rod_material == "steel" else "titanium",
        monoaxial=kind == "monoaxial",
        hooks=not small and rng.random() < 0.2,
        crosslink_size=rng.uniform(0.55, 0.8) if small else rng.uniform(0.75, 1.3),
        diameters=(3.5, 4.5) if small else (4.5, 8.5),
    )
