"""One simulated patient: a trunk, perhaps a construct, and the two films of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError, UsageError
from edgekit.phantom.anatomy import LEVELS, Anatomy, Vertebra, make_anatomy
from edgekit.phantom.beam import Beam, expose
from edgekit.phantom.construct import make_construct
from edgekit.phantom.detector import Exposure, detect
from edgekit.phantom.implants import DESIGNS
from edgekit.phantom.mesh import turn
from edgekit.phantom.processing import MAXIMUM, Processing, apply_window, develop
from edgekit.phantom.projector import Camera
from edgekit.studies import NO_CONSTRUCT
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.materials import Part
    from edgekit.types import Box, View


@dataclass(frozen=True, slots=True)
class Site:
    """A hospital: spectrum, geometry, exposure and processing; pairs are the ends of uniform ranges."""

    beam: Beam
    source_image_mm: tuple[float, float]
    film_mm: tuple[float, float]
    quanta_per_mm2: tuple[float, float]
    scatter: tuple[float, float]
    blur_mm: tuple[float, float]
    coarse_gain: tuple[float, float]
    fine_gain: tuple[float, float]
    sharpening: tuple[float, float]
    gamma: tuple[float, float]


SITES: dict[str, Site] = {
    # 94 kVp as it reaches the detector; film_mm is the long side.
    "a": Site(
        beam=Beam((50.0, 65.0, 85.0), (0.38, 0.40, 0.22)),
        source_image_mm=(1100.0, 1500.0),
        film_mm=(290.0, 400.0),
        quanta_per_mm2=(2.0e4, 1.2e5),
        scatter=(0.15, 0.5),
        blur_mm=(0.12, 0.3),
        coarse_gain=(0.15, 0.4),
        fine_gain=(0.9, 1.3),
        sharpening=(0.2, 0.7),
        gamma=(0.85, 1.25),
    ),
    # Another technique: 80 kVp, a shorter distance, fewer quanta, a reader that sharpens more and compresses less.
    "b": Site(
        beam=Beam((45.0, 57.0, 72.0), (0.40, 0.38, 0.22)),
        source_image_mm=(1000.0, 1150.0),
        film_mm=(340.0, 430.0),
        quanta_per_mm2=(1.0e4, 4.0e4),
        scatter=(0.4, 0.9),
        blur_mm=(0.2, 0.45),
        coarse_gain=(0.35, 0.6),
        fine_gain=(0.8, 1.1),
        sharpening=(0.6, 1.4),
        gamma=(0.7, 1.0),
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFilm:
    """One film.

    Attributes
    ----------
    pixels
        uint16 (H, W): stored values, 0-4095, in the sense of `photometric`.
    photometric
        ``MONOCHROME1`` (larger is darker) or ``MONOCHROME2``.
    window
        Window centre and width in stored values (DICOM PS3.3 C.11.2.1.2.1).
    display
        uint8 (H, W), MONOCHROME2 sense, as a viewer shows it through the window.
    box
        The construct, film pixels; None without one.
    camera
        The geometry it was taken with.
    exposure
        The exposure it was taken with.
    """

    pixels: NDArray[np.uint16]
    photometric: str
    window: tuple[float, float]
    display: NDArray[np.uint8]
    box: Box | None
    camera: Camera
    exposure: Exposure


def simulate_patient(brand: str, seed: int, *, size: int, has_crosslink: bool, site: str = "a") -> dict[View, SimulatedFilm]:
    """Make the two films of one patient.

    Parameters
    ----------
    brand
        A name in `edgekit.phantom.implants.DESIGNS`, or ``"none"`` for a spine without construct.
    seed
        Everything random follows from it.
    size
        Long side of the films, pixels (64 to 4000).
    has_crosslink
        Whether the construct has a crosslink.
    site
        A name in `SITES`.

    Returns
    -------
    dict
        A film for each of ``ap`` and ``lateral``, of the same 3-D scene.

    Raises
    ------
    InputError
        When a parameter is impossible; the message names it.
    """
    check_parameters(size, site)
    if brand != NO_CONSTRUCT and brand not in DESIGNS:
        raise InputError(f"unknown brand {brand!r}", f"Use one of {', '.join([*DESIGNS, NO_CONSTRUCT])}.")
    scene_rng, *film_rngs = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    anatomy = make_anatomy(scene_rng)
    levels = _choose_levels(scene_rng)
    vertebrae = [anatomy.vertebrae[name] for name in levels]
    metal = [] if brand == NO_CONSTRUCT else make_construct(DESIGNS[brand], vertebrae, has_crosslink, scene_rng)
    return {view: _take_film(view, anatomy, vertebrae, metal, SITES[site], size, rng) for view, rng in zip(VIEWS, film_rngs, strict=True)}


def check_parameters(size: int, site: str) -> None:
    """Raise `UsageError` when a film of `size` pixels can't be made or `site` is unknown."""
    if not 64 <= size <= 4000:
        raise UsageError(f"size is {size}, expected 64 to 4000 pixels", "Give the long side of the films, for example --size 768.")
    if site not in SITES:
        raise UsageError(f"unknown site {site!r}", f"Use one of: {', '.join(SITES)}.")


