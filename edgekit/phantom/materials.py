"""What things are made of, and how strongly that attenuates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgekit.phantom.mesh import Mesh

# Density in g/cm³ and mass fractions of the elements: ICRU Report 44 (soft tissue, cortical bone), ASTM F136 (Ti-6Al-4V), ASTM F1537
# (Co-28Cr-6Mo).
MATERIALS: dict[str, tuple[float, dict[str, float]]] = {
    "soft": (1.06, {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003, "Cl": 0.002, "K": 0.003}),
    "bone": (1.92, {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225}),
    "titanium": (4.43, {"Ti": 0.90, "Al": 0.06, "V": 0.04}),
    "cobalt-chrome": (8.3, {"Co": 0.66, "Cr": 0.28, "Mo": 0.06}),
}
METALS = ("titanium", "cobalt-chrome")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A mesh made of something.

    Attributes
    ----------
    material
        A name in `MATERIALS`. Soft tissue fills the body; every other material takes its place.
    weight
        Density relative to the material's own; negative takes away (the inside of a shell, gas in soft tissue).
    """

    mesh: Mesh
    material: str
    weight: float = 1.0


@cache
def compute_attenuation(material: str, energies_kev: tuple[float, ...]) -> tuple[float, ...]:
    """Return the linear attenuation coefficient of `material` at each energy, 1/mm.

    Total cross-sections of Elam, Ravel and Sieber (Radiat. Phys. Chem. 2002;63:121), as xraydb tabulates them.
    """
    import xraydb

    density, fractions = MATERIALS[material]
    electronvolts = np.asarray(energies_kev) * 1e3
    per_gram = sum(fraction * xraydb.mu_elam(element, electronvolts) for element, fraction in fractions.items())
    return tuple(float(value) for value in np.asarray(per_gram) * density / 10)
