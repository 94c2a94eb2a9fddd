"""A phone's camera after the lens: noise, demosaicing, and what its software makes of the picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from PIL import Image

from edgekit.phantom.imaging.filtering import convolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESPONSE = np.array([[0.83, 0.14, 0.03], [0.13, 0.76, 0.11], [0.03, 0.17, 0.80]])
"""Signal of the sensor's red, green and blue (rows) for the screen's red, green and blue: colour filters overlap. Our estimate."""


@dataclass(frozen=True, slots=True)
class Handling:
    """How a phone takes and treats one picture.

    Attributes
    ----------
    exposure_ev
        Exposure against what puts the brightest hundredth of the scene just below white, in stops.
    electrons
        Electrons of a photosite at white: few in the dark.
    read_electrons
        Standard deviation of the read noise.
    balance
        Gains of red and blue left over by the white balance.
    correction
        How much of the colour filters' overlap is undone, 0 to 1.
    contrast
        Strength of the S-curve on top of sRGB's curve, 0 to 1.
    denoise
        How much of the small differences between neighbours is removed, 0 to 1.
    sharpen
        Amount of the unsharp mask.
    qualities
        JPEG qualities: the phone's, and that of a messenger if it was sent with one.
    sent_width
        Long side that a messenger reduces to, pixels; None leaves the size.
    """

    exposure_ev: float = 0.0
    electrons: float = 5000.0
    read_electrons: float = 3.0
    balance: tuple[float, float] = (1.0, 1.0)
    correction: float = 0.7
    contrast: float = 0.2
    denoise: float = 0.4
    sharpen: float = 0.4
    qualities: tuple[int, ...] = (92,)
    sent_width: int | None = None


def expose(light: NDArray[np.float32], handling: Handling, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return float32 (H, W), 0 to 1: the raw picture, with shot and read noise, clipped at white.

    Automatic exposure looks at green photosites; `light` is that of `edgekit.phantom.photo.optics.mosaic`.
    """
    bright = float(np.percentile(light[::8, 1::8], 99))
    gain = np.float32(0.85 * 2**handling.exposure_ev / max(bright, 1e-4))
    electrons = light * (gain * np.float32(handling.electrons))
    # Counts are high enough for a Gaussian in place of Poisson's distribution.
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    noise *= np.sqrt(electrons + np.float32(handling.read_electrons**2))
    electrons += noise
    electrons *= np.float32(1 / handling.electrons)
    return np.clip(electrons, 0, 1, out=electrons)


def process(raw: NDArray[np.float32], handling: Handling) -> Image.Image:
    """Turn a raw picture into one to look at: demosaic, colours, curve, noise removal, sharpening.

    Demosaicing is that of Malvar, He and Cutler, High-quality linear interpolation for demosaicing of Bayer-patterned color images
    (ICASSP 2004). Colour is smoothed and stored at half the resolution, as phones and JPEG do.

    Parameters
    ----------
    raw
        float32 (H, W), 0 to 1; height and width are even. Red at even rows and columns, blue at odd ones.
    handling
        How strongly.

    Returns
    -------
    PIL.Image.Image
        Mode YCbCr.
    """
    undone = np.linalg.inv(RESPONSE)
    colours = (1 - handling.correction) * np.eye(3) + handling.correction * undone
    colours = np.array([handling.balance[0], 1.0, handling.balance[1]])[:, None] * colours
    luma, chroma = _demosaic(np.pad(raw, 2, mode="reflect"), colours.astype(np.float32), _make_curve(handling.contrast))
    grey = _clean(luma, np.float32(handling.denoise), np.float32(handling.sharpen))
    height, width = raw.shape
    smooth = 0.8 + 1.5 * handling.denoise
    tints = [Image.fromarray(np.clip(convolve(plane, smooth) + 128.5, 0, 255).astype(np.uint8)) for plane in chroma]
    return Image.merge("YCbCr", [Image.fromarray(grey), *(tint.resize((width, height), Image.Resampling.BILINEAR) for tint in tints)])


def compress(picture: Image.Image, handling: Handling) -> bytes:
    """Return the JPEG file that arrives: the phone's, or what a messenger made of it. It has no EXIF: the picture is upright."""
    content = b""
    for number, quality in enumerate(handling.qualities):
        if number and handling.sent_width is not None:
            scale = min(1.0, handling.sent_width / max(picture.size))
            picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        content = file.getvalue()
        if number + 1 < len(handling.qualities):
            picture = Image.open(io.BytesIO(content))
            picture.draft("YCbCr", picture.size)
            picture.load()
    return content


