"""What light does on its way from a screen to a phone: backlight, viewing angle, reflections, smears. All of it is soft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from edgekit.phantom.imaging.filtering import blur

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.phantom.photo.viewpoint import Viewpoint

STEP = 8
"""Photosites between the nodes at which soft fields are computed."""

_DAYLIGHT, _LAMP = (0.92, 1.0, 1.12), (1.15, 1.0, 0.74)
"""Red, green and blue of what is reflected, relative to the screen's white."""


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """Soft fields at the nodes of a photo: node (i, j) is at photosite coordinates (j STEP, i STEP).

    Attributes
    ----------
    gain
        float32 (n, m): the screen's light is multiplied by it.
    added
        float32 (3, n, m): light that does not come from the screen's picture, relative to the screen's white.
    """

    gain: NDArray[np.float32]
    added: NDArray[np.float32]


def place_nodes(view: Viewpoint) -> NDArray[np.float64]:
    """Return float64 (n, m, 2): the nodes as x, y in photosites; the last ones lie at or beyond the border."""
    rows, columns = (np.arange(-(-side // STEP) + 1) * float(STEP) for side in (view.height, view.width))
    return np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), axis=-1)


def make_light(view: Viewpoint, screen: tuple[int, int], rng: np.random.Generator, *, glare: float, ambient: float, smear: float) -> Light:
    """Draw the light of a room and of an imperfect screen.

    Parameters
    ----------
    view
        The phone.
    screen
        Width and height in device pixels.
    rng
        Decides on all shapes.
    glare
        Peak of the reflected window or lamp, relative to the screen's white.
    ambient
        Diffusely reflected light of the room, relative to the screen's white.
    smear
        How dirty the screen is, 0 to 1.
    """
    nodes = place_nodes(view)
    places, _ = view.find_pixels(nodes)
    offset = view.eye[:2] - places
    distance2 = (offset**2).sum(axis=-1)
    cosine = view.eye[2] / np.sqrt(view.eye[2] ** 2 + distance2)
    gain = cosine ** rng.uniform(1.5, 3.5) * _draw_backlight(places / screen, rng) * _draw_vignette(nodes, view, rng)
    # Black is no longer black when an LCD is seen from the side, the more so towards one side.
    glow = rng.uniform(0.01, 0.04) * (1 - cosine**2)
    room = ambient * (0.6 + 0.4 * _draw_cloud(gain.shape, rng))
    dirt = smear * _draw_smears(gain.shape, rng)
    mirrored = _draw_reflections(gain.shape, rng) * glare
    # Dirt scatters what falls on it: the room's light, and the lamps' beside their mirror image.
    added = mirrored + room[None] * np.array(_DAYLIGHT)[:, None, None] + glow[None] + dirt[None] * (0.02 + ambient + 0.15 * glare)
    return Light((gain * (1 - 0.25 * dirt)).astype(np.float32), added.astype(np.float32))


def _draw_backlight(places: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the evenness of the backlight: darker towards the edges by up to a quarter (luminance uniformity of office displays)."""
    x, y = (2 * np.clip(places[..., n], 0, 1) - 1 for n in (0, 1))
    result = 1 - rng.uniform(0.05, 0.22) * (x**2 + y**2) / 2
    for _ in range(3):
        a, b, phase = rng.uniform((-3, -3, 0), (3, 3, 2 * np.pi))
        result = result * (1 + 0.02 * np.cos(a * x + b * y + phase))
    return np.asarray(result)


def _draw_vignette(nodes: NDArray[np.float64], view: Viewpoint, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return what is left of the fall-off towards the corners (cosine to the fourth) after the phone's own correction."""
    half = np.array([view.width, view.height]) / 2
    radius2 = (((nodes - half) / half.max()) ** 2).sum(axis=-1)
    return np.asarray(1 - rng.uniform(0.05, 0.25) * radius2)


def _draw_cloud(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return float32 0 to 1: a few soft bright and dark regions."""
    coarse = rng.random((4, 4), dtype=np.float32)
    image = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0, 1)


def _draw_smears(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return float32 0 to 1: streaks of a wiping cloth, and finger prints, whose ridges are too fine for the photo."""
    size = max(shape)
    streaks, prints = Image.new("L", (shape[1], shape[0])), Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(streaks)
    for _ in range(int(rng.integers(1, 5))):
        start, length, turn = rng.random(2) * (shape[1], shape[0]), rng.uniform(0.2, 0.8) * size, rng.uniform(0, 2 * np.pi)
        angles = turn + rng.uniform(-0.5, 0.5) * np.linspace(-1, 1, 16)
        path = start + np.cumsum(np.column_stack([np.cos(angles), np.sin(angles)]) * length / 16, axis=0)
        across = np.array([-np.sin(turn), np.cos(turn)])
        for _ in range(int(rng.integers(3, 9))):  # threads of the cloth, side by side
            points = path + across * rng.normal(0, 0.02 * size)
            draw.line(
                [(float(x), float(y)) for x, y in points],
                fill=int(rng.integers(40, 150)),
                width=max(1, int(rng.uniform(0.003, 0.012) * size)),
            )
    draw = ImageDraw.Draw(prints)
    for _ in range(int(rng.integers(0, 4))):
        hand, r = rng.random(2) * (shape[1], shape[0]), rng.uniform(0.014, 0.024) * size
        for _ in range(int(rng.integers(1, 5))):  # fingers of one hand
            x, y = hand + rng.normal(0, 0.08 * size, 2)
            draw.ellipse((x - r, y - 1.35 * r, x + r, y + 1.35 * r), fill=int(rng.integers(60, 170)))
    soft = np.asarray(streaks, np.float32) + blur(np.asarray(prints, np.float32), max(0.7, 0.006 * size))
    patchy = blur(rng.random(soft.shape, dtype=np.float32), 1.0)
    return np.clip(blur(soft, 0.9) / 255 * (0.4 + 1.2 * patchy), 0, 1)


def _draw_reflections(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return float32 (3, n, m), peak 1: a window or a lamp in the screen's surface, soft on a matt one, and the photographer's outline."""
    size = float(max(shape))
    result = np.zeros((3, *shape), np.float32)
    for number in range(int(rng.integers(1, 4))):
        mask = Image.new("L", (shape[1], shape[0]))
        draw = ImageDraw.Draw(mask)
        window = rng.random() < 0.55
        if window:
            _draw_window(draw, shape, rng)
        else:
            _draw_lamp(draw, shape, rng)
        sharp = float(np.exp(rng.uniform(np.log(0.004), np.log(0.05))))  # from glossy to matt
        soft = blur(np.asarray(mask, dtype=np.float32), max(0.7, sharp * size))
        peak = float(soft.max())
        if peak > 0:
            colour = np.array(_DAYLIGHT if window else _LAMP, dtype=np.float32)[:, None, None]
            result += colour * soft * np.float32((1.0 if number == 0 else rng.uniform(0.1, 0.6)) / peak)
    outline = Image.new("L", (shape[1], shape[0]), 255)
    draw = ImageDraw.Draw(outline)
    x, y, r = shape[1] * rng.uniform(0.3, 0.7), shape[0] * rng.uniform(0.35, 0.6), size * rng.uniform(0.08, 0.13)
    draw.ellipse((x - r, y - 1.3 * r, x + r, y + 1.3 * r), fill=0)
    draw.ellipse((x - 2.6 * r, y + 1.4 * r, x + 2.6 * r, y + 8 * r), fill=0)
    wall = _draw_cloud(shape, rng) * blur(np.asarray(outline, np.float32), 0.02 * size) / np.float32(255)
    result += np.float32(rng.uniform(0.03, 0.12)) * wall * np.array(_DAYLIGHT, dtype=np.float32)[:, None, None]
    return result / np.float32(max(float(result[1].max()), 1e-6))


def _draw_window(draw: ImageDraw.ImageDraw, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Draw the panes of a window or the slats of a blind, in perspective."""
    size = max(shape)
    w, h, skew = size * rng.uniform(0.12, 0.5), size * rng.uniform(0.15, 0.6), rng.uniform(-0.3, 0.3)
    x, y = shape[1] * rng.uniform(-0.05, 1.0) - w / 2, shape[0] * rng.uniform(-0.05, 1.0) - h / 2
    columns, rows, bar = (
        (1, int(rng.integers(8, 16)), 0.3) if rng.random() < 0.3 else (int(rng.integers(1, 4)), int(rng.integers(1, 3)), 0.06)
    )
    for i in range(rows):
        for j in range(columns):
            a, b = (j + bar / 2) / columns, (j + 1 - bar / 2) / columns
            c, d = (i + bar / 2) / rows, (i + 1 - bar / 2) / rows
            draw.polygon(
                [(x + w * s, y + h * t + skew * w * s) for s, t in ((a, c), (b, c), (b, d), (a, d))], fill=int(rng.integers(190, 256))
            )


def _draw_lamp(draw: ImageDraw.ImageDraw, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Draw a round lamp or a row of tubes."""
    size = max(shape)
    x, y = shape[1] * rng.uniform(0, 1), shape[0] * rng.uniform(0, 1)
    if rng.random() < 0.5:
        r = size * rng.uniform(0.015, 0.06)
        draw.ellipse((x - r, y - r * rng.uniform(0.6, 1.0), x + r, y + r), fill=255)
        return
    length, wide, turn = size * rng.uniform(0.15, 0.6), max(2, int(size * rng.uniform(0.01, 0.03))), rng.uniform(-0.5, 0.5)
    for n in range(int(rng.integers(1, 4))):
        top = y + 3 * wide * n
        draw.line((x - length / 2, top - turn * length / 2, x + length / 2, top + turn * length / 2), fill=255, width=wide)
