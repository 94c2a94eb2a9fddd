"""What things are made of, and how strongly that attenuates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgekit.phantom.geometry.mesh import Mesh

# Density in g/cm³ and mass fractions of the elements: ICRU Report 44 (soft tissue, cortical bone), ASTM F136 (Ti-6Al-4V), ASTM F1537
# (Co-28Cr-6Mo), ASTM F138 (316L steel), ASTM F2026 (PEEK); barium sulphate in water at about 20 % by mass; hydroxyapatite for enamel.
MATERIALS: dict[str, tuple[float, dict[str, float]]] = {
    "soft": (1.06, {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003, "Cl": 0.002, "K": 0.003}),
    "bone": (1.92, {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225}),
    "titanium": (4.43, {"Ti": 0.90, "Al": 0.06, "V": 0.04}),
    "cobalt-chrome": (8.3, {"Co": 0.66, "Cr": 0.28, "Mo": 0.06}),
    "steel": (7.95, {"Fe": 0.66, "Cr": 0.18, "Ni": 0.135, "Mo": 0.025}),
    "lead": (11.3, {"Pb": 1.0}),
    "peek": (1.3, {"C": 0.79, "H": 0.04, "O": 0.17}),
    "contrast": (1.2, {"H": 0.09, "O": 0.76, "Ba": 0.12, "S": 0.03}),
    "enamel": (2.9, {"Ca": 0.38, "P": 0.18, "O": 0.42, "H": 0.02}),
    "silicone": (1.15, {"Si": 0.38, "C": 0.32, "O": 0.22, "H": 0.08}),
}
METALS = ("titanium", "cobalt-chrome", "steel", "lead")
"""Traced at twice the film's resolution: their edges are what a film is about."""


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
