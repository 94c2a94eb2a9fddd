"""From the beam behind a patient to the film that a hospital stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.phantom.geometry.projector import find_extent
from edgekit.phantom.imaging.exposure import Exposure, detect, draw_exposure
from edgekit.phantom.imaging.families import Processing, draw_processing
from edgekit.phantom.imaging.framing import Framing, draw_framing, frame
from edgekit.phantom.imaging.processing import apply_window, develop, store
from edgekit.phantom.marks.annotations import annotate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.body.anatomy import Region
    from edgekit.phantom.geometry.projector import Camera
    from edgekit.phantom.sites import Site
    from edgekit.types import Box

_BITS = (10, 12, 14, 16)
_LEAST_RENDERED, _MOST_RENDERED = 360, 800
"""Long side at which a film of any size is simulated where the site resamples: less has no threads, more is lost in compression."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The content of a simulated film, by which reports are broken down.

    Attributes
    ----------
    field
        A name in `edgekit.phantom.fields.FIELDS`; None where the operated levels were aimed at.
    levels
        Vertebrae from the first to the last that the construct is fixed to; 0 without one.
    has_other_metal
        Whether the film shows metal, or cement, that is no construct.
    """

    region: Region
    field: str | None
    levels: int
    has_other_metal: bool


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFilm:
    """One film.

    Attributes
    ----------
    pixels
        uint16 (H, W): stored values of `bits` bits, in the sense of `photometric`.
    bits
        10 to 16.
    photometric
        ``MONOCHROME1`` (larger is darker) or ``MONOCHROME2``.
    window
        Window centre and width in stored values (DICOM PS3.3 C.11.2.1.2.1).
    box
        The construct, film pixels; None without one.
    camera
        The geometry it was taken with; cropping and turning come after it.
    exposure
        The exposure it was taken with.
    family
        Of its processing, a name in `edgekit.phantom.imaging.families.FAMILIES`.
    """

    pixels: NDArray[np.uint16]
    bits: int
    photometric: str
    window: tuple[int, int]
    box: Box | None
    camera: Camera
    exposure: Exposure
    family: str
    facts: Facts

    @property
    def display(self) -> NDArray[np.uint8]:
        """The film as a viewer shows it through the window, MONOCHROME2 sense: uint8 (H, W)."""
        return apply_window(self.pixels, self.photometric, *self.window)


@dataclass(frozen=True, slots=True)
class Look:
    """All that is drawn of a film's appearance.

    Attributes
    ----------
    framing
        Its way to the file; None keeps the picture as it is.
    marked_first
        Whether marks are burned in before framing.
    """

    site: Site
    exposure: Exposure
    processing: Processing
    framing: Framing | None
    marked_first: bool
    bits: int
    photometric: str
    window: tuple[float, float]


def choose_side(rng: np.random.Generator, site: Site, size: int | None) -> tuple[int, int]:
    """Return the long side of the picture to simulate and of the file, pixels."""
    final = size or round(float(np.exp(rng.uniform(*np.log(site.sides)))))
    return (int(np.clip(final, _LEAST_RENDERED, _MOST_RENDERED)) if site.framed else final), final


def draw_look(rng: np.random.Generator, site: Site, camera: Camera, levels: Box, side: int) -> Look:
    """Draw how a film looks.

    Parameters
    ----------
    levels
        Where the operated levels are on the picture: framing leaves most of it, with or without a construct.
    side
        Long side of the file, pixels.
    """
    processing = draw_processing(rng, site.families)
    intensifier = processing.family == "fluoro"
    framing = None
    if site.framed:
        shape = (camera.height, camera.width)
        framing = draw_framing(
            rng, shape, levels, sides=(side, side), disc=0.6 if intensifier else 0.02, inverted=0 if intensifier else 0.06
        )
    return Look(
        site=site,
        exposure=draw_exposure(rng, site.quanta_per_mm2, site.scatter, site.blur_mm),
        processing=processing,
        framing=framing,
        marked_first=bool(rng.random() < 0.5),
        bits=int(rng.choice(_BITS)),
        photometric=str(rng.choice(["MONOCHROME1", "MONOCHROME2"])),
        window=(rng.uniform(0.485, 0.515), rng.uniform(0.9, 1.0)),
    )


def make_film(
    transmission: NDArray[np.float32],
    construct: NDArray[np.float32] | None,
    camera: Camera,
    look: Look,
    facts: Facts,
    rng: np.random.Generator,
) -> SimulatedFilm:
    """Expose, develop, frame, annotate and store a film.

    Parameters
    ----------
    transmission
        float32 (H, W): what reaches the detector, relative to the open beam.
    construct
        float32 (H, W), mm: thickness of the construct alone; None without one.
    """
    grey = develop(detect(transmission, camera.spacing_mm, look.exposure, rng), camera.spacing_mm, look.processing)
    if look.marked_first:  # lead letters and the hospital's own marks go with the picture, a viewer's do not
        grey = annotate(grey, rng, look.site.annotations)
    if look.framing is None:
        box = None if construct is None else find_extent(construct, 1.0)
    else:
        grey, box = frame(grey, construct, look.framing)
    if not look.marked_first:
        grey = annotate(grey, rng, look.site.annotations)
    top = (1 << look.bits) - 1
    pixels = store(grey, look.bits, look.photometric)
    window = (round(top * look.window[0]), round(top * look.window[1]))
    return SimulatedFilm(pixels, look.bits, look.photometric, window, box, camera, look.exposure, look.processing.family, facts)
