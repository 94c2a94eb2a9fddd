"""A film photographed off a screen: the photo, the film's corners in it, and how bad a photo it is."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgekit.errors import UsageError
from edgekit.phantom.photo.glare import make_light, place_nodes
from edgekit.phantom.photo.optics import Lens, Panel, mosaic, project_picture, weaken_grid
from edgekit.phantom.photo.phone import RESPONSE, Handling, compress, expose, process
from edgekit.phantom.photo.viewer import show_film
from edgekit.phantom.photo.viewpoint import take_position
from edgekit.straightening import choose_size, straighten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.photo.glare import Light
    from edgekit.phantom.photo.viewer import Screen
    from edgekit.phantom.photo.viewpoint import Viewpoint

__all__ = ["SEVERITIES", "Conditions", "Severity", "Snapshot", "glimpse", "photograph"]

SENSOR = (2016, 1512)
"""Photosites: a phone of 12 megapixels after binning 2 x 2."""
GLIMPSE = (640, 480)
"""Photosites of a glimpse."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Severity:
    """What photos of one severity are drawn from: ranges, evenly unless said otherwise.

    Attributes
    ----------
    tilt_degrees
        Angle between the camera's axis and the normal of the screen.
    roll_degrees
        Rotation about the camera's axis, either way.
    sigma
        Lens blur and defocus, photosites, evenly in its logarithm. The sharper, the more moire.
    shake
        Movement of the hand during the exposure, photosites; mostly small: by the cube of an even draw.
    glare
        Peak of a reflected window or lamp, relative to the screen's white.
    ambient
        Diffusely reflected light of the room, relative to the screen's white.
    smear
        Dirt on the screen, 0 to 1.
    exposure_ev
        Error of the exposure, stops.
    electrons
        Electrons of a photosite at white, evenly in its logarithm: the fewer, the more noise.
    balance
        Standard deviation of the error of the white balance.
    sharpen
        Amount of the phone's unsharp mask.
    quality
        JPEG quality: of the phone's file, or after sending with a messenger.
    sent
        Share of photos that went through a messenger: reduced to 1600 pixels and compressed again.
    """

    tilt_degrees: Range
    roll_degrees: float
    sigma: Range
    shake: Range
    glare: Range
    ambient: Range
    smear: Range
    exposure_ev: Range
    electrons: Range
    balance: float
    sharpen: Range
    quality: tuple[int, int]
    sent: float


