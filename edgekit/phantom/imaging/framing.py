"""What happens to a picture on its way to a file: shutters, disc, turning, cropping, bars, resampling, JPEG; the box goes with it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from PIL import Image

from edgekit.phantom.geometry.projector import EXTENT_THRESHOLD_MM, find_extent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.types import Box

VISIBLE = 0.6
"""At least this share of a construct's box stays in the picture."""

NARROWEST = 64
"""Pixels of the short side that a file has at least where its long side is asked for: thin strips have more of the long one."""

# Names for PIL.Image.Resampling: all but "nearest" average when they reduce; cubic and Lanczos ring at edges.
RESAMPLINGS = ("bilinear", "bicubic", "lanczos", "box", "nearest")


@dataclass(frozen=True, slots=True)
class Framing:
    """The way of one picture to its file, in this order; whatever has a default is switched off by it.

    Attributes
    ----------
    inverted
        Grey is turned round first: dark metal.
    shutters
        What the collimator covers at the left, top, right and bottom, relative to width and height.
    shutter_degrees
        By how much it is turned about the picture's centre.
    shutter_softness
        Width of the shutter's edge relative to the short side.
    shutter_grey
        Its grey.
    disc
        Diameter of a round field relative to the short side; 0 is none.
    disc_centre
        Its centre, relative to width and height.
    disc_grey
        Grey around it.
    crop
        Left, top, right and bottom of what is kept, relative to width and height.
    degrees
        Rotation of the kept part about its centre.
    expand
        Whether a turned picture gets the room it needs; its corners are lost otherwise.
    fill
        Grey where a turned picture has none.
    mirror, upside_down
        Flips.
    bars
        Bars at the left, top, right and bottom, relative to the long side.
    bar_grey
        Their grey.
    aspect
        Width is stretched by it.
    side
        Long side of the result, pixels, or more where the short side would have fewer than `NARROWEST`; None keeps it.
    detail
        The picture was this much smaller before, on its way.
    resampling
        A name in `RESAMPLINGS`.
    levels
        Number of grey levels; 0 keeps all.
    qualities
        JPEG qualities, one for each time it was saved.
    """

    inverted: bool = False
    shutters: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    shutter_degrees: float = 0.0
    shutter_softness: float = 0.0
    shutter_grey: float = 0.0
    disc: float = 0.0
    disc_centre: tuple[float, float] = (0.5, 0.5)
    disc_grey: float = 0.0
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    degrees: float = 0.0
    expand: bool = False
    fill: float = 0.0
    mirror: bool = False
    upside_down: bool = False
    bars: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    bar_grey: float = 0.0
    aspect: float = 1.0
    side: int | None = None
    detail: float = 1.0
    resampling: str = "bilinear"
    levels: int = 0
    qualities: tuple[int, ...] = ()


class Framed(NamedTuple):
    """A picture as its file shows it.

    Attributes
    ----------
    grey
        float32 (H, W), 0 to 1.
    box
        The visible part of the construct, pixels of `grey`; None without one.
    """

    grey: NDArray[np.float32]
    box: Box | None


def draw_framing(
    rng: np.random.Generator,
    shape: tuple[int, int],
    box: Box | None = None,
    *,
    sides: tuple[float, float] | None = None,
    disc: float = 0.04,
    inverted: float = 0.08,
) -> Framing:
    """Draw the way of one picture.

    Parameters
    ----------
    shape
        Height and width of the picture.
    box
        What must stay visible for the most part. A scene without construct takes the box of its twin, or of the levels it could be on.
    sides
        Least and greatest long side of the result, pixels, log-uniform; None keeps it.
    disc
        Probability of a round field: high for a C-arm.
    inverted
        Probability of dark metal.
    """
    framing = _draw_geometry(rng, disc)
    framing = replace(
        framing,
        inverted=bool(rng.random() < inverted),
        side=None if sides is None else round(float(np.exp(rng.uniform(*np.log(sides))))),
        aspect=float(np.exp(rng.uniform(-0.077, 0.077))) if rng.random() < 0.3 else 1.0,
        detail=float(rng.uniform(0.35, 0.9)) if rng.random() < 0.2 else 1.0,
        resampling=str(rng.choice(RESAMPLINGS, p=[0.35, 0.3, 0.2, 0.1, 0.05])),
        levels=int(rng.integers(16, 65)) if rng.random() < 0.04 else 0,
        qualities=tuple(int(quality) for quality in rng.integers(20, 96, rng.choice([0, 1, 2], p=[0.25, 0.55, 0.2]))),
    )
    target = (0.0, 0.0, float(shape[1]), float(shape[0])) if box is None else box
    least = 0.25 if box is None else VISIBLE
    for strength in (1.0, 0.7, 0.45, 0.2):
        relaxed = _relax(framing, strength)
        if _measure_visible(relaxed, shape, target) >= least + 0.02:
            return relaxed
    return _relax(framing, 0.0)


