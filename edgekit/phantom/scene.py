"""One simulated patient: anatomy, perhaps a construct, perhaps other metal, and the two films of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgekit.errors import InputError
from edgekit.phantom.body.anatomy import LEVELS, Anatomy, make_anatomy
from edgekit.phantom.film import Facts, SimulatedFilm, choose_side, draw_look, make_film
from edgekit.phantom.imaging.beam import add_metal, cast_shadow
from edgekit.phantom.imaging.framing import find_visible
from edgekit.phantom.metal.construct import make_construct
from edgekit.phantom.metal.hardware import SPINAL, list_kinds, make_hardware
from edgekit.phantom.metal.implants import DESIGNS, RANDOM, UNSEEN, draw_design
from edgekit.phantom.metal.placing import find_spanned
from edgekit.phantom.positioning import find_levels, place_camera
from edgekit.phantom.sites import check_size, find_site
from edgekit.studies import NO_CONSTRUCT
from edgekit.task import PEDICLE_SCREWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.phantom.body.anatomy import Region, Vertebra
    from edgekit.phantom.geometry.projector import Camera
    from edgekit.phantom.imaging.framing import Framing
    from edgekit.phantom.materials import Part
    from edgekit.phantom.sites import Site
    from edgekit.task import View

Metal = Literal["none", "chance", "some"]

_FIELDS: dict[Region, tuple[str, str]] = {"cervical": ("C1", "T2"), "thoracic": ("T1", "L1"), "lumbar": ("T10", "S1")}
"""First and last vertebra that is operated on in a region."""
_PATTERNS = ("bilateral", "skipped", "left", "right")
_LOWEST = (0.35, 0.35, 0.12, 0.10, 0.08)
"""Lumbar constructs most often end at S1 or L5."""
_SPINAL_SHARE = 0.6
"""Patients who must have other metal in whom it is fixed to vertebrae, at a site that has such kinds."""
_UPPER_NECK = 0.2
"""Cervical constructs that begin at the atlas."""


@dataclass(frozen=True, slots=True, eq=False)
class _Patient:
    """What lies in the beam."""

    anatomy: Anatomy
    vertebrae: list[Vertebra]
    construct: list[Part]
    metal: list[Part]
    foreign: list[Part]
    """What of the metal is no contrast medium in bowel, urine or sac."""


def simulate_patient(
    brand: str, seed: int, *, size: int | None, has_crosslink: bool | None, site: str = "a", metal: Metal = "chance"
) -> dict[View, SimulatedFilm]:
    """Make the two films of one patient.

    Parameters
    ----------
    brand
        A design of `edgekit.phantom.metal.implants` or ``"none"`` for a spine without construct.
    seed
        Everything random follows from it.
    size
        Long side of the films, pixels (64 to 4000); None leaves it to the site.
    has_crosslink
        Whether the construct has a crosslink; None leaves it to chance.
    site
        A name in `edgekit.phantom.sites.SITES`.
    metal
        Metal other than a construct: ``none``, by ``chance`` as at the site, or at least one piece (``some``).

    Returns
    -------
    dict
        A film for each of ``ap`` and ``lateral``, of the same 3-D scene.

    Raises
    ------
    InputError, UsageError
        When a parameter is impossible; the message names it.
    """
    return simulate_rows((brand,), seed, size=size, has_crosslink=has_crosslink, site=site, metal=metal)[0]


def simulate_rows(
    brands: Sequence[str], seed: int, *, size: int | None, has_crosslink: bool | None, site: str, metal: Metal
) -> list[dict[View, SimulatedFilm]]:
    """Make the films of one patient once for each of `brands`: a design, ``"none"``, or both of the same scene.

    The films of such a pair differ in the construct alone: position, exposure, noise and everything else are the same.
    """
    hospital = find_site(site)
    check_size(size)
    known = {**DESIGNS, **UNSEEN}
    for brand in brands:
        if brand not in (*known, RANDOM, NO_CONSTRUCT):
            raise InputError(f"unknown brand {brand!r}", f"Use one of {', '.join([*known, RANDOM, NO_CONSTRUCT])}.")
    streams = np.random.SeedSequence(seed).spawn(3)
    patient = _make_patient(brands[0], has_crosslink, hospital, metal, streams[0])
    rows: list[dict[View, SimulatedFilm]] = [{} for _ in brands]
    for view, stream in zip(PEDICLE_SCREWS.views, streams[1:], strict=True):
        for row, film in zip(rows, _take_films(view, patient, brands, hospital, size, stream), strict=True):
            row[view] = film
    return rows


def _make_patient(brand: str, has_crosslink: bool | None, site: Site, metal: Metal, stream: np.random.SeedSequence) -> _Patient:
    body, levels, implant, other = (np.random.default_rng(child) for child in stream.spawn(4))
    region: Region = _draw(body, site.regions)
    anatomy = make_anatomy(body, region, str(body.choice(site.styles)))
    vertebrae = [anatomy.vertebrae[name] for name in _choose_levels(region, site, levels)]
    construct = [] if brand == NO_CONSTRUCT else _make_construct(brand, region, vertebrae, has_crosslink, site, implant)
    kinds = [] if metal == "none" else _choose_metal(region, site, metal, other)
    operated = [vertebra.name for vertebra in vertebrae] if other.random() < 0.7 else None  # cages are most often between the screws
    if metal == "some" and site.spinal and not construct and other.random() < _SPINAL_SHARE:
        spinal = str(other.choice([kind for kind in site.spinal if kind in list_kinds(region)]))
        hardware = {spinal: make_hardware(other, anatomy, [spinal])}
        vertebrae = find_spanned(anatomy, hardware[spinal])  # framed as a construct there would be
        kinds = [kind for kind in kinds if kind not in SPINAL]
    else:
        hardware = {}
    hardware |= {kind: make_hardware(other, anatomy, [kind], levels=operated) for kind in kinds}
    foreign = [part for kind, parts in hardware.items() for part in parts if kind != "contrast"]
    return _Patient(anatomy, vertebrae, construct, [part for parts in hardware.values() for part in parts], foreign)


def _choose_metal(region: Region, site: Site, metal: Metal, rng: np.random.Generator) -> list[str]:
    possible = [kind for kind in site.metal if kind in list_kinds(region)]
    kinds = [kind for kind in possible if rng.random() < site.metal[kind]]
    return kinds or ([str(rng.choice(possible))] if metal == "some" else [])


def _draw(rng: np.random.Generator, shares: dict[Region, float]) -> Region:
    return list(shares)[int(rng.choice(len(shares), p=np.array(list(shares.values())) / sum(shares.values())))]


def _choose_levels(region: Region, site: Site, rng: np.random.Generator) -> tuple[str, ...]:
    """Return neighbouring vertebrae of the region, from the top down."""
    first, last = (LEVELS.index(name) for name in _FIELDS[region])
    wanted = int(rng.choice(list(site.levels), p=list(site.levels.values())))
    count = min(wanted, last - first + 1)
    room = last - first + 1 - count
    if region == "lumbar":
        above = min(int(rng.choice(len(_LOWEST), p=_LOWEST)), room)
    elif region == "cervical" and rng.random() < _UPPER_NECK:
        above = room
    else:
        above = int(rng.integers(0, room + 1))
    end = last - above
    return LEVELS[end - count + 1 : end + 1]


def _make_construct(
    brand: str, region: Region, vertebrae: list[Vertebra], has_crosslink: bool | None, site: Site, rng: np.random.Generator
) -> list[Part]:
    design = draw_design(rng, small=region == "cervical") if brand == RANDOM else {**DESIGNS, **UNSEEN}[brand]
    odd = rng.random() < site.irregular
    pattern = str(rng.choice(_PATTERNS[1:])) if odd and not has_crosslink else "bilateral"
    possible = design.crosslink is not None and pattern == "bilateral" and len(vertebrae) > 1
    wanted = rng.random() < 0.4 if has_crosslink is None and possible else bool(has_crosslink)
    second = wanted and len(vertebrae) > 4 and rng.random() < 0.4
    return make_construct(design, vertebrae, rng, crosslinks=int(wanted) + int(second), screws=pattern, midline=site.midline)


def _take_films(
    view: View, patient: _Patient, brands: Sequence[str], site: Site, size: int | None, stream: np.random.SeedSequence
) -> list[SimulatedFilm]:
    place, appearance, noise = stream.spawn(3)
    rng = np.random.default_rng(appearance)
    rendered, final = choose_side(rng, site, size)
    camera, field = place_camera(view, patient.anatomy, patient.vertebrae, site, rendered, np.random.default_rng(place))
    look = draw_look(rng, site, camera, find_levels(camera, patient.vertebrae), final)
    beam = site.beams[int(rng.integers(len(site.beams)))]
    # What is no construct is traced once; a twin without the construct costs no second look at the anatomy.
    tissue = cast_shadow([*patient.anatomy.parts, *patient.metal], camera, beam)
    plain, _ = add_metal(tissue, patient.metal, camera)
    films = []
    for brand in brands:
        shadow, mask = (plain, None) if brand == NO_CONSTRUCT else add_metal(plain, patient.construct, camera)
        levels = 0 if brand == NO_CONSTRUCT else len(patient.vertebrae)
        facts = Facts(patient.anatomy.region, field, levels, has_other_metal=_is_seen(patient.foreign, camera, look.framing))
        films.append(make_film(shadow.weigh(), mask, camera, look, facts, np.random.default_rng(noise)))
    return films


def _is_seen(parts: Sequence[Part], camera: Camera, framing: Framing | None) -> bool:
    """Tell whether the file of a film shows anything of some metal."""
    if not parts:
        return False
    x, y, _ = camera.project(np.concatenate([part.mesh.vertices for part in parts]))
    inside = (x >= 0) & (y >= 0) & (x <= camera.width) & (y <= camera.height)
    return bool((inside & (True if framing is None else find_visible(framing, (camera.height, camera.width), x, y))).any())
