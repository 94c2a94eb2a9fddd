"""A picture that marks are drawn on: each as a mask on its own patch, so that cost follows the mark's size and not the picture's."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Page:
    """A picture that is drawn on."""

    def __init__(
        self, pixels: NDArray[np.float32], rng: np.random.Generator, size: tuple[float, float], centre: tuple[float, float]
    ) -> None:
        self.pixels, self.rng, self.size, self.centre = pixels, rng, size, centre
        self.height, self.width = pixels.shape
        self.short = int(min(pixels.shape))
        self.fine = 2 if rng.random() < 0.6 else 1  # smooth lines, as a viewer draws them, or steps

    def draw_letters(self) -> int:
        """Return a letter height in pixels, never illegible."""
        return max(8, round(self.short * float(np.exp(self.rng.uniform(*np.log(self.size))))))

    def draw_stroke(self) -> int:
        """Return a line width in pixels."""
        return max(1, round(self.short * self.rng.uniform(0.001, 0.006)))

    def draw_grey(self) -> float:
        """Return a brightness: mostly white, or the grey of a colour, or black."""
        kind = self.rng.random()
        return float(
            self.rng.uniform(0.9, 1.0) if kind < 0.6 else self.rng.uniform(0.25, 0.9) if kind < 0.85 else self.rng.uniform(0.0, 0.15)
        )

    def find_spot(self, w: float, h: float, *, edge: bool) -> tuple[float, float]:
        """Return the top-left corner for something of w x h pixels, anywhere or near an edge; it may stick out a little."""
        x, y = self.rng.uniform(-0.03, 1.0, 2)
        if edge:
            near = self.rng.uniform(0, 0.12) if self.rng.random() < 0.5 else self.rng.uniform(0.88, 1.0)
            x, y = (near, y) if self.rng.random() < 0.6 else (x, near)
        return float(x * (self.width - w)), float(y * (self.height - h))

    def near_centre(self, spread: float) -> NDArray[np.float64]:
        """Return float64 (2,): a point about the centre, pixels."""
        return np.asarray(self.centre) + self.rng.normal(0, spread, 2) * [self.width, self.height]

    def blend(self, mask: Image.Image, x: float, y: float, value: float, opacity: float = 1.0) -> None:
        """Mix `value` in where `mask` (mode L) is bright, its top-left corner at (x, y)."""
        x0, y0 = round(x), round(y)
        left, top = max(x0, 0), max(y0, 0)
        right, bottom = min(x0 + mask.width, self.width), min(y0 + mask.height, self.height)
        if right <= left or bottom <= top:
            return
        share = np.asarray(mask.crop((left - x0, top - y0, right - x0, bottom - y0)), dtype=np.float32) * np.float32(opacity / 255)
        patch = self.pixels[top:bottom, left:right]
        patch += share * (np.float32(value) - patch)

    def fill(self, x: float, y: float, w: float, h: float, value: float, opacity: float = 1.0) -> None:
        """Mix `value` into a rectangle."""
        patch = self.pixels[max(0, round(y)) : max(0, round(y + max(h, 1))), max(0, round(x)) : max(0, round(x + max(w, 1)))]
        patch += np.float32(opacity) * (np.float32(value) - patch)

    def stroke(self, points: NDArray[np.float64], value: float, width: int, opacity: float = 1.0) -> None:
        """Draw one polyline (n, 2); long ones in pieces, so that the patches stay small."""
        length = float(np.abs(np.diff(points, axis=0)).sum())
        pieces = max(1, int(length / 300))
        if len(points) == 2 and pieces > 1:
            points = points[0] + (points[1] - points[0]) * np.linspace(0, 1, pieces + 1)[:, None]
        low = np.minimum(points[:-1], points[1:]) if len(points) <= 24 and pieces > 1 else points.min(axis=0)[None]
        segments = [points[n : n + 2] for n in range(len(low))] if len(low) > 1 else [points]
        for segment in segments:
            corner = np.floor(segment.min(axis=0)) - width - 1
            size = np.ceil(segment.max(axis=0)) + width + 2 - corner
            inner = np.clip(corner, 0, None)
            if (inner >= [self.width, self.height]).any() or (corner + size <= 0).any():
                continue
            fine = self.fine if size.max() < 600 else 1
            mask = Image.new("L", (int(size[0]) * fine, int(size[1]) * fine))
            places = [(float(a), float(b)) for a, b in (segment - corner) * fine]
            ImageDraw.Draw(mask).line(places, fill=255, width=width * fine, joint="curve")
            self.blend(mask.reduce(fine), corner[0], corner[1], value, opacity)

    def write(self, text: str, x: float, y: float, letters: int, value: float, **style: bool) -> tuple[int, int]:
        """Write a line; return its width and height in pixels."""
        mask = set_text(text, letters)
        if style.get("mirrored"):
            mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if style.get("bold") and letters >= 22:
            from PIL import ImageFilter

            mask = mask.filter(ImageFilter.MaxFilter(3 if letters < 60 else 5))
        if style.get("turned"):
            mask = mask.rotate(
                float(self.rng.choice([90.0, -90.0, self.rng.uniform(-25, 25)])), expand=True, resample=Image.Resampling.BILINEAR
            )
        if style.get("shadow"):
            self.blend(mask, x + max(1, letters // 14), y + max(1, letters // 14), 0.0 if value > 0.5 else 1.0)
        self.blend(mask, x, y, value)
        return mask.width, mask.height


@lru_cache(maxsize=64)
def _find_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def set_text(text: str, letters: int) -> Image.Image:
    """Return the mask of a line of text, cut close, with two pixels about it."""
    font = _find_font(letters)
    left, top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), text, fill=255, font=font)
    return mask