SEVERITIES: dict[str, Severity] = {
    "mild": Severity(  # somebody who takes care: in front of the screen, blinds down, phone held still
        tilt_degrees=(0, 6),
        roll_degrees=1.5,
        sigma=(0.46, 0.75),
        shake=(0, 0.8),
        glare=(0, 0.03),
        ambient=(0.002, 0.01),
        smear=(0, 0.2),
        exposure_ev=(-0.3, 0.2),
        electrons=(3000, 8000),
        balance=0.02,
        sharpen=(0.2, 0.6),
        quality=(86, 95),
        sent=0.3,
    ),
    "moderate": Severity(  # between two patients: what arrives in a messenger on an ordinary day
        tilt_degrees=(4, 16),
        roll_degrees=4,
        sigma=(0.30, 0.80),
        shake=(0, 2.5),
        glare=(0.02, 0.15),
        ambient=(0.003, 0.018),
        smear=(0, 0.6),
        exposure_ev=(-0.7, 0.5),
        electrons=(1200, 4000),
        balance=0.05,
        sharpen=(0.3, 0.9),
        quality=(66, 84),
        sent=0.8,
    ),
    "severe": Severity(  # in a hurry, from the side, with a window behind
        tilt_degrees=(14, 32),
        roll_degrees=10,
        sigma=(0.26, 2.2),
        shake=(0, 9),
        glare=(0.12, 0.6),
        ambient=(0.008, 0.06),
        smear=(0.3, 1),
        exposure_ev=(-1.0, 0.9),
        electrons=(350, 1500),
        balance=0.1,
        sharpen=(0.3, 1.4),
        quality=(42, 70),
        sent=0.95,
    ),
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bad one photo is; lengths in pixels of the photo.

    Attributes
    ----------
    severity
        What it was drawn from: a name in `SEVERITIES`.
    tilt_degrees, roll_degrees
        Angle between the camera's axis and the normal of the screen; rotation about that axis.
    pixel_scale
        Pixels of the photo per device pixel of the screen, in the middle of the film.
    moire
        Contrast (amplitude over mean) that the screen's pixel grid has for the photosites, on average over the film. Their colours
        sample too coarsely to resolve it, so it comes out as waves of about this contrast.
    glare, glare_peak
        Light on the film that is not the film's, relative to the screen's white: mean and largest.
    blur_px
        Standard deviation of lens blur, defocus and shake together, along its wider axis.
    shake_px
        Movement of the hand alone: its length.
    smear
        Dirt on the screen, 0 to 1.
    exposure_ev
        Error of the exposure, stops.
    noise
        Standard deviation of the sensor's noise relative to the signal, at middle grey (18 % of white).
    jpeg_quality
        Of the file.
    """

    severity: str
    tilt_degrees: float
    roll_degrees: float
    pixel_scale: float
    moire: float
    glare: float
    glare_peak: float
    blur_px: float
    shake_px: float
    smear: float
    exposure_ev: float
    noise: float
    jpeg_quality: int


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One photo.

    Attributes
    ----------
    pixels
        uint8 (H, W, 3): the decoded file.
    corners
        float64 (4, 2): the film's top-left, top-right, bottom-right and bottom-left outer corner as x, y in pixels of the photo, whose
        origin is the outer corner of its top-left pixel. All of them lie in the photo.
    conditions
        How bad it is.
    file
        The JPEG file.
    """

    pixels: NDArray[np.uint8]
    corners: NDArray[np.float64]
    conditions: Conditions
    file: bytes

    def straighten(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return a film of `width` x `height` pixels as it is in the photo, gray, as large as it appears there; its aspect is known."""
        grey = np.asarray(Image.fromarray(self.pixels).convert("L"))
        return straighten(grey, self.corners, choose_size(self.corners, width, height))


def find_severity(name: str) -> Severity:
    """Return the severity called `name`.

    Raises
    ------
    UsageError
        There is none.
    """
    if name not in SEVERITIES:
        raise UsageError(f"unknown severity {name!r}", f"Use one of {', '.join(SEVERITIES)}.")
    return SEVERITIES[name]


def photograph(
    film: NDArray[np.uint8],
    rng: np.random.Generator,
    severity: str = "moderate",
    *,
    beside: NDArray[np.uint8] | None = None,
    panel: Panel = Panel(),  # noqa: B008 (frozen)
) -> Snapshot:
    """Show a film on a screen and photograph it.

    Parameters
    ----------
    film
        uint8 (h, w): what a viewer shows, MONOCHROME2 sense.
    rng
        Everything random follows from it.
    severity
        A name in `SEVERITIES`.
    beside
        uint8: another film of the patient that may be on the screen too.
    panel
        The display's panel; `Panel(stripe=1, lit=1)` has no sub-pixel grid.

    Returns
    -------
    Snapshot
        1600 or 2016 pixels on its long side, upright or level as suits the film.

    Raises
    ------
    UsageError
        There is no such severity.
    ValueError
        `film` is no uint8 (h, w).
    """
    ranges = find_severity(severity)
    if film.dtype != np.uint8 or film.ndim != 2 or film.size == 0:
        raise ValueError(f"expected a uint8 film (height, width), got {film.dtype} {film.shape}")
    on_screen, held, lit, taken = rng.spawn(4)
    screen = show_film(film, on_screen, beside)
    shot = _expose(screen, ranges, SENSOR, panel, held, lit, taken)
    file = compress(process(shot.raw, shot.handling), shot.handling)
    pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    scale = pixels.shape[1] / shot.view.width, pixels.shape[0] / shot.view.height
    corners = shot.view.find_corners(screen.film) * scale
    return Snapshot(pixels, corners, _describe(severity, screen, shot, scale[0]), file)


def glimpse(screen: Screen, rng: np.random.Generator, severity: str = "moderate") -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Photograph a screen at few pixels, twice those that a photo is reduced to before a film is looked for in it: fast, and without moire.

    Parameters
    ----------
    screen
        What is shown, best at about 1000 device pixels across.
    rng
        Everything random follows from it.
    severity
        A name in `SEVERITIES`.

    Returns
    -------
    pixels
        uint8 (h, w), 640 pixels on its long side: grey. To be reduced, for its sensor sees one colour at each place.
    corners
        float64 (4, 2): the film's, pixels of it.
    """
    ranges = find_severity(severity)
    shot = _expose(screen, ranges, GLIMPSE, Panel(stripe=1, lit=1), *rng.spawn(3))
    plain = replace(shot.handling, denoise=0.0, sharpen=0.0)  # both act on details that are lost at this size
    return np.asarray(process(shot.raw, plain).convert("L")), shot.view.find_corners(screen.film)


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    """A picture on the sensor, and how it came there."""

    raw: NDArray[np.float32]
    view: Viewpoint
    lens: Lens
    light: Light
    handling: Handling
    grid: NDArray[np.float32]
    smear: float


def _expose(
    screen: Screen,
    ranges: Severity,
    sensor: tuple[int, int],
    panel: Panel,
    held: np.random.Generator,
    lit: np.random.Generator,
    taken: np.random.Generator,
) -> _Shot:
    """Hold a phone before a screen and open the shutter."""
    view = _hold_phone(screen, ranges, sensor, held)
    scale = sensor[0] / SENSOR[0]  # lengths are drawn in photosites of the whole sensor
    drawn = _draw_lens(ranges, held)
    lens = Lens(drawn.sigma * scale, (drawn.shake[0] * scale, drawn.shake[1] * scale))
    glare, ambient, smear = (float(lit.uniform(*span)) for span in (ranges.glare, ranges.ambient, ranges.smear))
    size = (screen.pixels.shape[1], screen.pixels.shape[0])
    light = make_light(view, size, lit, glare=glare, ambient=ambient, smear=smear)
    handling = _draw_handling(ranges, taken)
    handling = replace(handling, electrons=handling.electrons / scale**2)
    grid = weaken_grid(panel, view, lens)
    surround = (0.3 * ambient + 0.002, float(lit.uniform(0.5, 8)) * ambient + 0.002)
    planes = project_picture(screen, panel, view, lens, surround)
    raw = expose(mosaic(planes, grid, light, view, RESPONSE, size), handling, taken)
    return _Shot(raw, view, lens, light, handling, grid, smear)


def _hold_phone(screen: Screen, ranges: Severity, sensor: tuple[int, int], rng: np.random.Generator) -> Viewpoint:
    x0, y0, x1, y1 = screen.film
    upright = (y1 - y0 > x1 - x0) == (rng.random() < 0.85)
    width, height = sensor[::-1] if upright else sensor
    fill = float(rng.uniform(0.66, 0.95))
    room = 0.98 - fill
    return take_position(
        screen.film,
        width,
        height,
        tilt_degrees=float(rng.uniform(*ranges.tilt_degrees)),
        azimuth_degrees=float(rng.uniform(0, 360)),
        roll_degrees=float(rng.uniform(-ranges.roll_degrees, ranges.roll_degrees)),
        fill=fill,
        centre=(0.5 + float(rng.uniform(-room, room)) / 2, 0.5 + float(rng.uniform(-room, room)) / 2),
    )


def _draw_lens(ranges: Severity, rng: np.random.Generator) -> Lens:
    direction = rng.uniform(0, math.pi)
    length = ranges.shake[0] + (ranges.shake[1] - ranges.shake[0]) * rng.random() ** 3
    sigma = math.exp(rng.uniform(*np.log(ranges.sigma)))
    return Lens(sigma, (length * math.cos(direction), length * math.sin(direction)))


def _draw_handling(ranges: Severity, rng: np.random.Generator) -> Handling:
    electrons = math.exp(rng.uniform(*np.log(ranges.electrons)))
    quality = int(rng.integers(ranges.quality[0], ranges.quality[1] + 1))
    sent = bool(rng.random() < ranges.sent)
    red, blue = np.exp(rng.normal(0, ranges.balance, 2)) * (0.99, 1.04)  # displays are bluish, and phones leave some of it
    return Handling(
        exposure_ev=float(rng.uniform(*ranges.exposure_ev)),
        electrons=electrons,
        read_electrons=float(rng.uniform(2, 5)),
        balance=(float(red), float(blue)),
        correction=float(rng.uniform(0.5, 1.0)),
        contrast=float(rng.uniform(0, 0.45)),
        denoise=float(np.clip(rng.uniform(0.2, 0.6) + 100 / electrons, 0, 0.95)),  # the more noise, the more is removed
        sharpen=float(rng.uniform(*ranges.sharpen)),
        qualities=(94, quality) if sent else (quality,),
        sent_width=1600 if sent else None,
    )


def _describe(severity: str, screen: Screen, shot: _Shot, scale: float) -> Conditions:
    """Measure how bad the photo is, over the film."""
    view, lens, handling = shot.view, shot.lens, shot.handling
    places, slopes = view.find_pixels(place_nodes(view))
    x0, y0, x1, y1 = screen.film
    on_film = (places[..., 0] >= x0) & (places[..., 0] <= x1) & (places[..., 1] >= y0) & (places[..., 1] <= y1)
    middle = np.abs(np.linalg.det(slopes[on_film])).mean() ** -0.5
    green = shot.light.added[1][on_film]
    electrons = 0.18 * handling.electrons
    return Conditions(
        severity=severity,
        tilt_degrees=view.tilt_degrees,
        roll_degrees=view.roll_degrees,
        pixel_scale=float(middle * scale),
        moire=float(np.sqrt((shot.grid[:, on_film] ** 2).sum(axis=0)).mean()),
        glare=float(green.mean()),
        glare_peak=float(green.max()),
        blur_px=lens.width * scale,
        shake_px=math.hypot(*lens.shake) * scale,
        smear=shot.smear,
        exposure_ev=handling.exposure_ev,
        noise=math.sqrt(electrons + handling.read_electrons**2) / electrons,
        jpeg_quality=handling.qualities[-1],
    )