def _draw_geometry(rng: np.random.Generator, disc: float) -> Framing:
    """Draw shutters, disc, crop, rotation and bars."""
    shutters = rng.uniform(0.0, 0.28, 4) * (rng.random(4) < 0.6) * (rng.random() < 0.3)
    crop = rng.uniform(0.0, 0.3, 4) * (rng.random(4) < 0.6) * (rng.random() < 0.4)
    both = rng.uniform(0.01, 0.2) * np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1]])[rng.integers(3)]
    bars = both if rng.random() < 0.7 else rng.uniform(0.0, 0.12, 4)
    greys = [
        float(rng.choice([0.0, 1.0, rng.uniform()], p=p))
        for p in ((0.8, 0.13, 0.07), (0.8, 0.15, 0.05), (0.6, 0.25, 0.15), (0.6, 0.3, 0.1))
    ]
    turned = rng.random() < 0.35
    return Framing(
        shutters=tuple(shutters.tolist()),
        shutter_degrees=float(rng.normal(0, 3.0)) if rng.random() < 0.5 else 0.0,
        shutter_softness=float(rng.uniform(0.0, 0.03)),
        shutter_grey=greys[0],
        disc=float(rng.uniform(0.85, 1.25)) if rng.random() < disc else 0.0,
        disc_centre=(float(rng.normal(0.5, 0.03)), float(rng.normal(0.5, 0.03))),
        disc_grey=greys[1],
        crop=(float(crop[0]), float(crop[1]), float(1 - crop[2]), float(1 - crop[3])),
        degrees=float(np.clip(rng.normal(0, 6.0), -15, 15)) if turned else 0.0,
        expand=bool(rng.random() < 0.5),
        fill=greys[2],
        mirror=bool(rng.random() < 0.5),
        upside_down=bool(rng.random() < 0.04),
        bars=tuple(bars.tolist()) if rng.random() < 0.2 else (0.0, 0.0, 0.0, 0.0),
        bar_grey=greys[3],
    )


def _relax(framing: Framing, strength: float) -> Framing:
    """Return `framing` with all that covers or cuts the picture weakened to `strength` of itself; 0 hides nothing."""
    x0, y0, x1, y1 = framing.crop
    left, top, right, bottom = framing.shutters
    if strength == 1:
        return framing
    return replace(
        framing,
        shutters=(left * strength, top * strength, right * strength, bottom * strength),
        # A disc of the diagonal covers nothing.
        disc=framing.disc + (1 - strength) * 1.5 if framing.disc and strength else 0.0,
        crop=(x0 * strength, y0 * strength, 1 - (1 - x1) * strength, 1 - (1 - y1) * strength),
        expand=framing.expand or strength < 0.5,
    )


def _measure_visible(framing: Framing, shape: tuple[int, int], box: Box) -> float:
    """Return the share of `box` that stays in the picture, on a grid of points."""
    height, width = shape
    x, y = np.meshgrid(np.linspace(box[0], box[2], 25), np.linspace(box[1], box[3], 25))
    # Points outside the film were never visible.
    return float(find_visible(framing, shape, x, y)[(x >= 0) & (y >= 0) & (x <= width) & (y <= height)].mean())