_CURVE = 4096


def _make_curve(contrast: float) -> NDArray[np.float32]:
    """Return float32 (4097,): light to grey 0 to 255, by sRGB's curve (IEC 61966-2-1) and an S about the middle."""
    light = np.linspace(0, 1, _CURVE + 1)
    grey = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(255 * ((1 - contrast) * grey + contrast * grey**2 * (3 - 2 * grey)), dtype=np.float32)


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _demosaic(
    raw: NDArray[np.float32], colours: NDArray[np.float32], curve: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return luma (H, W) and the two colour differences (2, H/2, W/2) of a raw picture padded by 2."""
    height, width = raw.shape[0] - 4, raw.shape[1] - 4
    luma = np.empty((height, width), np.float32)
    chroma = np.zeros((2, height // 2, width // 2), np.float32)
    eighth, quarter, top = np.float32(0.125), np.float32(0.25), len(curve) - 1
    for i in range(height):
        for j in range(width):
            y, x = i + 2, j + 2
            c = raw[y, x]
            level, upright = raw[y, x - 1] + raw[y, x + 1], raw[y - 1, x] + raw[y + 1, x]
            far_level, far_upright = raw[y, x - 2] + raw[y, x + 2], raw[y - 2, x] + raw[y + 2, x]
            diagonal = raw[y - 1, x - 1] + raw[y - 1, x + 1] + raw[y + 1, x - 1] + raw[y + 1, x + 1]
            if (i + j) & 1:  # green; red is beside it in even rows, above and below in odd ones
                half = np.float32(0.5)
                beside = eighth * (5 * c + 4 * level - far_level - diagonal + half * far_upright)
                above = eighth * (5 * c + 4 * upright - far_upright - diagonal + half * far_level)
                g = c
                r, b = (above, beside) if i & 1 else (beside, above)
            else:
                g = eighth * (4 * c + 2 * (level + upright) - far_level - far_upright)
                other = eighth * (6 * c + 2 * diagonal - np.float32(1.5) * (far_level + far_upright))
                r, b = (other, c) if i & 1 else (c, other)
            red = colours[0, 0] * r + colours[0, 1] * g + colours[0, 2] * b
            green = colours[1, 0] * r + colours[1, 1] * g + colours[1, 2] * b
            blue = colours[2, 0] * r + colours[2, 1] * g + colours[2, 2] * b
            red = curve[int(min(max(red, 0), 1) * top)]
            green = curve[int(min(max(green, 0), 1) * top)]
            blue = curve[int(min(max(blue, 0), 1) * top)]
            grey = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
            luma[i, j] = grey
            chroma[0, i >> 1, j >> 1] += quarter * np.float32(0.564) * (blue - grey)
            chroma[1, i >> 1, j >> 1] += quarter * np.float32(0.713) * (red - grey)
    return luma, chroma


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _clean(luma: NDArray[np.float32], denoise: np.float32, sharpen: np.float32) -> NDArray[np.uint8]:
    """Average each pixel with those neighbours that differ little (sigma filter), then add its difference to the mean of 5 x 5."""
    height, width = luma.shape
    near = np.float32(4) + 20 * denoise
    sums = np.empty(width, np.float32)
    result = np.empty((height, width), np.uint8)
    for i in range(height):
        for j in range(width):
            sums[j] = 0
        for a in range(-2, 3):
            row = min(max(i + a, 0), height - 1)
            for j in range(width):
                sums[j] += luma[row, j]
        up, down = max(i - 1, 0), min(i + 1, height - 1)
        for j in range(width):
            left, right = max(j - 1, 0), min(j + 1, width - 1)
            c = luma[i, j]
            total, count = c, np.float32(1)
            for n in (
                luma[up, j],
                luma[down, j],
                luma[i, left],
                luma[i, right],
                luma[up, left],
                luma[up, right],
                luma[down, left],
                luma[down, right],
            ):
                inside = np.float32(abs(n - c) < near)
                total += inside * n
                count += inside
            clean = c + denoise * (total / count - c)
            wide = (sums[max(j - 2, 0)] + sums[left] + sums[j] + sums[right] + sums[min(j + 2, width - 1)]) * np.float32(0.04)
            result[i, j] = int(min(max(clean + sharpen * (clean - wide) + np.float32(0.5), 0), 255))
    return result