def _choose_levels(rng: np.random.Generator) -> tuple[str, ...]:
    """Return 2 to 5 neighbouring vertebrae, most often low lumbar ones."""
    count = int(rng.choice([2, 3, 4, 5], p=[0.3, 0.35, 0.2, 0.15]))
    lowest = min(len(LEVELS) - 1, len(LEVELS) - 1 - int(rng.choice([0, 1, 2, 3, 4], p=[0.35, 0.35, 0.12, 0.1, 0.08])))
    return LEVELS[lowest - count + 1 : lowest + 1]


def _take_film(
    view: View, anatomy: Anatomy, vertebrae: list[Vertebra], metal: list[Part], site: Site, size: int, rng: np.random.Generator
) -> SimulatedFilm:
    camera = _place_camera(view, vertebrae, site, size, rng)
    exposure = Exposure(
        quanta_per_mm2=float(np.exp(rng.uniform(*np.log(site.quanta_per_mm2)))),
        scatter=rng.uniform(*site.scatter),
        blur_mm=rng.uniform(*site.blur_mm),
    )
    processing = Processing(
        coarse_gain=rng.uniform(*site.coarse_gain),
        fine_gain=rng.uniform(*site.fine_gain),
        sharpening=rng.uniform(*site.sharpening),
        window=(rng.uniform(0.5, 4.0), rng.uniform(86.0, 96.0)),
        gamma=rng.uniform(*site.gamma),
    )
    transmission, box = expose([*anatomy.parts, *metal], camera, site.beam)
    grey = develop(detect(transmission, camera.spacing_mm, exposure, rng), camera.spacing_mm, processing)
    photometric = str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    window = (MAXIMUM / 2 * rng.uniform(0.97, 1.03), MAXIMUM * rng.uniform(0.9, 1.0))
    pixels = (MAXIMUM - grey).astype(np.uint16) if photometric == "MONOCHROME1" else grey
    centre, width = round(window[0]), round(window[1])
    return SimulatedFilm(pixels, photometric, (centre, width), apply_window(pixels, photometric, centre, width), box, camera, exposure)


def _place_camera(view: View, vertebrae: list[Vertebra], site: Site, size: int, rng: np.random.Generator) -> Camera:
    """Return a tube position: a little oblique, table and centring varied, and nothing of interest cut off.

    The operated levels are framed, with or without metal: the framing doesn't tell whether there is a construct.
    """
    axes = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) if view == "ap" else np.array([[0, -1.0, 0], [0, 0, -1], [1, 0, 0]])
    axes = axes @ (turn(2, rng.normal(0, 3.0)) @ turn(0, rng.normal(0, 2.5)) @ turn(1, rng.normal(0, 2.0))).T
    source_image = rng.uniform(*site.source_image_mm)
    source_object = source_image - (rng.uniform(110, 190) if view == "ap" else rng.uniform(190, 280))
    magnification = source_image / source_object
    spacing = max(rng.uniform(*site.film_mm), 275 * magnification) / size
    width = max(16, round(size * rng.uniform(0.62, 0.92)))
    aim = np.mean([vertebra.centre for vertebra in vertebrae], axis=0)
    # Film right is the patient's left on an AP film and the belly on a lateral one, where the spine stands a little off centre.
    offset = np.array([rng.normal(0, 10) - (0 if view == "ap" else rng.uniform(-15, 30)), rng.normal(0, 12)])
    centre = np.array([width, size]) / 2 + offset * magnification / spacing
    camera = Camera(axes, aim, source_object, source_image, spacing, width, size, (float(centre[0]), float(centre[1])))
    shift = _keep_inside(camera, vertebrae)
    return replace(camera, principal=(camera.principal[0] + shift[0], camera.principal[1] + shift[1]))


def _keep_inside(camera: Camera, vertebrae: list[Vertebra]) -> tuple[float, float]:
    """Return by how many pixels the film must move so that the levels, and the room that a construct on them needs, are on it."""
    room = np.array([[x, y, z] for x in (-38, 38) for y in (-24, 74) for z in (-38, 38)], dtype=np.float64)
    columns, rows, _ = camera.project(np.concatenate([vertebra.centre + room @ vertebra.axes.T for vertebra in vertebrae]))
    shifts = []
    for places, size in ((columns, camera.width), (rows, camera.height)):
        low, high = max(0.0, -places.min()), min(0.0, size - places.max())
        shifts.append(float(low + high))
    return shifts[0], shifts[1]