def find_visible(framing: Framing, shape: tuple[int, int], x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which points of a picture its file still shows; `x` and `y` in pixels of the picture, of any one shape."""
    seen = _cover(x, y, shape, framing) > 0.5
    left, top, right, bottom = _find_crop(framing, shape)
    u, v = x - (left + right) / 2, y - (top + bottom) / 2
    seen &= (abs(u) <= (right - left) / 2) & (abs(v) <= (bottom - top) / 2)
    if framing.degrees and not framing.expand:
        cosine, sine = np.cos(np.radians(framing.degrees)), np.sin(np.radians(framing.degrees))
        seen &= (abs(cosine * u + sine * v) <= (right - left) / 2) & (abs(cosine * v - sine * u) <= (bottom - top) / 2)
    return seen


def _cover(x: NDArray[np.floating], y: NDArray[np.floating], shape: tuple[int, ...], framing: Framing) -> NDArray[np.floating]:
    """Return how far the field is open at points of the picture, 0 to 1."""
    height, width = shape
    result = np.ones(np.broadcast_shapes(x.shape, y.shape), dtype=x.dtype)
    soft = max(framing.shutter_softness * min(shape), 1.0)
    if any(framing.shutters):
        angle = math.radians(framing.shutter_degrees)
        cosine, sine = math.cos(angle), math.sin(angle)
        u, v = x - width / 2, y - height / 2
        u, v = cosine * u + sine * v + width / 2, cosine * v - sine * u + height / 2
        left, top, right, bottom = framing.shutters
        for covered, distance in (
            (left, u - left * width),
            (top, v - top * height),
            (right, (1 - right) * width - u),
            (bottom, (1 - bottom) * height - v),
        ):
            if covered:
                result = result * np.clip(distance / soft + 0.5, 0, 1)
    if framing.disc:
        radius = np.hypot(x - framing.disc_centre[0] * width, y - framing.disc_centre[1] * height)
        result = result * np.clip((framing.disc * min(shape) / 2 - radius) / 1.5 + 0.5, 0, 1)
    return result


def _find_crop(framing: Framing, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is kept, pixels; at least one of them."""
    (x0, y0, x1, y1), (height, width) = framing.crop, shape
    left, top = min(round(x0 * width), width - 1), min(round(y0 * height), height - 1)
    return left, top, max(round(x1 * width), left + 1), max(round(y1 * height), top + 1)


def frame(grey: NDArray[np.float32], thickness: NDArray[np.float32] | None, framing: Framing) -> Framed:
    """Take a picture its way.

    Parameters
    ----------
    grey
        float32 (H, W), 0 to 1.
    thickness
        float32 (H, W): the construct alone, mm along each ray; None without one.
    framing
        What happens.

    Returns
    -------
    Framed
        The picture, and the extent of what is left of the construct: its thickness map has gone the same way.
    """
    image = 1 - grey if framing.inverted else np.array(grey, dtype=np.float32)
    if any(framing.shutters) or framing.disc:
        image, thickness = _close(image, thickness, framing)
    image = _move(image, framing, framing.fill, framing.bar_grey)
    small = _find_size(image.shape, framing, framing.detail)
    final = _find_size(image.shape, framing, 1.0)
    if framing.detail < 1:
        image = _resample(image, small, framing.resampling)
    image = _compress(np.clip(_resample(image, final, framing.resampling), 0, 1), framing)
    if thickness is None:
        return Framed(image, None)
    # All or nothing, so that the threshold lies half-way up an interpolated edge: enlarging doesn't widen the box.
    metal = (thickness > EXTENT_THRESHOLD_MM).astype(np.float32) * np.float32(2 * EXTENT_THRESHOLD_MM)
    return Framed(image, find_extent(_resample(_move(metal, framing, 0.0, 0.0), final, "bilinear"), 1.0))


def _close(
    image: NDArray[np.float32], thickness: NDArray[np.float32] | None, framing: Framing
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return picture and thickness behind shutters and disc; where they are more than half closed, nothing of the construct is seen."""
    height, width = image.shape
    y, x = np.arange(height, dtype=np.float32)[:, None] + 0.5, np.arange(width, dtype=np.float32)[None] + 0.5
    for part, tone in ((replace(framing, disc=0.0), framing.shutter_grey), (replace(framing, shutters=(0.0,) * 4), framing.disc_grey)):
        if not any(part.shutters) and not part.disc:
            continue
        opened = _cover(x, y, image.shape, part).astype(np.float32, copy=False)
        image = np.float32(tone) + (image - np.float32(tone)) * opened
        thickness = None if thickness is None else thickness * (opened > 0.5)
    return image, thickness


def _move(image: NDArray[np.float32], framing: Framing, fill: float, bar: float) -> NDArray[np.float32]:
    """Crop, turn, flip and pad."""
    left, top, right, bottom = _find_crop(framing, image.shape)
    image = image[top:bottom, left:right]
    if framing.degrees:
        cosine, sine = np.cos(np.radians(framing.degrees)), np.sin(np.radians(framing.degrees))
        height, width = image.shape
        if framing.expand:
            height, width = (round(abs(cosine) * a + abs(sine) * b) for a, b in ((height, width), (width, height)))
        image = _turn(np.ascontiguousarray(image), height, width, cosine, sine, np.float32(fill))
    image = image[:: -1 if framing.upside_down else 1, :: -1 if framing.mirror else 1]
    if any(framing.bars):
        x0, y0, x1, y1 = (round(share * max(image.shape)) for share in framing.bars)
        image = np.pad(image, ((y0, y1), (x0, x1)), constant_values=np.float32(bar))
    return image


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _turn(image: NDArray[np.float32], height: int, width: int, cosine: float, sine: float, fill: np.float32) -> NDArray[np.float32]:
    """Return float32 (height, width): `image` turned about its centre, by linear interpolation."""
    rows, columns = image.shape
    result = np.full((height, width), fill, dtype=np.float32)
    for row in range(height):
        v = row + 0.5 - height / 2
        for column in range(width):
            u = column + 0.5 - width / 2
            x, y = cosine * u - sine * v + columns / 2 - 0.5, sine * u + cosine * v + rows / 2 - 0.5
            if x < -0.5 or y < -0.5 or x > columns - 0.5 or y > rows - 0.5:
                continue
            x, y = min(max(x, 0.0), columns - 1.0), min(max(y, 0.0), rows - 1.0)
            i, j = min(int(y), max(rows - 2, 0)), min(int(x), max(columns - 2, 0))
            below, right = min(i + 1, rows - 1), min(j + 1, columns - 1)
            b, a = np.float32(y - i), np.float32(x - j)
            upper = image[i, j] + a * (image[i, right] - image[i, j])
            lower = image[below, j] + a * (image[below, right] - image[below, j])
            result[row, column] = upper + b * (lower - upper)
    return result


def _find_size(shape: tuple[int, ...], framing: Framing, detail: float) -> tuple[int, int]:
    """Return width and height of the result."""
    height, width = shape[0], shape[1] * framing.aspect
    scale = 1.0 if framing.side is None else max(framing.side / max(height, width), NARROWEST / min(height, width))
    scale *= detail
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resample(image: NDArray[np.float32], size: tuple[int, int], resampling: str) -> NDArray[np.float32]:
    """Return `image` with `size` columns and rows; reducing averages, except with "nearest"."""
    if size == (image.shape[1], image.shape[0]):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize(size, Image.Resampling[resampling.upper()]), dtype=np.float32)


def _compress(image: NDArray[np.float32], framing: Framing) -> NDArray[np.float32]:
    """Round to few levels, and save as JPEG and read again."""
    if framing.levels:
        image = np.asarray(np.round(image * (framing.levels - 1)) / (framing.levels - 1), dtype=np.float32)
    if not framing.qualities:
        return image
    pixels = (image * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    for quality in framing.qualities:
        with io.BytesIO() as file:
            Image.fromarray(pixels).save(file, "JPEG", quality=quality)
            pixels = np.asarray(Image.open(file))
    return pixels.astype(np.float32) / np.float32(255)
